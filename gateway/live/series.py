"""Figures of the last hour, in a ring of steps: counted once a turn, bounded in memory.

    now ──> │ step │ step │ step │ … 360 of 10 s
               └─ counts of every turn, and the stages of some: all of them while they are few

Percentiles of several steps are those of all their turns: a step of which some turns were left out counts
for as many as it had, and not for as many as were kept.

A stack of stages adds up to the time to first audio that it stands for: it is the mean of the turns around
that rank, never a sum of percentiles, which adds up to nothing.
"""

import math
import random
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from operator import itemgetter
from typing import Any, Final, TypeVar

from voicemesh.runtime.clock import Clock
from voicemesh.stages import STAGES

STEP_S: Final = 10
STEPS: Final = 360
CALLERS_FAULTS: Final = frozenset(
    {"INVALID_FIELD", "OUT_OF_ORDER", "UNKNOWN_VOICE", "UNKNOWN_MODEL", "SLOW_RECEIVER", "UNKNOWN_TURN"}
)
"""Reasons of failed turns that are no fault of the mesh."""
NO_ROOM: Final = frozenset(
    {"TOO_MANY_TURNS", "OVERLOADED", "QUEUE_FULL", "VOICE_NOT_READY", "NO_ENGINE", "SERVICE_UNAVAILABLE"}
)
"""Reasons of refused turns that are."""
_SAMPLES: Final = 64
"""Turns of a step whose stages are kept; a random choice where there are more."""
MOST_STACKS: Final = 1_500
"""Turns that percentiles of a whole window are made of: the event loop makes them, and speech waits."""
_MOST_OF_COLUMN: Final = 192
"""The same of a column of the chart."""
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
    reason: str = ""
    """Why it failed, or was refused."""


@dataclass(slots=True)
class Counts:
    """Sums over turns."""

    turns: int = 0
    completed: int = 0
    interrupted: int = 0
    failed: int = 0
    refused: int = 0
    faults: int = 0
    """Of those that failed: by no fault of their callers."""
    turned_away: int = 0
    """Of those that were refused: for want of room, or of something to speak with."""
    underruns: int = 0
    replies_asked: int = 0
    replies_found: int = 0
    audio_asked: int = 0
    audio_found: int = 0
    audio_ms: float = 0.0
    total_ms: float = 0.0
    cost_usd: float = 0.0

    def add(self, turn: TurnFigures) -> None:
        """Count a turn."""
        self.turns += 1
        setattr(self, turn.outcome, getattr(self, turn.outcome) + 1)
        self.faults += turn.outcome == "failed" and turn.reason not in CALLERS_FAULTS
        self.turned_away += turn.outcome == "refused" and turn.reason in NO_ROOM
        self.underruns += turn.underruns
        self.replies_asked += turn.reply_asked
        self.replies_found += turn.reply_found
        self.audio_asked += turn.audio_asked
        self.audio_found += turn.audio_found
        self.audio_ms += turn.audio_ms
        self.total_ms += turn.total_ms
        self.cost_usd += turn.cost_usd

    def join(self, other: "Counts") -> None:
        """Add what another one has."""
        for name in _COUNTED:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {name: getattr(self, name) for name in _COUNTED}


_COUNTED: Final = tuple(each.name for each in fields(Counts))


Stack = tuple[float, Sequence[float]]
"""A time to first audio, and what it is made of."""
_OF_STACK: Final = itemgetter(0)
T = TypeVar("T")


