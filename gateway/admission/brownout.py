"""What is given up, step by step, before a turn is refused.

    share of the limit that is used, as it mostly was in the last half second
    0 ──────────────── 75% ── 85% ── 95% ── 100%
                        │      │      │       └ refused
                        │      │      └ third step     each is left 15% below where it was taken,
                        │      └ second step           and 2 s at least after it
                        └ first step

The limit grows while it is used and nobody waits, so that a share of 75% for long means that it cannot.

Sans-I/O: times are passed in, in nanoseconds.
"""

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

_TAKEN_AT: Final = (0.75, 0.85, 0.95)
_LEFT_BELOW: Final = 0.15
_HELD_NS: Final = 2_000_000_000
_SMOOTH_S: Final = 0.5


class Step(StrEnum):
    """What can be given up."""

    LONGER_CHUNKS = "longer_chunks"
    """Whole sentences: fewer and larger chunks, which cost engines less for each character."""
    CHEAPER_VOICE = "cheaper_voice"
    """The voice that `VOICEMESH_GATEWAY_OVERLOAD_VOICES` names instead of the one that was asked for."""
    CACHED_ONLY = "cached_only"
    """Below high priority, what would be refused is looked up in the cache, and given from there alone."""


class BrownOut:
    """Which steps are taken. `steps` in the order in which they are; none: it is off."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)
        self._level = 0
        self._changed_ns = 0
        self._used = 0.0
        self._last_used = 0.0
        self._at_ns = 0

    @property
    def level(self) -> int:
        """How many steps are taken."""
        return self._level

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that are taken."""
        return self._steps[: self._level]

    @property
    def used(self) -> float:
        """The share of the limit that is used, smoothed."""
        return self._used

    def uses(self, share: float, now_ns: int) -> None:
        """Take the share of the limit that is used from now on."""
        elapsed_s = (now_ns - self._at_ns) / 1e9 if self._at_ns else 0.0
        # What was used since the last change, not what is used now.
        self._used += (1 - math.exp(-elapsed_s / _SMOOTH_S)) * (self._last_used - self._used)
        self._last_used = share
        self._at_ns = now_ns
        if self._level < len(self._steps) and self._used >= _TAKEN_AT[self._level]:
            self._level += 1
            self._changed_ns = now_ns
        elif (
            self._level
            and self._used < _TAKEN_AT[self._level - 1] - _LEFT_BELOW
            and now_ns - self._changed_ns >= _HELD_NS
        ):
            self._level -= 1
            self._changed_ns = now_ns
