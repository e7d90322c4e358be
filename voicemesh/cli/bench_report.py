"""The summary of a bench run: numbers, a table, and advice drawn from the numbers."""

import json
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from voicemesh.cli.bench import BenchOptions, BenchRun, as_json_config
from voicemesh.cli.stats import percentile, percentiles
from voicemesh.client import TurnReport
from voicemesh.stages import STAGES, Stage

_LATE_MS: Final = 10.0
_MOSTLY: Final = 0.5
CUT_SHORT: Final = "the time limit ended the run: turns that had not ended are not counted"

_ADVICE: Final = {
    Stage.ADMISSION: "turns wait to be let in: the gateway is at its limit, add gateways or lower the load",
    Stage.HISTORY: "reading the session's history is slow: look at the cache and its Redis",
    Stage.REPLY_CACHE: "looking for cached replies is slow: look at the cache and its Redis",
    Stage.LLM_CONNECT: "the provider is slow to answer at all: look at the network to it, and its queue",
    Stage.LLM_TTFT: "the model is slow to its first token: shorter prompts, a prompt cache, a smaller model",
    Stage.LLM_TEXT: "chunk 1 waits for its words: a faster model, or --policy words:N for a shorter one",
    Stage.CHUNK_HOLD: "the chunker holds chunk 1 back: try --policy clause or words:N",
    Stage.AUDIO_CACHE: "looking for cached audio is slow: look at the cache and its Redis",
    Stage.TTS_QUEUE: "chunks wait for a replica: add replicas of the voice, or lower the load",
    Stage.TTS_SYNTHESIS: "the engine is slow to its first frame: a faster voice, or a GPU",
    Stage.TRANSPORT: "time is lost between the processes: they may be short of CPU, or far apart",
    Stage.GATEWAY: "the gateway itself is slow: it may be short of CPU",
}


_KINDS: Final = {"reply": "of a cached reply", "audio": "of cached audio", "none": "of nothing cached"}
"""What the first audio of a turn came from."""


def kind_of(report: TurnReport) -> str:
    """Return what the first audio of a turn came from: `reply`, `audio` or `none`.

    `reply`: the reply was cached, `audio`: the first chunk's audio was, `none`: neither.
    """
    if report.reply_cache in ("hit", "similar"):
        return "reply"
    return "audio" if report.chunks and report.chunks[0].cache not in ("miss", "off") else "none"


def summarise(run: BenchRun) -> dict[str, Any]:
    """Return the summary in JSON form.

    Times are percentiles over the turns that have them: TTFT over turns with text, TTFA and stages
    over turns with audio, total over turns that were completed. `by_cache` has them for the turns with
    audio by what it came from: a mixture of cached and other turns has percentiles of neither. `degraded`
    counts turns by what they gave up.
    """
    reports = run.reports
    heard = [report for report in reports if report.ttfa_ms > 0]
    chunks = [chunk for report in reports for chunk in report.chunks]
    hits = sum(chunk.cache != "miss" for chunk in chunks)
    asked = [report.reply_cache for report in reports if report.reply_cache != "off"]
    return {
        "turns": len(reports),
        "errors": sum(report.outcome == "failed" for report in reports),
        "wall_s": round(run.wall_s, 3),
        "turns_per_s": round(len(reports) / run.wall_s, 3) if run.wall_s else 0.0,
        "ttft_ms": percentiles([report.ttft_ms for report in reports if report.ttft_ms > 0]),
        "ttfa_ms": percentiles([report.ttfa_ms for report in heard]),
        "total_ms": percentiles([report.total_ms for report in reports if report.outcome == "completed"]),
        "stages": {
            stage.value: percentiles([report.stages.get(stage, 0.0) for report in heard]) for stage in STAGES
        },
        "by_cache": {kind: _times([r for r in heard if kind_of(r) == kind]) for kind in _KINDS},
        "underruns": sum(report.underruns for report in reports),
        "degraded": dict(Counter(what for report in reports for what in set(report.degraded)).most_common()),
        "lookups": {
            "reply": {outcome: asked.count(outcome) for outcome in ("hit", "similar", "miss")},
            "audio": {"hit": hits, "miss": len(chunks) - hits},
        },
        "hit_rate": {
            "reply": _share(asked.count("hit"), len(asked)),
            "audio": _share(hits, len(chunks)),
        },
        "cost_usd": sum(report.cost.total_usd for report in reports),
        "cost": _cost(reports),
    }


def _cost(reports: Sequence[TurnReport]) -> dict[str, Any]:
    """Return what the run cost and what caches saved, in US dollars, as far as it has prices."""
    sums = {
        name: sum(getattr(report.cost, name) for report in reports)
        for name in ("llm_usd", "speech_usd", "saved_usd", "prompt_cache_saved_usd")
    }
    total = sums["llm_usd"] + sums["speech_usd"]
    without = total + sums["saved_usd"] + sums["prompt_cache_saved_usd"]
    each = total / len(reports) if reports else 0.0
    return {
        **sums,
        "per_turn_usd": each,
        "per_1000_turns_usd": 1000 * each,
        "saved_share": _share(sums["saved_usd"], without),
        "unpriced": sorted({name for report in reports for name in report.cost.unpriced}),
        "unpriced_turns": sum(bool(report.cost.unpriced) for report in reports),
        "estimated_turns": sum(report.cost.estimated for report in reports),
    }


