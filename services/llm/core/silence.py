"""Ends a wait that takes too long: as `asyncio.timeout_at` does, with one timer for many waits.

A reply is a wait for each of its tokens, and nearly none of them is ever too long: to begin and to call off a
timer for each took more of the processor than all else that was done with a token here.

    wait until 5.0 ── over ── wait until 5.1 ── over ── wait until 5.2 …
    timer at 5.0 ───────────────────────────────────────── rings, moves on to 5.2 …
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


class Silence:
    """Watches the waits of one reader, one at a time. Call `close` behind the last."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._due_s = 0.0
        self.rang = False
        """Whether the last wait was too long."""

    async def wait(self, awaited: Awaitable[_T], due_s: float) -> _T:
        """Return what `awaited` gives, by the loop's time `due_s`.

        Raises:
            TimeoutError: It was not there by then; it is cancelled.

        """
        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        self._task, self._due_s, self.rang = task, due_s, False
        if self._timer is None or self._timer.when() > due_s:
            self._set()
        try:
            return await awaited
        except asyncio.CancelledError:
            # Whoever else cancelled the task goes first.
            if self.rang and task.cancelling() - 1 <= cancelling:
                raise TimeoutError from None
            raise
        finally:
            self._task = None
            if self.rang:
                task.uncancel()

    def close(self) -> None:
        """Call the timer off."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        self.close()
        self._timer = self._loop.call_at(self._due_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._task is None:
            return  # the next wait sets it
        if self._loop.time() < self._due_s:
            self._set()
        elif not self.rang:
            self.rang = True
            self._task.cancel()