@dataclass(slots=True)
class _Step:
    index: int = -1
    counts: Counts = field(default_factory=Counts)
    heard: int = 0
    stacks: list["Stack"] = field(default_factory=list)
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
        if turn.outcome == "completed":
            self._keep(step.totals, turn.total_ms, step.counts.completed)
        if turn.parts:
            step.heard += 1
            self._keep(step.stacks, (sum(turn.parts), array("d", turn.parts)), step.heard)

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
            points.append({"age_s": round(age_s, 1), **_joined(steps).to_json(), **_stacked(steps)})
        return points

    def counts(self, window_s: int) -> Counts:
        """Return the counts of the last `window_s`."""
        return _joined(self._last(window_s))

    def summary(self, window_s: int) -> "Summary":
        """Return the figures of the last `window_s` as a whole."""
        steps = self._last(window_s)
        totals = evenly([(step.totals, step.counts.completed) for step in steps], MOST_STACKS)
        return Summary(window_s, _joined(steps), _stacks(steps, MOST_STACKS), sorted(totals))

    def _last(self, window_s: int) -> list[_Step]:
        now = self._now()
        return self._steps_from(now - max(1, window_s // STEP_S) + 1, now + 1)


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of one window. Durations in milliseconds."""

    window_s: int
    counts: Counts
    stacks: list[Stack]
    """By their sums."""
    totals: list[float]
    """Of completed turns, sorted."""

    def ttfa_ms(self, share: float) -> float | None:
        """Return a percentile of the time to first audio; None where nothing was heard."""
        found = rank(self.stacks, share)
        return None if found is None else found[0]

    def total_ms(self, share: float) -> float | None:
        """Return a percentile of the time of a whole turn."""
        return rank(self.totals, share)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with the percentiles of each stage by itself."""
        columns = map(sorted, zip(*(parts for _, parts in self.stacks), strict=True))
        known = dict(zip(PARTS, columns, strict=True)) if self.stacks else {}
        return {
            "window_s": self.window_s,
            "counts": self.counts.to_json(),
            "ttfa_ms": _percentiles(self.ttfa_ms),
            "total_ms": _percentiles(self.total_ms),
            "stages": {
                name: [_rounded(rank(known.get(name, ()), share)) for share in _SHARES.values()]
                for name in PARTS
            },
        }


def rank(values: Sequence[T], share: float) -> T | None:
    """Return the percentile of sorted values by nearest rank; None of none."""
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else None


def evenly(sets: Sequence[tuple[Sequence[T], int]], most: int) -> list[T]:
    """Return values that stand for all: at most `most`, of each set as many as is its share.

    Args:
        sets: Values that were kept, in no order that means anything, and of how many.
        most: See above. Where each set was kept whole and they are no more, they are returned as they are.

    """
    whole = sum(seen for _, seen in sets)
    if whole <= most and all(len(kept) == seen for kept, seen in sets):
        return [value for kept, _ in sets for value in kept]
    count = min(most, whole)
    found: list[T] = []
    end = 0
    for kept, seen in sets:
        end += seen
        # As many as bring the sum to its share so far: rounding never adds up.
        wanted = end * count // whole - len(found)
        found += [kept[place * len(kept) // wanted] for place in range(wanted)]
    return found


def stack_at(stacks: Sequence[Stack], share: float) -> list[float]:
    """Return the mean of the stacks around a rank; [] of none.

    Args:
        stacks: By their sums.
        share: The rank, 0 to 1.

    """
    if not stacks:
        return []
    place = max(0, math.ceil(share * len(stacks)) - 1)
    width = len(stacks) // _NEAR
    near = stacks[max(0, place - width) : place + width + 1]
    return [sum(column) / len(near) for column in zip(*(parts for _, parts in near), strict=True)]


def _stacks(steps: Iterable[_Step], most: int) -> list[Stack]:
    return sorted(evenly([(step.stacks, step.heard) for step in steps], most), key=_OF_STACK)


def _joined(steps: Iterable[_Step]) -> Counts:
    counts = Counts()
    for step in steps:
        counts.join(step.counts)
    return counts


def _stacked(steps: list[_Step]) -> dict[str, Any]:
    stacks = _stacks(steps, _MOST_OF_COLUMN)
    return {
        name: [round(part, 3) for part in stack_at(stacks, share)]
        for name, share in (("p50", 0.5), ("p95", 0.95))
    }


_SHARES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def _percentiles(of: Callable[[float], float | None]) -> dict[str, float | None]:
    return {name: _rounded(of(share)) for name, share in _SHARES.items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
