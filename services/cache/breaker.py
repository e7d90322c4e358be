"""When to leave a store alone that fails, and when to try it again."""

import random
from collections.abc import Callable
from typing import Final

_JITTER: Final = 0.2
"""Waits differ by up to this share, so that replicas do not all knock at the same moment."""
TRUSTED_AFTER: Final = 20
"""Answers in a row after which a failure counts as the first one again."""


class Breaker:
    """Holds a store off from its first failure until a probe is answered.

        closed ── failed ──> held off ── probe failed ──> held off, and waits: min, 2 min, … max
          ^                     │ the first probe comes at once: where it was only this process
          │                     │ that was late, on a busy machine, next to nothing is lost
          └── probe succeeded ──┘

    A store that answers probes but fails again before `TRUSTED_AFTER` answers is left alone for
    longer each time. Callers ask `closed` and never probe; one task of the owner does, after `wait_s`.
    """

    def __init__(self, *, min_ms: int, max_ms: int, random_unit: Callable[[], float] = random.random) -> None:
        self._min_ms = min_ms
        self._max_ms = max_ms
        self._random_unit = random_unit
        self._wait_ms = 0
        self._answers = TRUSTED_AFTER
        self.closed = True

    @property
    def wait_s(self) -> float:
        """Seconds to wait before the next probe, with jitter: another number each time."""
        return self._wait_ms / 1000 * (1 + _JITTER * (2 * self._random_unit() - 1))

    def answered(self) -> None:
        """Note that the store answered something other than a probe."""
        self._answers += 1

    def failed(self) -> bool:
        """Note a failure. Return True if it is this one that opened the breaker."""
        if not self.closed:
            return False
        if self._answers >= TRUSTED_AFTER:
            self._wait_ms = 0
        else:
            self._grow()
        self.closed = False
        return True

    def probe_failed(self) -> None:
        """Note that a probe failed: the next wait is longer."""
        self._grow()

    def succeeded(self) -> bool:
        """Note that a probe was answered. Return True if that closed the breaker."""
        if self.closed:
            return False
        self.closed = True
        self._answers = 0
        return True

    def _grow(self) -> None:
        self._wait_ms = min(max(2 * self._wait_ms, self._min_ms), self._max_ms)
