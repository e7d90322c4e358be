"""A timeout that does not hold it against another that this process itself was late."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_PASSES: Final = 8
"""Passes of the event loop in which what has arrived already is read, and makes its way to who waits."""


@asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` in the block after `seconds`, and after all that had arrived by then was read.

    Where many ask at once the event loop comes round late: the answer lies there unread, and a plain
    timeout, which is due by then, would take its sender for dead. While the loop is idle the passes
    take microseconds.
    """
    loop = asyncio.get_running_loop()
    handle: asyncio.Handle

    def late(passes: int) -> None:
        nonlocal handle
        if passes:
            handle = loop.call_soon(late, passes - 1)
        else:
            scope.reschedule(loop.time())

    async with asyncio.timeout(None) as scope:
        handle = loop.call_later(seconds, late, _PASSES)
        try:
            yield
        finally:
            handle.cancel()
