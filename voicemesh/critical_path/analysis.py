"""From many turns to what made the slow ones slow, and what would have helped most.

Slow are the slowest that were asked for, and no more than a quarter of all: what is usual must be known from
the rest. Each is compared with the usual turn of its kind (`voicemesh.critical_path.baseline`); the part that
is most above its median, and unusually so, is what made it slow. Other parts count beside it where they are
unusual, too, and have a fifth of what the turn took more. Turns in which the same part counts for the same
reason are one finding; one that made none slow by itself is told where it has a tenth of what all slow turns
took more.

Where the work of most processes is unusual in one turn, none of them is at fault: they share a machine, and
it was busy.

What it cost is what the same turns would have taken without it: every turn of the population in which that
part is unusual for that reason is given the median of the part instead, and the percentiles are taken again.
Stages are contiguous, so all behind it moves forward by as much; other work that ran beside it may then be in
the way, so the figure is the most that can be won.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from statistics import median
from typing import Final

from voicemesh.critical_path.baseline import Usual, usual_of
from voicemesh.critical_path.causes import BUSY_ADVICE, advice, reason_of
from voicemesh.critical_path.population import Measure, Population
from voicemesh.critical_path.quantiles import quantile
from voicemesh.critical_path.turns import KINDS, PARTS, Turn
from voicemesh.stages import Stage

MOST_SLOW: Final = 4
"""One in so many turns may be called slow."""
ENOUGH_OF_A_GROUP: Final = 3
"""Of fewer slow turns, nothing is concluded."""
NOTHING: Final = ""
"""The part of turns that no one part made slow."""
_EXAMPLES: Final = 3
_COUNTS: Final = 0.2
"""A part that has this share of what a turn took more counts, if another has more of it."""
_WORTH_A_FINDING: Final = 0.1
_DOUBTFUL: Final = 0.5
"""Of a busy machine all work is slower by this share of the usual, at least."""
_BUSY_SHARE: Final = 0.6
_BUSY_LEAST: Final = 3
_WORK_OF: Final = (
    (Stage.ADMISSION, Stage.GATEWAY),
    (Stage.HISTORY, Stage.REPLY_CACHE, Stage.AUDIO_CACHE),
    (Stage.LLM_CONNECT, Stage.LLM_TTFT, Stage.LLM_TEXT),
    (Stage.CHUNK_HOLD,),
    (Stage.TTS_QUEUE, Stage.TTS_SYNTHESIS),
    (Stage.TRANSPORT,),
)
"""The stages of each process, and those between them."""


@dataclass(frozen=True, slots=True)
class Times:
    """Percentiles in milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class SlowTurn:
    """One of the slow turns.

    Attributes:
        turn: The turn.
        measure_ms: How long it took.
        usual_ms: How long the usual turn of its kind takes: the sum of the medians of its parts.
        excess: Each part less its median, in the order of `PARTS`: with `usual_ms` they are `measure_ms`.
        part: The part that made it slow; "" for none in particular.
        reason: Why, as in `causes`; "" where nothing is known.
        beside: Other parts that count, each with its reason.
        busy: True where the work of most processes took longer than usual.

    """

    turn: Turn
    measure_ms: float
    usual_ms: float
    excess: tuple[float, ...]
    part: str
    reason: str
    beside: tuple[tuple[str, str], ...] = ()
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the time of the slow turns, a turn on average: these add up over the parts.

    Attributes:
        name: One of `PARTS`.
        usual_ms: What it usually takes in such turns.
        slow_ms: What it took in them.
        blamed: Slow turns that it made slow.

    """

    name: str
    usual_ms: float
    slow_ms: float
    blamed: int

    @property
    def excess_ms(self) -> float:
        """What it took more than usual."""
        return self.slow_ms - self.usual_ms


@dataclass(frozen=True, slots=True)
class Finding:
    """What made a group of the slow turns slow.

    Attributes:
        part: The part of their time.
        reason: Why, as in `causes`; "" where nothing is known.
        turns: Slow turns in the group: it is what made them slow, or counts beside that.
        first: Those of them that it made slow, being most above its median.
        busy: Those of them in which the work of most processes took longer than usual.
        share: Their share of the slow turns, 0 to 1.
        part_ms: How long the part took in them: the median.
        usual_ms: How long it usually takes in such turns: the median.
        excess_ms: The difference, turn by turn: the median.
        affected: Turns of the sample, slow or not, in which the part is unusual for that reason.
        without: Percentiles of what is measured, had the part been as usual in those.
        slow_median_without_ms: The median of the slow turns, had the part been as usual in them.
        examples: Ids of the turns with the largest excess.
        advice: What helps; "" where there are too few turns to conclude anything.

    """

    part: str
    reason: str
    turns: int
    first: int
    busy: int
    share: float
    part_ms: float
    usual_ms: float
    excess_ms: float
    affected: int
    without: Times
    slow_median_without_ms: float
    examples: tuple[str, ...]
    advice: str


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known of many turns.

    Attributes:
        by: What is measured: "ttfa" or "total".
        turns: Turns that were looked at.
        measured: Those of them that have what is measured.
        sampled: Those that stand for them; fewer only where there are very many.
        enough: False where there are too few turns to say what is usual: there are no parts and findings.
        times: Percentiles of what is measured.
        slow_median_ms: The median of the slow turns.
        slow: The slow turns, the slowest first.
        parts: What the time of the slow turns went to, in order of the path.
        findings: What made them slow, the one first without which most would be won.
        nothing: Slow turns that no one part made slow.
        busy: Slow turns in which the work of most processes took longer than usual.
        kinds: Slow turns, and all of the sample, by kind.
        degraded: Slow turns, and all of the sample, by what they gave up.

    """

    by: Measure
    turns: int
    measured: int
    sampled: int
    enough: bool
    times: Times
    slow_median_ms: float
    slow: tuple[SlowTurn, ...]
    parts: tuple[Part, ...]
    findings: tuple[Finding, ...]
    nothing: int
    busy: int
    kinds: dict[str, tuple[int, int]]
    degraded: dict[str, tuple[int, int]]


