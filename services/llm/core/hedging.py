"""Asking a second provider for a first text that is late.

A ── late ──> B is asked too ──> whoever has the first text goes on, the other is closed at once
"""

import asyncio
from collections.abc import Callable

from services.llm.core.attempt import Attempt
from services.llm.core.model import AttemptError


async def open_first(attempt: Attempt, late_s: float, second: Callable[[], Attempt | None]) -> Attempt:
    """Open `attempt`; where it has no text after `late_s`, also what `second` gives, if anything.

    Returns the attempt that is open, or where all failed the one that was asked last, with its `failure`.
    All others are closed; all are where this is cancelled.
    """
    asked = [attempt]
    opening = {asyncio.create_task(attempt.open()): attempt}
    try:
        done, _ = await asyncio.wait(opening, timeout=late_s)
        if not done and (other := second()) is not None:
            asked.append(other)
            opening[asyncio.create_task(other.open())] = other
        return await _fastest(opening) or asked[-1]
    finally:
        for task in opening:
            task.cancel()
        if opening:
            await asyncio.wait(opening)
        for loser in opening.values():
            await loser.close()


async def _fastest(opening: dict[asyncio.Task[None], Attempt]) -> Attempt | None:
    """Wait for the first that opens; take it out of `opening`, as all that failed. None: all failed."""
    while opening:
        done, _ = await asyncio.wait(opening, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            attempt = opening.pop(task)
            failure = task.exception()
            if failure is None:
                return attempt
            await attempt.close()
            if not isinstance(failure, AttemptError):
                raise failure
    return None
