"""What the numbers of a bench say, and what to do about it. Every line names the number it is drawn from."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voicemesh.cli.bench_figures import (
    Turn,
    errors_of,
    loose_share,
    underruns_by_cause,
)
from voicemesh.cli.bench_slow import waits
from voicemesh.cli.failures import hint_for
from voicemesh.critical_path.causes import advice as what_helps
from voicemesh.stages import STAGES, Stage

_LATE_MS: Final = 10.0
_FEW_HITS: Final = 0.25
_KNEE_GAIN: Final = 1.15
_KNEE_COST: Final = 1.5
_FEWEST_TURNS: Final = 20
"""Turns from which on a rate that was not reached says something."""
_STAGES: Final = frozenset(stage.value for stage in STAGES)
CUT_SHORT: Final = "the run was ended before its turns had: those that had not ended are not counted"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One load of a run, as it is in the JSON form.

    Attributes:
        load: The load, in words.
        concurrency: Callers of a closed loop; None for an open one.
        rate_per_s: Turns a second of an open loop; None for a closed one.
        summary: Its summary.
        turns: Its turns.
        late_ms: How late the tool began turns: `p50`, `p95`, `p99`, `max`.
        unfinished: Turns that had not ended when the run was cut short.
        most_in_flight: Most that were under way at one time.
        held_back: Turns that waited in the tool because so many were.
        cut_short: True where the time limit ended it.
        warmup_failed: Turns ahead of it that failed.

    """

    load: str
    concurrency: int | None
    rate_per_s: float | None
    summary: Mapping[str, Any]
    turns: Sequence[Turn]
    late_ms: Mapping[str, float]
    unfinished: int = 0
    most_in_flight: int = 0
    held_back: int = 0
    cut_short: bool = False
    warmup_failed: int = 0


def advice(steps: Sequence[Step]) -> list[str]:
    """Return what the numbers of every load, lightest first, say: most urgent first."""
    turns = [turn for step in steps for turn in step.turns]
    lines = failures(turns)
    lines += [line for step in steps for line in _of_tool(step, many=len(steps) > 1)]
    lines += _underruns(turns)
    lines += _knee(steps)
    lines += waits([(step.load, step.turns) for step in steps])
    loose = loose_share(turns)
    if loose > 0.01:
        lines.append(f"{loose:.1%} of the time to first audio is unattributed (p95): read p95 with care")
    lines += _cache(steps[-1].turns)
    return lines


def failures(turns: Sequence[Turn]) -> list[str]:
    """Return how many turns failed of what, the most first."""
    lines = []
    for reason, message, count in errors_of(turns):
        hint = hint_for(reason)
        lines.append(f"{count} turns failed with {reason}: {message}" + (f" ({hint})" if hint else ""))
    return lines


def _of_tool(step: Step, *, many: bool) -> list[str]:
    where = f" at {step.load}" if many else ""
    lines = []
    if step.cut_short:
        waiting = (
            f"; {step.unfinished} were due or begun{where}, and are the slowest" if step.unfinished else ""
        )
        lines.append(CUT_SHORT + waiting)
    if step.warmup_failed:
        lines.append(
            f"{step.warmup_failed} turns of the warm-up failed{where}: what they were to fill is empty"
        )
    if step.late_ms.get("p99", 0.0) > _LATE_MS:
        lines.append(
            f"this tool began turns up to {step.late_ms['max']:.0f} ms late{where} "
            "(counted in `transport`): "
            "give it a machine of its own, or a lower --rate"
        )
    if step.held_back:
        lines.append(
            f"{step.held_back} turns waited in the tool{where}, as {step.most_in_flight} were under way: "
            "the mesh does not keep up with this rate, and what waited is counted"
        )
    elif (
        step.rate_per_s
        and step.summary["turns_per_s"] < 0.8 * step.rate_per_s
        and len(step.turns) > _FEWEST_TURNS
    ):
        lines.append(
            f"{step.rate_per_s:g} turns a second were asked for, {step.summary['turns_per_s']:.1f} answered; "
            f"up to {step.most_in_flight} were under way at once: the mesh does not keep up with this rate"
        )
    return lines


def _underruns(turns: Sequence[Turn]) -> list[str]:
    dry = sum(turn["underruns"] > 0 for turn in turns)
    if not dry:
        return []
    said = f"in {dry} {'turn' if dry == 1 else 'turns'} a player would have run dry: "
    causes = {cause: count for cause, count in underruns_by_cause(turns).items() if cause in _STAGES}
    if causes:
        stage, count = next(iter(causes.items()))
        return [f"{said}{stage} caused {count} of {sum(causes.values())} underruns: {what_helps(stage, '')}"]
    return [f"{said}synthesis or text is slower than speech; {what_helps(Stage.TTS_QUEUE, '')}"]


def _knee(steps: Sequence[Step]) -> list[str]:
    """Say from which load on more callers bring more waiting and hardly more turns."""
    closed = [step for step in steps if step.concurrency and step.summary["ttfa_ms"]["p95"]]
    for before, after in itertools.pairwise(closed):
        gain = after.summary["turns_per_s"] / (before.summary["turns_per_s"] or 1)
        dearer = after.summary["ttfa_ms"]["p95"] / before.summary["ttfa_ms"]["p95"]
        if gain < _KNEE_GAIN and dearer > _KNEE_COST:
            turns_per_s = [each.summary["turns_per_s"] for each in (before, after)]
            ttfa_ms = [each.summary["ttfa_ms"]["p95"] for each in (before, after)]
            said = (
                f"{before.load} are as much as this mesh takes: with {after.load} it answers "
                f"{turns_per_s[0]:.1f} → {turns_per_s[1]:.1f} turns a second, with "
                f"{ttfa_ms[0]:.0f} → {ttfa_ms[1]:.0f} ms to first audio (p95)"
            )
            return [said]
    return []


def _cache(turns: Sequence[Turn]) -> list[str]:
    chunks = [chunk for turn in turns for chunk in turn["chunks"]]
    asked = [turn for turn in turns if turn["reply_cache"] != "off"]
    texts = {chunk["text"] for chunk in chunks}
    if asked and len(texts) < len(chunks) / 2 and all(chunk["cache"] == "miss" for chunk in chunks):
        return ["the same chunks were spoken again and again and none was cached: is the cache there?"]
    again = len(asked) - len({turn["prompt"] for turn in asked})
    hits = sum(turn["reply_cache"] in ("hit", "similar") for turn in asked)
    if asked and again / len(asked) > 2 * _FEW_HITS and hits / len(asked) < _FEW_HITS:
        said = (
            f"{again} of {len(asked)} prompts had been asked before, and {hits} replies came from the cache"
        )
        return [f"{said}: look at its size and lifetimes"]
    return []
