"""Time as a dependency, so that logic can be tested with a virtual clock."""

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock."""

    def now_ns(self) -> int:
        """Return nanoseconds since an arbitrary fixed point; never goes back."""
        ...


class SystemClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        """Return `time.monotonic_ns()`."""
        return time.monotonic_ns()


class ManualClock:
    """A clock that moves only when told to; for tests."""

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        """Return the time that was set."""
        return self._now_ns

    def advance_ms(self, milliseconds: float) -> None:
        """Move forward by `milliseconds` (not below zero)."""
        if milliseconds < 0:
            raise ValueError(f"a clock cannot go back: {milliseconds} ms")
        self._now_ns += round(milliseconds * 1e6)
