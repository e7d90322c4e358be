"""Whether traces can be believed: mixed turns, many at once, and every span that came of them.

    python -m benchmarks.trace_edges [--turns 500] [--concurrency 20] [--json]

The turns are those of `benchmarks.attribution`, but that each answer begins with a sentence of its own, so
that engines have to speak. All five processes export to a receiver of OTLP in a process of its own; the mesh
is stopped, so that everything has come, and then looked at:

- no span whose parent never came, in another turn's trace, or that began before its parent,
- in each turn's trace every edge that its sort, and what its report says was done, must have,
- on each root the stages, and what is unattributed, add up to the time to first audio.

The exit status is 1 where one of these does not hold.
"""

import argparse
import asyncio
import dataclasses
import json
import pathlib
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from benchmarks import mixed_turns
from benchmarks.mixed_turns import MixedTurn
from gateway.core.invariant import TOLERANCE_US
from tests.support.otlp import ReceivedSpan, otlp_process, spans_of_line
from tests.support.trace_edges import CHUNKED, LOOKED, Edge, asked, edges_of, faults_of, spoken
from voicemesh.client import TurnReport
from voicemesh.runtime import trace_names as names
from voicemesh.stages import Stage

_MODEL: Final = "large"
_ENGINE: Final = "simulated"
_FROM_THE_LLM: Final = ("off", "miss")
_FROM_AN_ENGINE: Final = ("off", "miss")
_TOLERANCE_MS: Final = TOLERANCE_US / 1000


def expected(turn: MixedTurn) -> set[Edge]:
    """Return the edges that the trace of a turn must have."""
    report = turn.report
    edges = set(LOOKED)
    if turn.sort == mixed_turns.OWN_WORDS:
        edges.update(CHUNKED)
    elif report.reply_cache in _FROM_THE_LLM:
        edges.update(asked(_MODEL))
    # Heard, and not found: an engine spoke it. What was asked for and never heard may have been cut short.
    if any(chunk.cache in _FROM_AN_ENGINE and chunk.first_frame_ms for chunk in report.chunks):
        edges.update(spoken(_ENGINE))
    return edges


def adds_up(root: ReceivedSpan) -> bool:
    """Return whether the stages on the span of a turn are its time to first audio."""
    stages = [root.attributes.get(names.stage_ms(stage.value), 0.0) for stage in Stage]
    whole_ms = sum(stages) + root.attributes[names.UNATTRIBUTED_MS]
    return bool(abs(whole_ms - root.attributes[names.TTFA_MS]) <= _TOLERANCE_MS)


def looked_at(turns: Sequence[MixedTurn], spans: Sequence[ReceivedSpan]) -> dict[str, Any]:
    """Return the figures."""
    traces: defaultdict[str, list[ReceivedSpan]] = defaultdict(list)
    for span in spans:
        traces[span.trace_id].append(span)
    faults = faults_of(spans, (turn.report for turn in turns))
    missing: Counter[str] = Counter()
    sorts: dict[str, Any] = {}
    for sort in mixed_turns.SORTS:
        own = [turn for turn in turns if turn.sort == sort]
        wanted = 0
        for turn in own:
            edges = expected(turn)
            wanted += len(edges)
            for parent, child in edges - edges_of(traces[turn.report.trace_id]):
                missing[f"{sort}: {parent[1]} → {child[1]} ({child[0]})"] += 1
        sorts[sort] = {
            "turns": len(own),
            "outcomes": dict(Counter(turn.report.outcome for turn in own)),
            "spans_a_turn": round(sum(len(traces[t.report.trace_id]) for t in own) / max(1, len(own)), 1),
            "edges_expected": wanted,
        }
    roots = [span for span in spans if span.name == names.TURN_SPAN]
    heard = [root for root in roots if root.attributes.get(names.TTFA_MS)]
    return {
        "turns": len(turns),
        "spans": len(spans),
        "sorts": sorts,
        **{fault: len(getattr(faults, fault)) for fault in (f.name for f in dataclasses.fields(faults))},
        "edges_missing": dict(missing),
        "heard": len(heard),
        "stages_do_not_add_up": sum(not adds_up(root) for root in heard),
        "reports_of_another_time": _differ(turns, heard),
    }


def _differ(turns: Iterable[MixedTurn], heard: Iterable[ReceivedSpan]) -> int:
    """Return how many roots tell other stages than the report that the caller got."""
    reports: dict[str, TurnReport] = {turn.report.trace_id: turn.report for turn in turns}
    told = 0
    for root in heard:
        report = reports[root.trace_id]
        told += any(
            abs(root.attributes.get(names.stage_ms(stage), 0.0) - duration_ms) > _TOLERANCE_MS
            for stage, duration_ms in report.stages.items()
            if stage != Stage.TRANSPORT.value  # the caller's has the way to the caller, too
        )
    return told


def is_right(result: dict[str, Any]) -> bool:
    """Return whether nothing is wrong."""
    wrong = ("orphans", "foreign", "rootless", "early", "edges_missing", "stages_do_not_add_up")
    return not any(result[name] for name in wrong) and result["heard"] > 0


async def measure(turns: int, concurrency: int) -> dict[str, Any]:
    """Run the turns; return the figures."""
    with (
        tempfile.TemporaryDirectory(prefix="vm-") as folder,
        otlp_process(pathlib.Path(folder)) as (endpoint, file),
    ):
        environment = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
            "OTEL_BSP_MAX_QUEUE_SIZE": "20000",
            "VOICEMESH_LLM_MODEL": _MODEL,
        }
        ran = await mixed_turns.run(turns, concurrency, mixed_turns.answer_anew(), environment)
        with file.open(encoding="utf-8") as lines:
            spans = [span for line in lines for span in spans_of_line(line)]
    return looked_at(ran, spans)


def _print(result: dict[str, Any]) -> None:
    print(f"{result['turns']} turns, {result['spans']} spans")
    print(f"{'':<16} {'turns':>6} {'spans a turn':>13} {'edges':>7}  outcomes")
    for sort, row in result["sorts"].items():
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in row["outcomes"].items())
        print(
            f"{sort:<16} {row['turns']:6} {row['spans_a_turn']:13.1f} {row['edges_expected']:7}  {outcomes}"
        )
    print(f"\nspans whose parent never came           {result['orphans']}")
    print(f"spans in a foreign trace                {result['foreign']}")
    print(f"traces without the span of their turn   {result['rootless']}")
    print(f"spans that began before their parent    {result['early']}")
    print(f"expected edges that are missing         {sum(result['edges_missing'].values())}")
    for edge, times in result["edges_missing"].items():
        print(f"  {times:4} {edge}")
    print(f"roots whose stages do not add up        {result['stages_do_not_add_up']} of {result['heard']}")
    print(f"roots that differ from their report     {result['reports_of_another_time']}")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print; return the exit status."""
    parser = argparse.ArgumentParser(description="Whether traces can be believed.")
    parser.add_argument("--turns", type=int, default=500, help="mixed turns")
    parser.add_argument("--concurrency", type=int, default=20, help="so many of them at once")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    arguments = parser.parse_args(argv)
    result = asyncio.run(measure(arguments.turns, arguments.concurrency))
    if arguments.json:
        json.dump(result, sys.stdout, indent=2)
    else:
        _print(result)
    return 0 if is_right(result) else 1


if __name__ == "__main__":
    sys.exit(main())
