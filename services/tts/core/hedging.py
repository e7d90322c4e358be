"""Asking a second engine for a first chunk that is late, without much more work.

A first chunk has nothing in front of it: its caller hears silence until its first frame. One that is
later than nearly all others of its voice is asked a second time elsewhere; whoever has the first
frame goes on, the other is cancelled. What the loser cost is work that nobody hears, so it is paid
from a budget: a small part of all engine time, saved up to a limit.
"""

import heapq
import itertools
from collections.abc import Callable
from typing import Final, Protocol

from voicemesh.runtime.clock import Clock
from voicemesh.runtime.lateness import Lateness

_MOST_SAVED_US: Final = 10_000_000
"""Engine time that can be saved up: a quiet day does not pay for a busy hour."""


class HedgeBudget:
    """A token bucket of engine time: work fills it, losers of hedges empty it.

    A hedge begins only where what it may cost is there, next to what those that run may cost. One
    that costs more leaves a debt, which is paid before the next begins.

    Args:
        percent: How much of all engine time may be spent; 0 for nothing.

    """

    def __init__(self, percent: float) -> None:
        self._part = percent / 100
        self._saved_us = 0.0
        self._reserved_us = 0

    def earn(self, engine_us: int) -> None:
        """Take engine time that was worked, hedges and all."""
        self._saved_us = min(self._saved_us + self._part * engine_us, _MOST_SAVED_US)

    def reserve(self, cost_us: int) -> bool:
        """Set aside what a hedge may cost; return False where it is not there."""
        if self._saved_us - self._reserved_us < cost_us or not self._part:
            return False
        self._reserved_us += cost_us
        return True

    def spend(self, reserved_us: int, cost_us: int) -> None:
        """Take what a hedge has cost instead of what was set aside for it."""
        self._reserved_us -= reserved_us
        self._saved_us -= cost_us


class Late(Protocol):
    """Who waits for a first frame."""

    def late(self) -> None:
        """It is late now; it may have come meanwhile."""
        ...


class Hedges:
    """Which first chunks are late, and what may be done about it.

    Args:
        clock: For lateness.
        percent: See `HedgeBudget`.
        arm: Told when `poll` is to be called, in nanoseconds of the clock; again when that changes.

    """

    def __init__(self, clock: Clock, percent: float, arm: Callable[[int], None]) -> None:
        self.budget = HedgeBudget(percent)
        self._clock = clock
        self._on = percent > 0
        self._arm = arm
        self._first_frames: dict[str, Lateness] = {}
        self._due: list[tuple[int, int, Late]] = []
        self._numbers = itertools.count()

    def first_frames(self, voice: str) -> Lateness:
        """Return how long a declared voice takes from the lease to the first frame."""
        return self._first_frames.setdefault(voice, Lateness())

    def watch(self, voice: str, leased_ns: int, waiting: Late) -> None:
        """Call `waiting.late` once the voice's first frame is later than usual."""
        late_us = self.first_frames(voice).late_us
        if not self._on or not late_us:
            return
        due_ns = leased_ns + late_us * 1000
        heapq.heappush(self._due, (due_ns, next(self._numbers), waiting))
        if self._due[0][0] == due_ns:
            self._arm(due_ns)

    def poll(self) -> None:
        """Tell those that are late by now."""
        now_ns = self._clock.now_ns()
        while self._due and self._due[0][0] <= now_ns:
            heapq.heappop(self._due)[2].late()
        if self._due:
            self._arm(self._due[0][0])
