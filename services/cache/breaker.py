"""When to leave a store alone that fails, and when to try it again."""

import random
from collections.abc import Callable
from typing import Final

from voicemesh.runtime.clock import Clock

_JITTER: Final = 0.2
"""Waits differ by up to this share, so that replicas do not all knock at the same moment."""


class Breaker:
    """Holds a store off after its first failure, for longer each time that it fails again.

        closed ── failed ──> held off ── probe failed ──> held off, twice as long, up to the maximum
          ^                     └── probe succeeded ──> closed
          └ a failure within the last wait after closing goes on from that wait: a store that
            answers probes only does not get away with the shortest wait each time

    Callers ask `closed` and never probe; one task of the owner does, after `wait_s`.
    """

    def __init__(
        self, clock: Clock, *, min_ms: int, max_ms: int, random_unit: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._min_ms = min_ms
        self._max_ms = max_ms
        self._random_unit = random_unit
        self._wait_ms = 0
        self._closed_ns = clock.now_ns()
        self.closed = True

    @property
    def wait_s(self) -> float:
        """Seconds to wait before the next probe, with jitter: another number each time."""
        return self._wait_ms / 1000 * (1 + _JITTER * (2 * self._random_unit() - 1))

    def failed(self) -> bool:
        """Note a failure. Return True if it is this one that opened the breaker."""
        if not self.closed:
            return False
        since_closed_ms = (self._clock.now_ns() - self._closed_ns) / 1e6
        grows = self._wait_ms > 0 and since_closed_ms < self._wait_ms
        self._wait_ms = min(2 * self._wait_ms, self._max_ms) if grows else self._min_ms
        self.closed = False
        return True

    def probe_failed(self) -> None:
        """Note that a probe failed: the next wait is longer."""
        self._wait_ms = min(2 * self._wait_ms, self._max_ms) if self._wait_ms else self._min_ms

    def succeeded(self) -> bool:
        """Note that a probe was answered. Return True if that closed the breaker."""
        if self.closed:
            return False
        self.closed = True
        self._closed_ns = self._clock.now_ns()
        return True
