"""An event loop whose time passes only where everything waits."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_BEGIN_S = 1000.0


class _JumpingSelector(selectors.SelectSelector):
    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0:
            if timeout is None:
                raise RuntimeError("everything waits and nothing will happen")
            self.loop.now_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sleeping costs no time."""

    def __init__(self) -> None:
        self.now_s = _BEGIN_S
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s


class LoopClock:
    """The running loop's time; before it runs, the time at which it will begin."""

    def now_ns(self) -> int:
        try:
            return round(asyncio.get_running_loop().time() * 1e9)
        except RuntimeError:
            return round(_BEGIN_S * 1e9)


def run_virtual(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end; fail if it leaves a task behind."""
    loop = VirtualLoop()
    try:
        result = loop.run_until_complete(work)
        left = asyncio.all_tasks(loop)
        assert not left, left
        loop.run_until_complete(loop.shutdown_asyncgens())
        return result
    finally:
        loop.close()