def _times(reports: Sequence[TurnReport]) -> dict[str, Any]:
    return {
        "turns": len(reports),
        "ttft_ms": percentiles([report.ttft_ms for report in reports if report.ttft_ms > 0]),
        "ttfa_ms": percentiles([report.ttfa_ms for report in reports]),
        "total_ms": percentiles([report.total_ms for report in reports if report.outcome == "completed"]),
    }


def to_json(options: BenchOptions, run: BenchRun) -> str:
    """Return the whole run as one JSON object."""
    return json.dumps(
        {
            "turns": [report.to_json() for report in run.reports],
            "summary": summarise(run),
            "config": as_json_config(options, run),
            "versions": versions(),
        }
    )


def versions() -> dict[str, str]:
    """Return what the run was made with."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in ("voicemesh", "grpcio", "protobuf"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def show(console: Console, run: BenchRun) -> None:
    """Print the summary and the advice."""
    summary = summarise(run)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("milliseconds")
    for name in ("p50", "p95", "p99"):
        table.add_column(name, justify="right", min_width=9)
    kinds = {kind: times for kind, times in summary["by_cache"].items() if times["turns"]}
    for name, title in (("ttft_ms", "first text"), ("ttfa_ms", "first audio"), ("total_ms", "whole turn")):
        table.add_row(title, *_cells(summary[name]), style="bold")
        if len(kinds) > 1:
            for kind, times in kinds.items():
                table.add_row(f"  {_KINDS[kind]} ({times['turns']})", *_cells(times[name]))
    for stage in STAGES:
        row = summary["stages"][stage.value]
        table.add_row(f"  {stage.value}", *_cells(row), style="" if row["p99"] else "dim")
    console.print(table)
    console.print()
    outcomes = Counter(report.outcome for report in run.reports)
    console.print(
        f"{summary['turns']} turns in {summary['wall_s']:.1f} s ({summary['turns_per_s']:.1f} a second): "
        f"{outcomes['completed']} completed, {outcomes['interrupted']} interrupted, "
        f"{summary['errors']} failed"
    )
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
    for line in _cost_lines(summary):
        console.print(line, markup=False)
    for line in advice(run):
        console.print(f"→ {line}")


def _cost_lines(summary: dict[str, Any]) -> list[str]:
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


def advice(run: BenchRun) -> list[str]:
    """Return what the numbers say, most urgent first."""
    reports = run.reports
    lines = failures(reports)
    if run.cut_short:
        lines.append(CUT_SHORT)
    if percentile(run.late_ms, 0.99) > _LATE_MS:
        lines.append(
            f"this tool began turns up to {max(run.late_ms):.0f} ms late (counted in `transport`): "
            "give it a machine of its own, or a lower --rate"
        )
    dry = sum(report.underruns > 0 for report in reports)
    if dry:
        lines.append(
            f"in {dry} turns a player would have run dry: synthesis or text is slower than speech; "
            "add replicas of the voice, or lower the load"
        )
    heard = [report for report in reports if report.ttfa_ms > 0]
    lines += _slowest_stage(heard)
    loose = percentile([abs(report.unattributed_ms) / report.ttfa_ms for report in heard], 0.95)
    if loose > 0.01:
        lines.append(f"{loose:.1%} of the time to first audio is unattributed (p95): read p95 with care")
    chunks = [chunk for report in reports for chunk in report.chunks]
    texts = Counter(chunk.text for chunk in chunks)
    cached = run.reports and any(report.reply_cache != "off" for report in reports)
    if cached and len(texts) < len(chunks) / 2 and all(chunk.cache == "miss" for chunk in chunks):
        lines.append("the same chunks were spoken again and again and none was cached: is the cache there?")
    return lines


def failures(reports: Iterable[TurnReport]) -> list[str]:
    """Return how many turns failed of what, the most first."""
    return [f"{count} turns failed with {reason}: {message}" for (reason, message), count in _errors(reports)]


def _slowest_stage(heard: Sequence[TurnReport]) -> list[str]:
    if not heard:
        return []
    sums = {stage: sum(report.stages.get(stage, 0.0) for report in heard) for stage in STAGES}
    whole = sum(report.ttfa_ms for report in heard)
    slowest = max(sums, key=sums.__getitem__)
    share = sums[slowest] / whole
    urgency = "most" if share > _MOSTLY else "the largest part"
    return [f"{slowest.value} is {urgency} of the time to first audio ({share:.0%}): {_ADVICE[slowest]}"]


def _errors(reports: Iterable[TurnReport]) -> list[tuple[tuple[str, str], int]]:
    counted: Counter[str] = Counter()
    first: dict[str, str] = {}
    for report in reports:
        if report.error is not None:
            counted[report.error.reason] += 1
            first.setdefault(report.error.reason, report.error.message)
    return [((reason, first[reason]), count) for reason, count in counted.most_common()]


def _cells(row: dict[str, float]) -> list[str]:
    return [f"{row[name]:.2f}" for name in ("p50", "p95", "p99")]


def _share(part: float, whole: float) -> float:
    return round(part / whole, 4) if whole else 0.0
