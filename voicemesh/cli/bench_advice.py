"""What the numbers of a bench say, and what to do about it. Every line names the number it is drawn from."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Final

from voicemesh.cli.bench_figures import (
    BY_DESIGN,
    CALLER,
    Turn,
    errors_of,
    loose_share,
    underruns_by_cause,
)
from voicemesh.cli.bench_loads import Step
from voicemesh.cli.bench_slow import waits
from voicemesh.cli.bench_tool import mixed_caches, of_tool
from voicemesh.cli.failures import hint_for
from voicemesh.critical_path.causes import advice as what_helps
from voicemesh.stages import STAGES, Stage

_FEW_HITS: Final = 0.25
_KNEE_GAIN: Final = 1.15
_KNEE_COST: Final = 1.5
_STAGES: Final = frozenset(stage.value for stage in STAGES)
_MANY_GAVE_UP: Final = 0.05
"""Share of turns that gave something up from which on it is said."""
GIVEN_UP: Final = {
    "cache": (
        "an answer of the cache came later than VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS, or not at all: the turn "
        "went on without it"
    ),
    "history": (
        "the session's history did not come in that time: the turn went on without it, or with the gateway's "
        "copy"
    ),
    "model": "another model than the first one answered; what a stand-in said is not cached",
    "resumed": "a model or a replica was lost in the middle, and another one went on",
    "voice": "another voice spoke than the one that was asked for",
    "local_speech": "no voice could speak, and the caller was told to speak by itself",
}
"""What it means that a turn gave something up."""


def advice(steps: Sequence[Step]) -> list[str]:
    """Return what the numbers of every load, lightest first, say: most urgent first."""
    turns = [turn for step in steps for turn in step.turns]
    lines = failures(turns)
    lines += [line for step in steps for line in of_tool(step, many=len(steps) > 1)]
    lines += _underruns(turns)
    lines += _knee(steps)
    lines += waits([(step.load, step.turns) for step in steps])
    loose = loose_share(turns)
    if loose > 0.01:
        lines.append(f"{loose:.1%} of the time to first audio is unattributed (p95): read p95 with care")
    for step in steps:
        lines += _cache(step, f" at {step.load}" if len(steps) > 1 else "")
    if mixed := mixed_caches(steps):
        lines.append(
            f"{mixed}: their curve is of that too; --no-cache asks for everything anew, and --mix "
            "cached=SHARE gives each load the same share"
        )
    return lines


def failures(turns: Sequence[Turn]) -> list[str]:
    """Return how many turns failed of what, the most first."""
    lines = []
    for reason, limit, message, count in errors_of(turns):
        hint = hint_for(reason)
        why = f"{reason} ({limit})" if limit else reason
        lines.append(f"{count} turns failed with {why}: {message}" + (f" ({hint})" if hint else ""))
    return lines


def _underruns(turns: Sequence[Turn]) -> list[str]:
    dry = sum(turn["underruns"] > 0 for turn in turns)
    if not dry:
        return []
    said = f"in {dry} {'turn' if dry == 1 else 'turns'} a player would have run dry: "
    found = underruns_by_cause(turns)
    causes = {cause: count for cause, count in found.items() if cause in _STAGES}
    if causes:
        stage, count = next(iter(causes.items()))
        return [f"{said}{stage} caused {count} of {sum(found.values())} underruns: {what_helps(stage, '')}"]
    if CALLER in found or BY_DESIGN in found:
        return []  # the one is told of the tool, and of the other nobody lost anything
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


def _cache(step: Step, where: str) -> list[str]:
    turns = step.turns
    chunks = [chunk for turn in turns for chunk in turn["chunks"]]
    asked = [turn for turn in turns if turn["reply_cache"] != "off"]
    given_up = _given_up(turns, where)
    if given_up:
        return given_up  # what was not found there says nothing of what it holds
    texts = {chunk["text"] for chunk in chunks}
    if asked and len(texts) < len(chunks) / 2 and all(chunk["cache"] == "miss" for chunk in chunks):
        return [
            f"the same chunks were spoken again and again{where} and none was cached: is the cache there?"
        ]
    again = len(asked) - len({turn["prompt"] for turn in asked})
    hits = sum(turn["reply_cache"] in ("hit", "similar") for turn in asked)
    if asked and again / len(asked) > 2 * _FEW_HITS and hits / len(asked) < _FEW_HITS:
        said = (
            f"{again} of {len(asked)} prompts had been asked before{where}, and {hits} replies came from the "
            "cache"
        )
        return [f"{said}: look at its size and lifetimes"]
    return []


def _given_up(turns: Sequence[Turn], where: str) -> list[str]:
    """Say that turns went on without the cache, which is there and was too slow."""
    counted = Counter(what for turn in turns for what in set(turn["degraded"]) & {"cache", "history"})
    if not counted or max(counted.values()) < _MANY_GAVE_UP * len(turns):
        return []
    told = " and ".join(f"{what} in {count}" for what, count in counted.most_common())
    line = (
        f"of {len(turns)} turns{where} some went on without the cache: {told}; it was slower than "
        "VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS (20 unless set) or not there: give it and its Redis CPU, or wait "
        "longer for it"
    )
    return [line]
