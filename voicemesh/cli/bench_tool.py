"""What a bench says of itself: where it, its machine or the network was late, and not the mesh."""

from collections.abc import Sequence
from typing import Final

from voicemesh.cli.bench_figures import (
    CALLER,
    behind_the_gateway_ms,
    late_behind_the_gateway_ms,
    underruns_by_cause,
)
from voicemesh.cli.bench_loads import Step, arrivals_of

_LATE_MS: Final = 10.0
_UNLIKE_RATES: Final = 0.1
"""Difference of hit rates from which on loads are not alike."""
CUT_SHORT: Final = "the run was ended before its turns had: those that had not ended are not counted"


def of_tool(step: Step, *, many: bool) -> list[str]:
    """Return what is to be known of a load before its figures are read.

    Args:
        step: The load.
        many: True where it is one of several, and has to be named.

    """
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
    lines += _dry_here(step, where) or _loop(step, where)
    if step.held_back:
        lines.append(
            f"{step.held_back} turns waited in the tool{where}, as {step.most_in_flight} were under way: "
            "the mesh does not keep up with this rate, and what waited is counted"
        )
    elif (came := arrivals_of(step)) is not None and came.falls_behind:
        lines.append(
            f"while turns came{where}, {came.asked_per_s:.1f} a second, {came.answered_per_s:.1f} a second "
            f"were answered, and those under way rose from {came.under_way[0]} to {came.under_way[1]}: "
            "the mesh does not keep up with this rate"
        )
    return lines


def _dry_here(step: Step, where: str) -> list[str]:
    """Say that players ran dry although the gateway had sent in time."""
    count = underruns_by_cause(step.turns).get(CALLER, 0)
    if not count:
        return []
    line = (
        f"{CALLER} caused {count} of {step.summary['underruns']} underruns{where} "
        f"({late_behind_the_gateway_ms(step.turns):.0f} ms in sum): the gateway had sent in time, and this "
        "tool's machine or the network was late"
    )
    known = [
        f"{said} by up to {most_ms:.0f} ms"
        for said, most_ms in (
            ("the first audio on its way here", max(map(behind_the_gateway_ms, step.turns), default=0.0)),
            ("this tool's event loop", step.loop_late_ms["max"]),
        )
        if most_ms > _LATE_MS
    ]
    if known:
        line += f" ({', '.join(known)})"
    return [f"{line}: give the tool a machine of its own, or a lower load; replicas would change nothing"]


def _loop(step: Step, where: str) -> list[str]:
    """Say that the tool's own event loop was late: every time that it took is of that too."""
    if step.loop_late_ms["p99"] <= _LATE_MS:
        return []
    line = (
        f"this tool's event loop was late{where}, by {step.loop_late_ms['p99']:.0f} ms (p99) and up to "
        f"{step.loop_late_ms['max']:.0f} ms: its machine is short of CPU, and times are of that too; give "
        "it a machine of its own, or a lower load"
    )
    return [line]


def mixed_caches(steps: Sequence[Step]) -> str:
    """Say that loads found different shares in the cache, so that their curve compares hits with misses."""
    rates = [
        (step.load, step.summary["hit_rate"], sum(step.summary["lookups"]["reply"].values()))
        for step in steps
    ]
    for kind, what in (("reply", "replies"), ("audio", "audio")):
        shares = [rate[kind] for _, rate, asked in rates if asked]
        if shares and max(shares) - min(shares) >= _UNLIKE_RATES:
            told = ", ".join(f"{rate[kind]:.0%} at {load}" for load, rate, asked in rates if asked)
            return f"the loads found different shares of their {what} in the cache: {told}"
    return ""
