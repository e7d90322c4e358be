"""A circuit breaker for something that a turn can do without."""

from typing import Final

from voicemesh.runtime.breaker import BreakerState
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)
_LONGEST: Final = 30


class Breaker:
    """Holds off calls for a while after one failed.

    closed ── failure ──> open for d ── d is over ──> half open: one call is let through
      ^                     ^                              │
      └──── success ────────┼──────────────────────────────┤
                            └── failure: d doubles, up to 30 times the first ──┘

    One line is logged when it opens and one when it closes: what happens in between says nothing new.

    Args:
        clock: For holds.
        first_s: How long the first hold is.
        target: What it holds off, for people.
        settings: What to change where it opens and should not.

    """

    def __init__(self, clock: Clock, first_s: float, target: str = "", settings: str = "") -> None:
        self._clock = clock
        self._target = target
        self._settings = settings
        self._opened_ns = 0
        self.why = ""
        """What opened it last."""
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

    def failed(self, why: str = "") -> None:
        """Note that a call failed or took too long; calls that fail together open the breaker once.

        `why` is for people, in the log.
        """
        if self._hold_ns and not self._probing:
            return
        self.why = why
        if not self._hold_ns:
            self._opened_ns = self._clock.now_ns()
            _log.warning(
                "left alone, turns go on without it",
                target=self._target,
                why=why,
                hold_s=self._first_ns / 1e9,
                settings=self._settings,
            )
        self._probing = False
        self._hold_ns = min(self._hold_ns * 2 or self._first_ns, _LONGEST * self._first_ns)
        self._open_until_ns = self._clock.now_ns() + self._hold_ns

    def succeeded(self) -> None:
        """Note that a call worked: the breaker closes."""
        if self._hold_ns:
            after_s = (self._clock.now_ns() - self._opened_ns) / 1e9
            _log.info("asked again", target=self._target, after_s=round(after_s, 3))
        self._hold_ns = 0
        self._probing = False
