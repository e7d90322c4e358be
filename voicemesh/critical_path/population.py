"""Many turns in bounded memory: the slowest of them, a sample of all, and sums over all.

Up to `SAMPLE` turns the sample is all of them, and every figure is exact whatever their order. Beyond, each
turn has the same chance to be in it (Vitter's algorithm R, with a seed of its own, so that the same file
says the same twice).
"""

import heapq
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from voicemesh.critical_path.turns import Turn

Measure = Literal["ttfa", "total"]
SAMPLE: Final = 10_000
MOST_SLOWEST: Final = 1_000
_SEED: Final = 6


@dataclass(slots=True)
class Underruns:
    """What players missed. Over all turns that were taken, whether or not they can be measured.

    Attributes:
        turns: Turns that had any.
        count: How many.
        total_ms: How long in sum.
        by_stage: That by the stage to blame; the rest is nobody's, or not known.
        turns_by_stage: Turns that each stage is to blame for, at least in part.

    """

    turns: int
    count: int
    total_ms: float
    by_stage: Counter[str]
    turns_by_stage: Counter[str]


class Population:
    """Takes turns one at a time.

    Args:
        by: What is measured: the time to first audio, or to the end of the turn.
        slowest: How many of the slowest to keep, 1 to `MOST_SLOWEST`.
        sample: How many turns to keep as what is usual.

    Attributes:
        by: As given.
        taken: Turns that were taken.
        measured: Those of them that have what is measured: only turns with audio have a time to it.
        first_began_unix_us: When the first of them began; 0 where none says.
        last_began_unix_us: When the last of them did.
        underruns: What players missed.
        degraded: Turns by what they gave up.

    """

    def __init__(self, by: Measure, slowest: int, sample: int = SAMPLE) -> None:
        if not 1 <= slowest <= MOST_SLOWEST:
            raise ValueError(f"slowest: {slowest} is not between 1 and {MOST_SLOWEST}")
        self.by: Measure = by
        self.taken = 0
        self.measured = 0
        self.first_began_unix_us = 0
        self.last_began_unix_us = 0
        self.underruns = Underruns(0, 0, 0.0, Counter(), Counter())
        self.degraded: Counter[str] = Counter()
        self._most_slowest = slowest
        self._most = sample
        self._sample: list[Turn] = []
        # The turn's number breaks ties, so that turns themselves are never compared.
        self._heap: list[tuple[float, str, int, Turn]] = []
        self._random = random.Random(_SEED)  # noqa: S311 - a sample, no secret

    def add(self, turn: Turn) -> None:
        """Take a turn."""
        self.taken += 1
        if began_us := turn.began_unix_us:
            self.first_began_unix_us = min(self.first_began_unix_us or began_us, began_us)
            self.last_began_unix_us = max(self.last_began_unix_us, began_us)
        self._take_underruns(turn)
        self.degraded.update(set(turn.degraded))
        measure_ms = self.measure(turn)
        if measure_ms <= 0:
            return
        self.measured += 1
        entry = (measure_ms, turn.turn_id, self.measured, turn)
        if len(self._heap) < self._most_slowest:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)
        if len(self._sample) < self._most:
            self._sample.append(turn)
        elif (place := self._random.randrange(self.measured)) < self._most:
            self._sample[place] = turn

    def extend(self, turns: Iterable[Turn]) -> None:
        """Take several."""
        for turn in turns:
            self.add(turn)

    def measure(self, turn: Turn) -> float:
        """Return what is measured, in milliseconds; 0 where the turn has none."""
        return turn.ttfa_ms if self.by == "ttfa" else turn.total_ms

    @property
    def sample(self) -> list[Turn]:
        """Turns that stand for all that were measured."""
        return list(self._sample)

    @property
    def slowest(self) -> list[Turn]:
        """The slowest of all, the slowest first."""
        return [turn for *_, turn in sorted(self._heap, key=lambda entry: entry[:3], reverse=True)]

    def _take_underruns(self, turn: Turn) -> None:
        if not turn.underruns:
            return
        self.underruns.turns += 1
        self.underruns.count += turn.underruns
        self.underruns.total_ms += turn.underrun_ms
        for stage, late_ms in turn.underrun_stages.items():
            if late_ms > 0:
                # Counter's values are whole numbers by its type; milliseconds with fractions are as good.
                self.underruns.by_stage[stage] += late_ms  # type: ignore[assignment] # above
                self.underruns.turns_by_stage[stage] += 1
