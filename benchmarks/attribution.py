"""Whether the attribution of turns can be believed.

    python -m benchmarks.attribution [--turns 500] [--concurrency 20] [--delayed 15] [--json]

1. Mixed turns (new, cached, interrupted, of an engine that fails, of a slow LLM, the caller's own words),
   many at once: the share of them of which the invariant holds, and the share of a turn's time that has an
   owner, at its worst percentile.
2. Each stage in turn is made slower by 100 ms, from outside: how much of that the right stage is blamed for.
3. What the check of a turn costs the gateway.
"""

import argparse
import asyncio
import json
import sys
import timeit
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import mixed_turns
from benchmarks.meshes import percentile
from gateway.core import events as on
from gateway.core.invariant import TOLERANCE_US, violations
from gateway.core.report import TurnReport as CoreReport
from gateway.core.turn import TurnEngine
from gateway.core.values import Chunk, Message, TurnSpec
from tests.support.injected_delays import DELAY_MS, DELAYS, measure, running_lab
from voicemesh.client import TurnReport
from voicemesh.runtime.clock import ManualClock

_TOLERANCE_MS: Final = TOLERANCE_US / 1000


@dataclass(frozen=True)
class Mixed:
    """What came of the mixed turns."""

    reports: list[TurnReport]
    kinds: Counter[str]
    heard: list[TurnReport]
    holding: int
    explained: list[float]
    """Percent of each turn's time to first audio that has an owner."""

    def to_json(self) -> dict[str, Any]:
        """Return the figures."""
        return {
            "turns": len(self.reports),
            "kinds": dict(self.kinds),
            "outcomes": dict(Counter(report.outcome for report in self.reports)),
            "heard": len(self.heard),
            "invariant_percent": 100 * self.holding / len(self.reports),
            "explained_percent_p1": percentile(self.explained, 1),
            "later_chunks": sum(chunk.slack_ms is not None for r in self.heard for chunk in r.chunks),
            "underruns": sum(chunk.underruns for r in self.heard for chunk in r.chunks),
            "underruns_without_a_cause": sum(
                underrun.cause is None
                for report in self.heard
                for chunk in report.chunks
                for underrun in chunk.underrun_list
            ),
        }


def holds(report: TurnReport) -> bool:
    """Return whether the invariant holds of a turn, as its caller sees it."""
    stages = report.stages.values()
    whole_ms = sum(stages) + report.unattributed_ms
    return (
        abs(whole_ms - report.ttfa_ms) <= _TOLERANCE_MS
        and abs(sum(stages) - report.ttfa_ms) <= max(_TOLERANCE_MS, report.ttfa_ms / 100)
        and all(duration_ms >= 0 for duration_ms in stages)
        and abs(report.unattributed_ms) <= report.ttfa_ms / 100
        and not report.attribution_violations
        and all(
            abs(sum(chunk.stages.values()) + chunk.paced_ms + chunk.unattributed_ms - chunk.path_ms)
            <= _TOLERANCE_MS
            for chunk in report.chunks
        )
    )


async def mixed(turns: int, concurrency: int) -> Mixed:
    """Run mixed turns, so many at once."""
    ran = (await mixed_turns.run(turns, concurrency))[1:]
    reports = [turn.report for turn in ran]
    kinds = Counter(turn.sort for turn in ran)
    heard = [report for report in reports if report.ttfa_ms]
    explained = [100 * (1 - abs(report.unattributed_ms) / report.ttfa_ms) for report in heard]
    return Mixed(reports, kinds, heard, sum(map(holds, reports)), explained)


def check_us(chunks: int) -> float:
    """Return how many microseconds the check of a turn takes that has so many chunks."""
    clock = ManualClock(1)
    spec = TurnSpec(
        turn_id="t",
        session_id="s",
        received_ns=1,
        sample_rate_hz=24_000,
        prompt=Message("user", ("Why?",)),
        reply_cache=False,
        keep_history=False,
    )
    engine = TurnEngine(spec, clock)
    found: list[CoreReport] = []

    def do(event: on.Event) -> None:
        clock.advance_ms(1)
        found.extend(action.report for action in engine.handle(event) if hasattr(action, "report"))

    engine.start()
    do(on.TextArrived("So. " * chunks, 100, 100))
    for index in range(chunks):
        do(on.ChunkCut(Chunk(index, "So. ", 4 * index, 4, "sentence", 0)))
        do(on.AudioMissing(index))
        do(on.FrameMade(index, 0, bytes(960), 1, 1, first=True))
        if not index:
            do(on.FirstFrameSent())
        do(on.ChunkSpoken(index))
    do(on.TextEnded())
    do(on.ChunksEnded())
    (report,) = found
    assert len(report.chunks) == chunks
    times = 2_000
    return min(timeit.repeat(lambda: violations(report), number=times, repeat=5)) / times * 1e6


async def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    turns = await mixed(arguments.turns, arguments.concurrency)
    async with running_lab() as lab:
        blames = [await measure(lab, delay, arguments.delayed) for delay in DELAYS]
    return {
        "mixed": turns.to_json(),
        "delays": [
            {
                "name": blame.delay.name,
                "stage": blame.delay.stage.value,
                "injected_ms": round(blame.injected_ms, 1),
                "blamed_ms": round(blame.blamed_ms, 1),
                "later_ms": round(blame.later_ms, 1),
                "percent": round(100 * blame.share, 1),
            }
            for blame in blames
        ],
        "check_us": {str(chunks): round(check_us(chunks), 1) for chunks in (1, 5, 20)},
    }


def _print(result: dict[str, Any]) -> None:
    turns = result["mixed"]
    print(f"{turns['turns']} mixed turns, {turns['heard']} of them heard: {turns['outcomes']}")
    print(f"  the invariant holds of            {turns['invariant_percent']:.2f}%")
    print(f"  explained, at the 1st percentile  {turns['explained_percent_p1']:.2f}%")
    print(f"  later chunks with a slack         {turns['later_chunks']}")
    print(f"  underruns, without a cause        {turns['underruns']}, {turns['underruns_without_a_cause']}")
    print(f"\n{'slower by ' + str(DELAY_MS) + ' ms':<26} {'stage':<14} injected   blamed    later")
    for row in result["delays"]:
        print(
            f"{row['name']:<26} {row['stage']:<14} {row['injected_ms']:8.1f} {row['blamed_ms']:8.1f} "
            f"{row['later_ms']:8.1f}  {row['percent']:.0f}%"
        )
    costs = ", ".join(f"{us} µs with {chunks} chunks" for chunks, us in result["check_us"].items())
    print(f"\nthe check of a turn takes {costs}")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="Whether the attribution of turns can be believed.")
    parser.add_argument("--turns", type=int, default=500, help="mixed turns")
    parser.add_argument("--concurrency", type=int, default=20, help="so many of them at once")
    parser.add_argument("--delayed", type=int, default=15, help="turns with each delay, and as many without")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    arguments = parser.parse_args(argv)
    result = asyncio.run(_run(arguments))
    if arguments.json:
        json.dump(result, sys.stdout, indent=2)
    else:
        _print(result)


if __name__ == "__main__":
    main()
