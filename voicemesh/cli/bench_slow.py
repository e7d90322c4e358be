"""What the turns of a load test waited for, as `voicemesh explain --slowest` tells it of a gateway's.

The slowest 5% of a load are set beside the usual turn, and where there are several loads, those of the
heaviest beside the usual turn of the lightest: under a load that is too much, waiting is usual.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from voicemesh.cli.bench_figures import Turn as Told
from voicemesh.cli.slow_text import headline, ms, won
from voicemesh.critical_path import Analysis, Population, Turn, analyse
from voicemesh.critical_path.analysis import ENOUGH_OF_A_GROUP, measured_parts
from voicemesh.critical_path.baseline import Usual, usual_of
from voicemesh.critical_path.causes import advice, reason_of
from voicemesh.critical_path.population import MOST_SLOWEST
from voicemesh.critical_path.reports import turn_from
from voicemesh.critical_path.turns import PARTS, UNATTRIBUTED

_SLOW: Final = 20
"""One in so many turns with audio is called slow."""
_MOST_FINDINGS: Final = 3
_MOSTLY: Final = 0.5

Load = tuple[str, Sequence[Told]]
"""A load in words, and its turns."""


def waits(loads: Sequence[Load]) -> list[str]:
    """Return what the turns of the heaviest load with audio waited for, and what helps."""
    heard = [(name, found) for name, turns in loads if (found := _heard(turns))]
    if not heard:
        return []
    (lightest, light), (_, heavy) = heard[0], heard[-1]
    where, beside = (f" at {heard[-1][0]}", f" at {lightest}") if len(heard) > 1 else ("", "")
    usual = usual_of(light)
    if not usual:
        usual, beside = usual_of(heavy), ""
    analysis = _analysis(heavy, usual)
    findings = [finding for finding in analysis.findings if finding.advice][:_MOST_FINDINGS]
    lines = []
    for finding in findings:
        line = f"{finding.part}{where}: {headline(finding, len(analysis.slow))}"
        line += f"; usually {ms(finding.usual_ms)} ms{beside}"
        if told := won(finding, analysis):
            line += f"; without that {told}"
        lines.append(f"{line}: {finding.advice}")
    part, share, mean_ms = _largest(heavy)
    if part not in {finding.part for finding in findings}:
        urgency = "most" if share > _MOSTLY else "the largest part"
        said = f"{part} is {urgency} of the time to first audio{where} ({share:.0%}, {ms(mean_ms)} ms a turn)"
        lines.append(f"{said}: {advice(part, _reason(heavy, part, usual))}")
    return lines


def accounts(turns: Sequence[Told]) -> list[tuple[str, int, dict[str, float]]]:
    """Return what the first audio of usual turns and of slow ones waited for: name, turns, parts in ms.

    Of fewer turns than can say what is usual, there is one account, the mean of all; of none, none.
    """
    heard = _heard(turns)
    if not heard:
        return []
    analysis = _analysis(heard, usual_of(heard))
    if not analysis.enough:
        return [("all", len(heard), _means(heard))]
    return [
        ("usual", analysis.measured, {part.name: part.usual_ms for part in analysis.parts}),
        ("the slowest", len(analysis.slow), {part.name: part.slow_ms for part in analysis.parts}),
    ]


def _heard(turns: Sequence[Told]) -> list[Turn]:
    return [turn for turn in map(turn_from, turns) if turn.ttfa_ms > 0]


def _analysis(heard: Sequence[Turn], usual: dict[str, Usual]) -> Analysis:
    slow = min(max(len(heard) // _SLOW, ENOUGH_OF_A_GROUP), MOST_SLOWEST)
    population = Population("ttfa", slow)
    population.extend(heard)
    return analyse(population, usual)


def _means(heard: Sequence[Turn]) -> dict[str, float]:
    names = PARTS[: measured_parts("ttfa")]
    columns = zip(*(turn.parts() for turn in heard), strict=True)
    return {name: sum(column) / len(heard) for name, column in zip(names, columns, strict=False)}


def _largest(heard: Sequence[Turn]) -> tuple[str, float, float]:
    """Return the stage that most of the time of all turns went to, its share of it, and its mean."""
    means = _means(heard)
    stage = max((name for name in means if name != UNATTRIBUTED), key=means.__getitem__)
    return stage, means[stage] / (sum(means.values()) or 1.0), means[stage]


def _reason(heard: Sequence[Turn], part: str, usual: Mapping[str, Usual]) -> str:
    """Return why a part takes its time in most of the turns; "" where there is no such reason."""
    if not usual:
        return ""
    ((reason, turns),) = Counter(reason_of(turn, part, usual[turn.kind]) for turn in heard).most_common(1)
    return reason if turns > _MOSTLY * len(heard) else ""
