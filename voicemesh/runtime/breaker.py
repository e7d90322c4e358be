"""A circuit breaker for one thing that is used often, as an engine is: nobody waits for what is broken.

    CLOSED ── many failures within the window, and half of all ends ──> OPEN for d
      ^                                                                  │ d is over
      │                                                                  v
      └────────────────────── the probe went well ───────────────── HALF_OPEN: one user is let through
                                                                         │
                              OPEN for 2 d, at most 8 times the first <──┘ the probe failed

Failures are those of the thing alone: what callers do (cancels, requests that cannot be met) says nothing.
Failures must also be half of what ended within the window: what answers thousands and fails some is not
broken.
"""

import enum
from collections import deque
from dataclasses import dataclass
from typing import Final

from voicemesh.runtime.clock import Clock

_SLICES: Final = 10
"""The window moves on in tenths: outcomes are counted, not kept."""
_LONGEST: Final = 8


class BreakerState(enum.Enum):
    """See the module."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(frozen=True, slots=True)
class BreakerSpec:
    """When something is left alone, and for how long."""

    failures: int = 5
    """So many failures within the window open it."""
    window_s: float = 30.0
    open_s: float = 5.0
    """How long it is left alone at first."""


class Breaker:
    """See the module.

    Args:
        spec: When it opens.
        clock: For window and hold.

    """

    def __init__(self, spec: BreakerSpec, clock: Clock) -> None:
        self.opened = 0
        """How often it opened."""
        self._clock = clock
        self.adopt(spec)
        self._state = BreakerState.CLOSED
        self._open_until_ns = 0
        self._probing = False

    def adopt(self, spec: BreakerSpec) -> None:
        """Open and close by another declaration from now on; what was counted for the last one is gone."""
        self._spec = spec
        self._hold_s = spec.open_s
        self._slice_ns = max(1, round(spec.window_s * 1e9) // _SLICES)
        # (slice of time, failures, successes), oldest first
        self._counts: deque[tuple[int, int, int]] = deque()

    @property
    def state(self) -> BreakerState:
        """Where it is now: an open one is half open once its time is over."""
        if self._state is BreakerState.OPEN and self._clock.now_ns() >= self._open_until_ns:
            self._state = BreakerState.HALF_OPEN
            self._probing = False
        return self._state

    @property
    def allows(self) -> bool:
        """Whether it may be used now."""
        state = self.state
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and not self._probing)

    @property
    def retry_after_ms(self) -> int:
        """Milliseconds until it is tried again; 0 where nobody knows better."""
        if self.state is not BreakerState.OPEN:
            return 0
        return max(1, (self._open_until_ns - self._clock.now_ns()) // 1_000_000)

    def admit(self) -> bool:
        """Note that it is used; return whether that is the probe."""
        if self.state is not BreakerState.HALF_OPEN:
            return False
        self._probing = True
        return True

    def release(self) -> None:
        """Note that the probe ended and says nothing: the next use is the probe."""
        self._probing = False

    def succeeded(self) -> None:
        """Note a use that went well."""
        state = self.state
        if state is BreakerState.HALF_OPEN:
            self._state = BreakerState.CLOSED
            self._hold_s = self._spec.open_s
            self._counts.clear()
        if state is not BreakerState.OPEN:  # what began before it opened does not close it
            self._count(0, 1)

    def failed(self) -> bool:
        """Note a failure; return whether the breaker opened by it."""
        state = self.state
        if state is BreakerState.OPEN:
            return False
        if state is BreakerState.HALF_OPEN:
            self._hold_s = min(self._hold_s * 2, self._spec.open_s * _LONGEST)
            self._open()
            return True
        self._count(1, 0)
        failures = sum(failed for _, failed, _ in self._counts)
        successes = sum(succeeded for _, _, succeeded in self._counts)
        if failures >= self._spec.failures and failures >= successes:
            self._open()
            return True
        return False

    def _open(self) -> None:
        self.opened += 1
        self._state = BreakerState.OPEN
        self._open_until_ns = self._clock.now_ns() + round(self._hold_s * 1e9)
        self._counts.clear()

    def _count(self, failed: int, succeeded: int) -> None:
        now = self._clock.now_ns() // self._slice_ns
        while self._counts and self._counts[0][0] <= now - _SLICES:
            self._counts.popleft()
        if self._counts and self._counts[-1][0] == now:
            _, failures, successes = self._counts.pop()
            failed, succeeded = failed + failures, succeeded + successes
        self._counts.append((now, failed, succeeded))
