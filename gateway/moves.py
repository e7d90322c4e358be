"""When the processes of a service became others: what stands by at one of them is told.

A process is known by its address before it takes calls: its container starts, its service gets ready. So what
stands by is renewed at once, and again as long after that as it was since then:

    moved ── all of it, within RENEW_S ── again ──── again ──────── again ──────────────── …

One that takes calls so long after its address was known gets its share of what stands by as long after that,
and nobody opens streams for nothing for ever.
"""

import math
import random
from collections.abc import Callable
from typing import Final

from voicemesh.runtime.clock import Clock

RENEW_S: Final = 3.0
"""Longest that something goes on to stand by at the same process once there may be a new one."""


class Moves:
    """Those who are to be told.

    Args:
        clock: Says how long ago it was.

    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._moved_ns: int | None = None
        self._told: set[Callable[[], None]] = set()

    def add(self, told: Callable[[], None]) -> None:
        """Have `told` called when processes became others."""
        self._told.add(told)

    def discard(self, told: Callable[[], None]) -> None:
        """Call it no more."""
        self._told.discard(told)

    def moved(self) -> None:
        """Note that processes became others."""
        self._moved_ns = self._clock.now_ns()
        for told in tuple(self._told):
            told()

    def lasts_s(self) -> float:
        """Return how long what begins to stand by now may do so at the same process."""
        if self._moved_ns is None:
            return math.inf
        since_s = (self._clock.now_ns() - self._moved_ns) / 1e9
        return max(RENEW_S, since_s) * (0.5 + random.random() / 2)  # noqa: S311 - not all at once
