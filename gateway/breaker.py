"""A circuit breaker for something that a turn can do without."""

from typing import Final

from voicemesh.runtime.breaker import BreakerState
from voicemesh.runtime.clock import Clock

_LONGEST: Final = 30


class Breaker:
    """Holds off calls for a while after one failed.

    closed ── failure ──> open for d ── d is over ──> half open: one call is let through
      ^                     ^                              │
      └──── success ────────┼──────────────────────────────┤
                            └── failure: d doubles, up to 30 times the first ──┘
    """

    def __init__(self, clock: Clock, first_s: float) -> None:
        self._clock = clock
        self._first_ns = round(first_s * 1e9)
        self._hold_ns = 0
        self._open_until_ns = 0
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """Where it is now: half open from the end of its hold until it is known what came of the probe."""
        if not self._hold_ns:
            return BreakerState.CLOSED
        holds = self._clock.now_ns() < self._open_until_ns
        return BreakerState.OPEN if holds and not self._probing else BreakerState.HALF_OPEN

    def allows(self) -> bool:
        """Say whether a call may be made; in the half-open state, True for one call."""
        if not self._hold_ns:
            return True
        now_ns = self._clock.now_ns()
        if now_ns < self._open_until_ns:
            return False
        # The others wait for the outcome of this one; if it has none, for another hold.
        self._probing = True
        self._open_until_ns = now_ns + self._hold_ns
        return True

    def failed(self) -> None:
        """Note that a call failed or took too long; calls that fail together open the breaker once."""
        if self._hold_ns and not self._probing:
            return
        self._probing = False
        self._hold_ns = min(self._hold_ns * 2 or self._first_ns, _LONGEST * self._first_ns)
        self._open_until_ns = self._clock.now_ns() + self._hold_ns

    def succeeded(self) -> None:
        """Note that a call worked: the breaker closes."""
        self._hold_ns = 0
        self._probing = False