def analyse(population: Population, usual: dict[str, Usual] | None = None) -> Analysis:
    """Return what made the slow turns of a population slow.

    `usual` is what they are compared with, where that is something else than the population itself.
    """
    sample, by = population.sample, population.by
    usual = usual_of(sample) if usual is None else usual
    slowest = population.slowest
    most = max(population.measured // MOST_SLOW, 1)
    slow = tuple(_slow(turn, population.measure(turn), by, usual) for turn in slowest[:most])
    measures = sorted(population.measure(turn) for turn in sample)
    findings = _findings(slow, sample, population, usual) if usual else ()
    return Analysis(
        by=by,
        turns=population.taken,
        measured=population.measured,
        sampled=len(sample),
        enough=bool(usual),
        times=_times(measures),
        slow_median_ms=median(turn.measure_ms for turn in slow) if slow else 0.0,
        slow=slow,
        parts=_parts(slow, by) if usual else (),
        findings=findings,
        nothing=sum(turn.part == NOTHING for turn in slow),
        busy=sum(turn.busy for turn in slow),
        kinds=_compared([turn.turn for turn in slow], sample),
        degraded=_given_up([turn.turn for turn in slow], sample),
    )


def measured_parts(by: Measure) -> int:
    """Return how many of `PARTS` make up what is measured: the last one lies behind the first audio."""
    return len(PARTS) - (by == "ttfa")


def _slow(turn: Turn, measure_ms: float, by: Measure, usual: dict[str, Usual]) -> SlowTurn:
    if not usual:
        return SlowTurn(turn, measure_ms, 0.0, (), NOTHING, "")
    baseline, count = usual[turn.kind], measured_parts(by)
    excess = tuple(
        took_ms - usual_ms for took_ms, usual_ms in zip(turn.parts(), baseline.parts, strict=True)
    )[:count]
    unusual = [place for place in range(count) if excess[place] > baseline.bounds[place]]
    usual_ms = fsum(baseline.parts[:count])
    if not unusual:
        return SlowTurn(turn, measure_ms, usual_ms, excess, NOTHING, "")
    most = max(unusual, key=excess.__getitem__)
    counts_ms = _COUNTS * fsum(excess[place] for place in unusual)
    beside = tuple(
        (PARTS[place], reason_of(turn, PARTS[place], baseline))
        for place in unusual
        if place != most and excess[place] >= counts_ms
    )
    reason = reason_of(turn, PARTS[most], baseline)
    busy = _is_busy(turn, baseline, excess)
    return SlowTurn(turn, measure_ms, usual_ms, excess, PARTS[most], reason, beside, busy)


def _is_busy(turn: Turn, baseline: Usual, excess: tuple[float, ...]) -> bool:
    """Return whether the work of most processes took longer than usual."""
    took, at_work, slower = turn.parts(), 0, 0
    for stages in _WORK_OF:
        places = [PARTS.index(stage) for stage in stages]
        at_work += any(took[place] > 0 for place in places)
        slower += any(
            excess[place] > max(baseline.bounds[place], _DOUBTFUL * baseline.parts[place]) for place in places
        )
    return slower >= max(_BUSY_LEAST, _BUSY_SHARE * at_work)


def _parts(slow: Sequence[SlowTurn], by: Measure) -> tuple[Part, ...]:
    blamed = Counter(turn.part for turn in slow)
    rows = []
    for place in range(measured_parts(by)):
        took_ms = fsum(turn.turn.parts()[place] for turn in slow) / len(slow)
        excess_ms = fsum(turn.excess[place] for turn in slow) / len(slow)
        name = PARTS[place]
        rows.append(Part(name, took_ms - excess_ms, took_ms, blamed[name]))
    return tuple(rows)


def _findings(
    slow: Sequence[SlowTurn], sample: Sequence[Turn], population: Population, usual: dict[str, Usual]
) -> tuple[Finding, ...]:
    groups: dict[tuple[str, str], list[SlowTurn]] = {}
    for turn in slow:
        if turn.part != NOTHING:
            for cause in ((turn.part, turn.reason), *turn.beside):
                groups.setdefault(cause, []).append(turn)
    least_ms = _WORTH_A_FINDING * fsum(max(turn.measure_ms - turn.usual_ms, 0.0) for turn in slow)
    for (part, reason), group in list(groups.items()):
        more_ms = fsum(turn.excess[PARTS.index(part)] for turn in group)
        if more_ms < least_ms and not any((turn.part, turn.reason) == (part, reason) for turn in group):
            del groups[part, reason]
    found = [
        _finding(part, reason, group, slow, sample, population, usual)
        for (part, reason), group in sorted(groups.items())
    ]
    # What is sure comes first; of that, what would have won most at the 95th percentile, then in slow turns.
    return tuple(
        sorted(
            found,
            key=lambda finding: (
                not finding.advice,
                round(finding.without.p95, 3),
                round(finding.slow_median_without_ms, 3),
                -finding.turns,
            ),
        )
    )


def _finding(
    part: str,
    reason: str,
    group: Sequence[SlowTurn],
    slow: Sequence[SlowTurn],
    sample: Sequence[Turn],
    population: Population,
    usual: dict[str, Usual],
) -> Finding:
    place = PARTS.index(part)
    saved = [_saved_ms(turn, place, reason, usual) for turn in sample]
    without = sorted(
        population.measure(turn) - saved_ms for turn, saved_ms in zip(sample, saved, strict=True)
    )
    busy = sum(turn.busy for turn in group)
    helps = BUSY_ADVICE if 2 * busy > len(group) else advice(part, reason)
    worst = sorted(group, key=lambda turn: (-turn.excess[place], turn.turn.turn_id))
    return Finding(
        part=part,
        reason=reason,
        turns=len(group),
        first=sum((turn.part, turn.reason) == (part, reason) for turn in group),
        busy=busy,
        share=len(group) / len(slow),
        part_ms=median(turn.turn.parts()[place] for turn in group),
        usual_ms=median(usual[turn.turn.kind].parts[place] for turn in group),
        excess_ms=median(turn.excess[place] for turn in group),
        affected=sum(saved_ms > 0 for saved_ms in saved),
        without=_times(without),
        slow_median_without_ms=median(
            turn.measure_ms - _saved_ms(turn.turn, place, reason, usual) for turn in slow
        ),
        examples=tuple(turn.turn.turn_id for turn in worst[:_EXAMPLES]),
        advice=helps if len(group) >= ENOUGH_OF_A_GROUP else "",
    )


def _saved_ms(turn: Turn, place: int, reason: str, usual: dict[str, Usual]) -> float:
    """Return what a turn would have won, had the part been as usual; 0 where it was, or why is another."""
    baseline = usual[turn.kind]
    excess_ms = turn.parts()[place] - baseline.parts[place]
    if excess_ms <= baseline.bounds[place] or reason_of(turn, PARTS[place], baseline) != reason:
        return 0.0
    return excess_ms


def _times(ordered: Sequence[float]) -> Times:
    return Times(quantile(ordered, 0.5), quantile(ordered, 0.95), quantile(ordered, 0.99))


def _compared(slow: Sequence[Turn], sample: Sequence[Turn]) -> dict[str, tuple[int, int]]:
    in_slow, in_all = Counter(turn.kind for turn in slow), Counter(turn.kind for turn in sample)
    return {kind: (in_slow[kind], in_all[kind]) for kind in KINDS if in_slow[kind] or in_all[kind]}


def _given_up(slow: Sequence[Turn], sample: Sequence[Turn]) -> dict[str, tuple[int, int]]:
    in_slow = Counter(what for turn in slow for what in set(turn.degraded))
    in_all = Counter(what for turn in sample for what in set(turn.degraded))
    return {what: (in_slow[what], in_all[what]) for what in sorted({*in_slow, *in_all})}
