"""Figures of the last hour, in a ring of steps: counted once a turn, bounded in memory.

    now ──> │ step │ step │ step │ … 360 of 10 s
               └─ counts of every turn, and the stages of some: all of them while they are few

A stack of stages adds up to the time to first audio that it stands for: it is the mean of the turns around
that rank, never a sum of percentiles, which adds up to nothing.
"""

import math
import random
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from voicemesh.runtime.clock import Clock
from voicemesh.stages import STAGES

STEP_S: Final = 10
STEPS: Final = 360
_SAMPLES: Final = 64
"""Turns of a step whose stages are kept; a random choice where there are more."""
UNATTRIBUTED: Final = "unattributed"
PARTS: Final = (*(stage.value for stage in STAGES), UNATTRIBUTED)
"""What a time to first audio is cut into, in order."""
_NEAR: Final = 20
"""A stack is the mean over a tenth of the turns: a twentieth to each side of its rank."""


@dataclass(frozen=True, slots=True)
class TurnFigures:
    """What is counted of a turn. Durations in milliseconds."""

    outcome: str
    """`completed`, `interrupted`, `failed` or `refused`."""
    parts: Sequence[float]
    """By `PARTS`; empty where nothing was heard."""
    total_ms: float
    underruns: int = 0
    reply_asked: bool = False
    reply_found: bool = False
    audio_asked: int = 0
    """Chunks whose audio was looked for."""
    audio_found: int = 0
    audio_ms: float = 0.0
    cost_usd: float = 0.0


@dataclass(slots=True)
class Counts:
    """Sums over turns."""

    turns: int = 0
    completed: int = 0
    interrupted: int = 0
    failed: int = 0
    refused: int = 0
    underruns: int = 0
    replies_asked: int = 0
    replies_found: int = 0
    audio_asked: int = 0
    audio_found: int = 0
    audio_ms: float = 0.0
    cost_usd: float = 0.0

    def add(self, turn: TurnFigures) -> None:
        """Count a turn."""
        self.turns += 1
        setattr(self, turn.outcome, getattr(self, turn.outcome) + 1)
        self.underruns += turn.underruns
        self.replies_asked += turn.reply_asked
        self.replies_found += turn.reply_found
        self.audio_asked += turn.audio_asked
        self.audio_found += turn.audio_found
        self.audio_ms += turn.audio_ms
        self.cost_usd += turn.cost_usd

    def join(self, other: "Counts") -> None:
        """Add what another one has."""
        for name in _COUNTED:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {name: getattr(self, name) for name in _COUNTED}


_COUNTED: Final = tuple(each.name for each in fields(Counts))


@dataclass(slots=True)
class _Step:
    index: int = -1
    counts: Counts = field(default_factory=Counts)
    heard: int = 0
    stacks: list["array[float]"] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)


class Series:
    """The figures of the last hour.

    Args:
        clock: Says which step a turn falls into.
        chance: Chooses what is kept of a step with many turns.

    """

    def __init__(self, clock: Clock, chance: random.Random) -> None:
        self._clock = clock
        self._chance = chance
        self._steps = [_Step() for _ in range(STEPS)]

    def add(self, turn: TurnFigures) -> None:
        """Count a turn that has ended."""
        index = self._now()
        step = self._steps[index % STEPS]
        if step.index != index:
            step = self._steps[index % STEPS] = _Step(index)
        step.counts.add(turn)
        self._keep(step.totals, turn.total_ms, step.counts.turns)
        if turn.parts:
            step.heard += 1
            self._keep(step.stacks, array("d", turn.parts), step.heard)

    def _keep(self, kept: list[Any], value: Any, seen: int) -> None:
        """Keep a fair choice of all values: algorithm R, Vitter 1985."""
        if len(kept) < _SAMPLES:
            kept.append(value)
        elif (place := self._chance.randrange(seen)) < _SAMPLES:
            kept[place] = value

    def _now(self) -> int:
        return self._clock.now_ns() // (STEP_S * 1_000_000_000)

    def _steps_from(self, first: int, end: int) -> list[_Step]:
        """Return the steps of that span in which a turn ended, oldest first."""
        first = max(first, self._now() - STEPS + 1)
        found = (self._steps[index % STEPS] for index in range(first, end))
        return [step for step, index in zip(found, range(first, end), strict=True) if step.index == index]

    def points(self, window_s: int, step_s: int) -> list[dict[str, Any]]:
        """Return the figures by steps of `step_s`, oldest first, for a chart: JSON.

        Steps begin at whole multiples of `step_s`, so that a column stays what it is once its time is over.
        """
        width = max(1, step_s // STEP_S)
        now = self._now()
        now_s = self._clock.now_ns() / 1e9
        points = []
        for group in range((now - window_s // STEP_S + 1) // width, now // width + 1):
            steps = self._steps_from(group * width, min((group + 1) * width, now + 1))
            age_s = now_s - group * width * STEP_S
            points.append({"age_s": round(age_s, 1), **_counted(steps), **_stacked(steps)})
        return points

    def summary(self, window_s: int) -> "Summary":
        """Return the figures of the last `window_s` as a whole."""
        now = self._now()
        steps = self._steps_from(now - max(1, window_s // STEP_S) + 1, now + 1)
        counts = Counts()
        for step in steps:
            counts.join(step.counts)
        stacks = [stack for step in steps for stack in step.stacks]
        totals = sorted(total for step in steps for total in step.totals)
        return Summary(window_s, counts, stacks, totals)


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of one window. Durations in milliseconds."""

    window_s: int
    counts: Counts
    stacks: list["array[float]"]
    totals: list[float]
    """Sorted."""

    def ttfa_ms(self, share: float) -> float | None:
        """Return a percentile of the time to first audio; None where nothing was heard."""
        return rank(sorted(map(sum, self.stacks)), share)

    def total_ms(self, share: float) -> float | None:
        """Return a percentile of the time of a whole turn."""
        return rank(self.totals, share)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with the percentiles of each stage by itself."""
        columns = [sorted(stack[place] for stack in self.stacks) for place in range(len(PARTS))]
        shares = (0.5, 0.95, 0.99)
        return {
            "window_s": self.window_s,
            "counts": self.counts.to_json(),
            "sampled": len(self.stacks),
            "ttfa_ms": _percentiles(sorted(map(sum, self.stacks))),
            "total_ms": _percentiles(self.totals),
            "stages": {
                name: [_rounded(rank(column, share)) for share in shares]
                for name, column in zip(PARTS, columns, strict=True)
            },
        }


def rank(values: Sequence[float], share: float) -> float | None:
    """Return the percentile of sorted values by nearest rank; None of none."""
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else None


def stack_at(stacks: Iterable[Sequence[float]], share: float) -> list[float]:
    """Return the mean of the stacks around a rank of their sums; [] of none."""
    ordered = sorted(stacks, key=sum)
    if not ordered:
        return []
    place = max(0, math.ceil(share * len(ordered)) - 1)
    width = len(ordered) // _NEAR
    near = ordered[max(0, place - width) : place + width + 1]
    return [sum(column) / len(near) for column in zip(*near, strict=True)]


def _counted(steps: list[_Step]) -> dict[str, Any]:
    counts = Counts()
    for step in steps:
        counts.join(step.counts)
    return counts.to_json()


def _stacked(steps: list[_Step]) -> dict[str, Any]:
    stacks = [stack for step in steps for stack in step.stacks]
    return {
        name: [round(part, 3) for part in stack_at(stacks, share)]
        for name, share in (("p50", 0.5), ("p95", 0.95))
    }


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    return {
        name: _rounded(rank(values, share)) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
