"""What must hold of every turn's attribution, whatever happened in it.

The attribution is built so that the sums hold; this looks at the finished report, as whoever reads it does,
and says which rule it breaks. The names of the rules are told to callers, counted and logged.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from gateway.core.report import Attribution, ChunkAccount, ChunkPath, TurnReport
from voicemesh.stages import STAGES, Stage

TOLERANCE_US: Final = 1_000
"""So far may a sum be off."""
_SHARE: Final = 100
"""One part in so many of a time may have no owner."""


class Rule(StrEnum):
    """A rule that an attribution may break."""

    SUM = "sum"
    """Stages and `unattributed` add up to the time to first audio within 1 ms."""
    OVERLAP = "overlap"
    """No stage is negative, none is missing or foreign, and all fit into the time: none overlaps another."""
    UNATTRIBUTED = "unattributed"
    """At most 1% of the time to first audio is nobody's."""
    EXCESS = "excess"
    """Services report no more, within 1%, than the windows in which the gateway waited for them."""
    HOPS = "hops"
    """Hops add up to transport within 1 ms."""
    MISSING = "missing"
    """What was heard has an attribution."""
    CHUNK_SUM = "chunk_sum"
    """The same as `sum` and `overlap`, for the path of each chunk."""
    CHUNK_UNATTRIBUTED = "chunk_unattributed"
    """At most 1% of a chunk's path is nobody's."""
    UNDERRUNS = "underruns"
    """Underruns of the chunks add up to the turn's within 1 ms, and no more is blamed than there was."""


def violations(report: TurnReport) -> tuple[Rule, ...]:
    """Return the rules that the attribution of a turn breaks; none should be."""
    broken: list[Rule] = []
    attribution = report.attribution
    if attribution.stages:
        broken += _of_turn(attribution)
    elif report.outcome != "interrupted" and report.audio_us:
        broken.append(Rule.MISSING)
    for chunk in report.chunks:
        if chunk.path is not None:
            broken += _of_chunk(chunk.path)
    broken += _of_underruns(report)
    return tuple(dict.fromkeys(broken))


def _of_turn(attribution: Attribution) -> list[Rule]:
    broken = []
    ttfa_us, stages = attribution.ttfa_us, attribution.stages
    if abs(sum(stages.values()) + attribution.unattributed_us - ttfa_us) > TOLERANCE_US:
        broken.append(Rule.SUM)
    if _overlaps(stages, ttfa_us):
        broken.append(Rule.OVERLAP)
    if abs(attribution.unattributed_us) > ttfa_us / _SHARE:
        broken.append(Rule.UNATTRIBUTED)
    if attribution.excess_us > ttfa_us / _SHARE:
        broken.append(Rule.EXCESS)
    if abs(sum(attribution.hops.values()) - stages.get(Stage.TRANSPORT, 0)) > TOLERANCE_US:
        broken.append(Rule.HOPS)
    return broken


def _overlaps(stages: Mapping[str, int], whole_us: int) -> bool:
    fits = sum(stages.values()) <= whole_us + TOLERANCE_US
    return not fits or tuple(stages) != STAGES or any(duration_us < 0 for duration_us in stages.values())


def _of_chunk(path: ChunkPath) -> list[Rule]:
    broken = []
    whole_us = sum(path.stages.values()) + path.paced_us + path.unattributed_us
    if abs(whole_us - path.length_us) > TOLERANCE_US or _overlaps(path.stages, path.length_us):
        broken.append(Rule.CHUNK_SUM)
    if abs(path.unattributed_us) > path.length_us / _SHARE:
        broken.append(Rule.CHUNK_UNATTRIBUTED)
    return broken


def _of_underruns(report: TurnReport) -> list[Rule]:
    chunks: tuple[ChunkAccount, ...] = report.chunks
    told_us = sum(chunk.underrun_us for chunk in chunks)
    counted = sum(chunk.underruns for chunk in chunks)
    blamed_us = sum(report.underrun_stages.values())
    # A microsecond is lost at most in each of them.
    agree = abs(told_us - report.underrun_us) <= TOLERANCE_US + counted and counted == report.underruns
    return [] if agree and blamed_us <= told_us + TOLERANCE_US else [Rule.UNDERRUNS]
