"""The result of a bench: one document in JSON form, and what of it is shown in a terminal."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from voicemesh.cli.bench import BenchRun
from voicemesh.cli.bench_advice import advice
from voicemesh.cli.bench_figures import KINDS, UNATTRIBUTED, Turn, summarise
from voicemesh.cli.bench_loads import Step
from voicemesh.cli.bench_options import BenchOptions, as_json_config
from voicemesh.cli.compare import each_of
from voicemesh.cli.console import print_table, table_of
from voicemesh.cli.exits import usage
from voicemesh.cli.machine import busy, versions
from voicemesh.cli.stats import percentiles
from voicemesh.stages import STAGES

_TIMES: Final = (("ttft_ms", "first text"), ("ttfa_ms", "first audio"), ("total_ms", "whole turn"))
_OLD_STEP: Final[Mapping[str, Any]] = {
    "late_ms": dict.fromkeys(("p50", "p95", "p99", "max"), 0.0),
    "unfinished": 0,
    "most_in_flight": 0,
    "held_back": 0,
    "warmup_failed": 0,
    "loop_late_ms": dict.fromkeys(("p50", "p95", "p99", "max"), 0.0),
    "tenant": "",
}
"""What is not known of a load where runs were saved without it."""


def document(
    steps: Sequence[tuple[BenchOptions, BenchRun]], on: Mapping[str, Any], began: str = ""
) -> dict[str, Any]:
    """Return what `bench --json` prints: every turn, the summary of all, and of each load.

    Args:
        steps: Each load, and what came of it.
        on: The machine, as it was before the run.
        began: When, in ISO form.

    """
    turns = [turn.to_json(place) for place, (_, run) in enumerate(steps) for turn in run.turns]
    options = steps[0][0]
    cut_short = any(run.cut_short for _, run in steps)
    config = as_json_config(options, cut_short=cut_short)
    if len(steps) > 1:
        several = {name: [getattr(each, name) for each, _ in steps] for name in ("concurrency", "rate_per_s")}
        config |= {"turns": sum(each.turns for each, _ in steps), "concurrency": None, "rate_per_s": None}
        config["sweep"] = several["concurrency"] if options.rate_per_s is None else several["rate_per_s"]
    made = [_step_json(each, run, place) for place, (each, run) in enumerate(steps)]
    result = {
        "turns": turns,
        "summary": summarise(turns, sum(run.wall_s for _, run in steps)),
        "steps": made,
        "config": {**config, "began": began},
        "versions": versions(),
        "machine": on,
    }
    said = advice(steps_of(result))
    return {**result, "advice": [*said, *filter(None, [busy(on)])]}


def _step_json(options: BenchOptions, run: BenchRun, place: int) -> dict[str, Any]:
    late_ms = [turn.late_ms for turn in run.turns if turn.due_s is not None]
    return {
        "load": options.load,
        "loop": "closed" if options.rate_per_s is None else "open",
        "concurrency": options.concurrency if options.rate_per_s is None else None,
        "rate_per_s": options.rate_per_s,
        "turns": options.turns,
        "summary": summarise([turn.to_json(place) for turn in run.turns], run.wall_s),
        "late_ms": _spread(late_ms),
        "unfinished": run.unfinished,
        "most_in_flight": run.most_in_flight,
        "held_back": run.held_back,
        "cut_short": run.cut_short,
        "warmup_failed": run.warmup_failed,
        "loop_late_ms": _spread(run.loop_late_ms),
        "tenant": options.tenant,
    }


def _spread(values_ms: Sequence[float]) -> dict[str, float]:
    return {**percentiles(values_ms), "max": round(max(values_ms, default=0.0), 3)}


def steps_of(result: Mapping[str, Any]) -> list[Step]:
    """Return the loads of a document, with their turns; one for a document without any."""
    config = result["config"]
    made = result.get("steps") or [
        {
            "load": f"{config['concurrency']} callers" if config.get("concurrency") else "the run",
            "concurrency": config.get("concurrency"),
            "rate_per_s": config.get("rate_per_s"),
            "summary": result["summary"],
            "cut_short": config.get("cut_short", False),
            **_OLD_STEP,
        }
    ]
    return [
        Step(
            load=each["load"],
            concurrency=each["concurrency"],
            rate_per_s=each["rate_per_s"],
            summary=each["summary"],
            turns=[turn for turn in result["turns"] if turn.get("run", {}).get("step", 0) == place],
            late_ms=each["late_ms"],
            unfinished=each["unfinished"],
            most_in_flight=each["most_in_flight"],
            held_back=each["held_back"],
            cut_short=each["cut_short"],
            warmup_failed=each["warmup_failed"],
            loop_late_ms=each.get("loop_late_ms", _OLD_STEP["loop_late_ms"]),
            tenant=each.get("tenant", ""),
        )
        for place, each in enumerate(made)
    ]


@dataclass(frozen=True)
class Recorded:
    """A run that was saved.

    Attributes:
        name: Where it was found.
        result: The document.

    """

    name: str
    result: Mapping[str, Any]

    @property
    def turns(self) -> Sequence[Turn]:
        """Its turns; of a comparison, none."""
        turns = self.result["turns"]
        return turns if isinstance(turns, list) else ()

    @property
    def by_load(self) -> Mapping[str, Sequence[Turn]]:
        """Its turns by load; under "" where loads are not known."""
        if "summary" not in self.result or not self.turns:
            return {"": self.turns}
        found: dict[str, Sequence[Turn]] = {}
        for step in steps_of(self.result):
            # Latency tests and one concurrent client are the same load twice.
            found[step.load if step.load not in found else f"{step.load}, again"] = step.turns
        return found


def read(path: Path, option: str) -> Recorded:
    """Read what `bench --json` printed. Raises Failure, which names the option."""
    refused = usage(f"{option}: {path} is not what `voicemesh bench --json` prints, or has no turn in it")
    try:
        result = json.loads(path.read_bytes())
        turns = result["turns"]
        if isinstance(turns, dict):  # a comparison
            outcomes = [turn["outcome"] for letter in "ab" for turn in turns[letter]]
            for _, each in each_of(result["compare"]):
                each["metrics"]["ttfa_ms"]["sentence"]
        else:
            outcomes = [turn["outcome"] for turn in turns]
            if "summary" in result:
                steps_of(result)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise refused from None
    if not outcomes:
        raise refused
    return Recorded(str(path), result)


def show(console: Console, result: Mapping[str, Any]) -> None:
    """Print the summary and the advice."""
    steps = steps_of(result)
    if len(steps) > 1:
        _show_sweep(console, steps)
    else:
        _show_times(console, result["summary"])
    console.print()
    summary = result["summary"]
    outcomes = Counter(turn["outcome"] for turn in result["turns"])
    console.print(
        f"{summary['turns']} turns in {summary['wall_s']:.1f} s ({summary['turns_per_s']:.1f} a second): "
        f"{outcomes['completed']} completed, {outcomes['interrupted']} interrupted, "
        f"{summary['errors']} failed"
    )
    _show_arrivals(console, steps)
    hits = [
        f"{found['hit']} of {sum(found.values())} {what}"
        + (f" ({found['similar']} more by similarity)" if found.get("similar") else "")
        for what, found in (
            ("replies", summary["lookups"]["reply"]),
            ("chunks of audio", summary["lookups"]["audio"]),
        )
    ]
    console.print(f"underruns {summary['underruns']} · from the cache: {', '.join(hits)}")
    if summary["degraded"]:
        counts = ", ".join(f"{what} in {count} turns" for what, count in summary["degraded"].items())
        stand_in = " (stand-ins' replies are not cached)" if "model" in summary["degraded"] else ""
        console.print(f"given up: {counts}{stand_in}", markup=False)
    for line in cost_lines(summary):
        console.print(line, markup=False)
    for line in result.get("advice") or advice(steps):
        console.print(f"→ {line}", markup=False)


def _show_times(console: Console, summary: Mapping[str, Any]) -> None:
    table = table_of("milliseconds", "p50", "p95", "p99", left=1)
    for column in table.columns[1:]:
        column.min_width = 9
    kinds = {kind: times for kind, times in summary["by_cache"].items() if times["turns"]}
    for name, title in _TIMES:
        table.add_row(title, *_cells(summary[name]), style="bold")
        if len(kinds) > 1:
            for kind, times in kinds.items():
                table.add_row(f"  {KINDS[kind]} ({times['turns']})", *_cells(times[name]))
    for stage in STAGES:
        row = summary["stages"][stage.value]
        table.add_row(f"  {stage.value}", *_cells(row), style="" if row["p99"] else "dim")
    if row := summary.get(UNATTRIBUTED):  # runs were saved without it
        table.add_row(f"  {UNATTRIBUTED}", *_cells(row), style="" if row["p99"] else "dim")
    print_table(console, table)


def _show_sweep(console: Console, steps: Sequence[Step]) -> None:
    table = table_of("load", "turns/s", "p50", "p95", "p99", "errors", "dry", "largest at p95", left=1)
    console.print("time to first audio, in milliseconds, by load")
    for step in steps:
        summary = step.summary
        largest = max(summary["stages"], key=lambda name: summary["stages"][name]["p95"])
        table.add_row(
            step.load,
            f"{summary['turns_per_s']:.1f}",
            *(f"{summary['ttfa_ms'][name]:.0f}" for name in ("p50", "p95", "p99")),
            str(summary["errors"]),
            str(summary["underruns"]),
            f"{largest} {summary['stages'][largest]['p95']:.0f}",
        )
    print_table(console, table)


def _show_arrivals(console: Console, steps: Sequence[Step]) -> None:
    for step in steps:
        if step.rate_per_s:
            late = step.late_ms
            console.print(
                f"at {step.load}: up to {step.most_in_flight} under way at once, {step.held_back} held back; "
                f"begun late by {late['p50']:.1f} ms (p50), {late['max']:.1f} ms at most"
            )


def cost_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return what a run cost and what was saved, a line each; none where nobody charges for anything."""
    cost = summary["cost"]
    lines = []
    if summary["cost_usd"] or cost["saved_usd"]:
        lines.append(
            f"cost ${summary['cost_usd']:.4f} "
            f"(llm ${cost['llm_usd']:.4f}, speech ${cost['speech_usd']:.4f}): "
            f"${cost['per_turn_usd']:.6f} a turn, ${cost['per_1000_turns_usd']:.2f} for 1,000"
        )
    saved = []
    if cost["saved_usd"]:
        saved.append(f"${cost['saved_usd']:.4f} by the cache ({cost['saved_share']:.0%})")
    if cost["prompt_cache_saved_usd"]:
        saved.append(f"${cost['prompt_cache_saved_usd']:.4f} by the provider's prompt cache")
    if saved:
        lines.append(f"saved {', '.join(saved)}")
    if cost["unpriced"]:
        lines.append(
            f"{cost['unpriced_turns']} turns had something without a price: {', '.join(cost['unpriced'])}"
        )
    return lines


def _cells(row: Mapping[str, float]) -> list[str]:
    return [f"{row[name]:.2f}" for name in ("p50", "p95", "p99")]
