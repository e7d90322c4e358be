"""What a run of the harness says about the mesh: ratios to the peers, targets, and every chunk."""

import json
import pathlib
import re
import runpy
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.peers.replies import OWN, WHOLE_IN_HARNESS, Reply, cuts_of, false_splits

US: Final = "voicemesh"
PEERS: Final = {"pipecat": "Pipecat", "livekit": "LiveKit Agents", "realtimetts": "RealtimeTTS"}
LABELS: Final = {
    US: US,
    **PEERS,
    "naive_stream": "cut at every full stop",
    "naive_full": "whole reply at once",
}

BEST_RATIO: Final = 0.75
FRAMEWORK_RATIO: Final = 0.65
CPU_RATIO: Final = 1.5
_TAG: Final = re.compile(rf"{US}-(?P<engine>\w+)-(?P<rep>\d+)-c(?P<level>\d+)-")


@dataclass(frozen=True)
class Run:
    """One run: the harness's results, and what our runner noted."""

    results: Mapping[str, Any]
    replies: Sequence[Reply]
    turns: Mapping[tuple[str, int], Sequence[Mapping[str, Any]]]
    """By engine and level: the accounts of our turns."""
    cpu_s: Mapping[tuple[str, int], Sequence[Mapping[str, float]]]
    """By engine and level: for each repeat, seconds by process."""

    def single(self, engine: str, peer: str) -> dict[int, Mapping[str, float]]:
        """Return by reply what the harness measured of turns one at a time; {} where it did not."""
        cases = self.results["single"].get(engine, {}).get(peer, {})
        return {int(case): values for case, values in cases.items()}

    def ttfa_ms(self, engine: str, peer: str) -> float | None:
        """Return the mean over the replies, one turn at a time."""
        values = [case["ttfa"] for case in self.single(engine, peer).values() if case["ttfa"] is not None]
        return statistics.mean(values) if values else None

    def level(self, engine: str, peer: str, level: int) -> Mapping[str, Any] | None:
        """Return what the harness measured at a level."""
        found: Mapping[str, Any] | None = self.results["sweep"].get(engine, {}).get(peer, {}).get(str(level))
        return found

    def engines(self) -> list[str]:
        """Return the engine modes that were run."""
        return list(self.results["sweep"])

    def levels(self) -> list[int]:
        """Return the levels of ours."""
        return sorted({level for _, level in self.turns})

    def crowds(self) -> list[int]:
        """Return the levels at which many turns start together."""
        return [level for level in self.levels() if level >= 10]

    def peers(self, engine: str) -> list[str]:
        """Return who was run, ours first."""
        return [peer for peer in LABELS if peer in self.results["sweep"].get(engine, {})]


@dataclass(frozen=True)
class Verdict:
    """One target."""

    what: str
    measured: str
    reached: bool


def notes_path(work: pathlib.Path, name: str) -> pathlib.Path:
    """Return where our runner notes its turns."""
    return work / f"notes-{name}.jsonl"


def read(work: pathlib.Path, name: str, *, own_replies: bool) -> Run:
    """Read what a run left in the work folder."""
    suffix = "" if name == "main" else f"-{name}"
    results = json.loads((work / f"results{suffix}.json").read_text(encoding="utf-8"))
    turns: dict[tuple[str, int], list[Any]] = {}
    cpu: dict[tuple[str, int], list[Any]] = {}
    key = ("", 0)
    path = notes_path(work, name)
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        note = json.loads(line)
        if "cpu_s" in note:
            cpu.setdefault(key, []).append(note["cpu_s"])  # of the level whose turns stand before it
        elif tag := _TAG.match(note["turn"]):
            key = (tag["engine"], int(tag["level"]))
            turns.setdefault(key, []).append(note)
    replies = OWN if own_replies else _replies_of_harness(work)
    return Run(results, replies, turns, cpu)


def _replies_of_harness(work: pathlib.Path) -> list[Reply]:
    moved = work / "llm_server_texts_of_harness.py"
    texts = runpy.run_path(str(moved if moved.exists() else work / "llm_server_texts.py"))["REPLIES"]
    return [Reply(text, WHOLE_IN_HARNESS) for text in texts]


# ---- figures ----------------------------------------------------------------------------------------


def our_false_splits(run: Run) -> list[str]:
    """Return the wrong cuts of all our turns, each once."""
    found: dict[str, None] = {}
    for note in (note for notes in run.turns.values() for note in notes):
        reply = run.replies[note["case"]]
        cuts = [offset + length for offset, length in note["offsets"]][:-1]
        found |= dict.fromkeys(false_splits(reply.text, cuts, reply.whole))
    return list(found)


def false_splits_of(run: Run, peer: str) -> list[str] | None:
    """Return a peer's wrong cuts; None where its chunks are not the replies' text, or not known."""
    cases = run.results["chunks"].get(peer)
    if cases is None:
        return None
    found: list[str] = []
    for case, chunks in cases.items():
        reply = run.replies[int(case)]
        cuts = cuts_of(reply.text, chunks)
        if cuts is None:
            return None
        found += false_splits(reply.text, cuts, reply.whole)
    return found


def total_cpu_ms(run: Run, engine: str, peer: str, level: int) -> float | None:
    """Return CPU milliseconds a turn with those of espeak, which the harness counts as ours in our case."""
    found = run.level(engine, peer, level)
    return None if found is None else float(found["cpu_own_ms"] + found["cpu_espeak_ms"])


def cpu_by_process_ms(run: Run, engine: str, level: int) -> dict[str, float]:
    """Return our CPU milliseconds a turn, by process: the median of the repeats."""
    reps = run.cpu_s.get((engine, level), ())
    if not reps:
        return {}
    turns = len(run.turns[engine, level]) / len(reps)
    return {name: statistics.median(rep.get(name, 0.0) for rep in reps) / turns * 1000 for name in reps[0]}


def verdicts(run: Run) -> Iterator[Verdict]:
    """Compare with the targets, for each engine mode."""
    for engine in run.engines():
        yield from _alone(run, engine)
        for level in run.crowds():
            yield from _together(run, engine, level)
    wrong = our_false_splits(run)
    yield Verdict("no false split", ", ".join(map(repr, wrong)) or "none", not wrong)


def _alone(run: Run, engine: str) -> Iterator[Verdict]:
    ours = run.ttfa_ms(engine, US)
    peers = {peer: value for peer in PEERS if (value := run.ttfa_ms(engine, peer)) is not None}
    if ours is None or not peers:
        return
    best = min(peers, key=peers.__getitem__)
    wanted = [(best, BEST_RATIO)] + [(peer, FRAMEWORK_RATIO) for peer in ("pipecat", "livekit")]
    for peer, limit in wanted:
        if peer in peers:
            ratio = ours / peers[peer]
            title = "the best peer" if limit == BEST_RATIO else PEERS[peer]
            measured = f"{ours:.0f} / {peers[peer]:.0f} ms = {ratio:.3f}"
            if limit == BEST_RATIO:
                measured += f" ({PEERS[peer]})"
            yield Verdict(f"{engine}: mean TTFA at most {limit} of {title}", measured, ratio <= limit)
    stalls = sum(note["report"]["underruns"] for note in run.turns.get((engine, 1), ()))
    level = run.level(engine, US, 1)
    dry = level["stall_turns"] if level else 0
    yield Verdict(
        f"{engine}: no underrun, one turn at a time", f"{dry} turns, {stalls} underruns", not (dry or stalls)
    )


def _together(run: Run, engine: str, level: int) -> Iterator[Verdict]:
    ours = run.level(engine, US, level)
    peers = {peer: found for peer in PEERS if (found := run.level(engine, peer, level)) is not None}
    if ours is None or not peers:
        return
    for name in ("p50", "p95"):
        best = min(peers, key=lambda peer: float(peers[peer][f"ttfa_{name}"]))
        limit, value = peers[best][f"ttfa_{name}"], ours[f"ttfa_{name}"]
        measured = f"{value:.0f} / {limit:.0f} ms = {value / limit:.2f} ({PEERS[best]})"
        yield Verdict(f"{engine}, {level} together: TTFA {name} of the best peer", measured, value <= limit)
    dry, errors = ours["stall_turns"], ours["errors"]
    yield Verdict(
        f"{engine}, {level} together: no stall, no error",
        f"{dry} and {errors} of {ours['turns']}",
        not (dry or errors),
    )
    yield from _cpu(run, engine, level)


def _cpu(run: Run, engine: str, level: int) -> Iterator[Verdict]:
    theirs = run.level(engine, "realtimetts", level)
    ours = total_cpu_ms(run, engine, US, level)
    if theirs is None or ours is None:
        return
    total = theirs["cpu_own_ms"] + theirs["cpu_espeak_ms"]
    yield Verdict(
        f"{engine}, {level} together: CPU a turn, with espeak, at most {CPU_RATIO} of RealtimeTTS",
        f"{ours:.0f} / {total:.0f} ms = {ours / total:.2f}",
        ours <= CPU_RATIO * total,
    )
    parts = cpu_by_process_ms(run, engine, level)
    own = sum(value for name, value in parts.items() if name != "caller" and "espeak" not in name)
    if parts:
        yield Verdict(
            f"{engine}, {level} together: the same without espeak, five processes and worker",
            f"{own:.0f} / {theirs['cpu_own_ms']:.0f} ms = {own / theirs['cpu_own_ms']:.2f}",
            own <= CPU_RATIO * theirs["cpu_own_ms"],
        )


# ---- text ---------------------------------------------------------------------------------------------


def render(run: Run) -> str:
    """Return the whole report as Markdown."""
    meta = run.results["meta"]
    lines = [
        "# Beside peers",
        "",
    ]
    load = f"load {meta['load_at_start'][0]:.1f} at the start"
    repeats = f"{meta['params']['reps']} repeats (medians)"
    lines.append(f"{meta['date']}, {meta['cores']} cores, {load}, {repeats}, {len(run.replies)} replies.")
    for engine in run.engines():
        if run.single(engine, US):
            lines += ["", f"## Engine `{engine}`, one turn at a time", "", *_single_table(run, engine)]
            lines += ["", *_stage_table(run, engine)]
        for level in run.crowds():
            lines += ["", f"## Engine `{engine}`, {level} turns started together", ""]
            lines += _crowd_table(run, engine, level)
        for level in run.levels():
            parts = cpu_by_process_ms(run, engine, level)
            shown = ", ".join(f"{name} {value:.1f}" for name, value in parts.items())
            lines += ["", f"Our CPU a turn at {level}, ms: {shown}."] if parts else []
    lines += ["", "## Targets", "", "| target | measured | |", "|---|---|---|"]
    lines += [
        f"| {v.what} | {v.measured} | {'reached' if v.reached else '**missed**'} |" for v in verdicts(run)
    ]
    lines += ["", "## Chunks", "", *_chunks(run)]
    return "\n".join(lines)


def _single_table(run: Run, engine: str) -> list[str]:
    ours = run.ttfa_ms(engine, US)
    lines = [
        "| | mean TTFA ms | ours / this | turns with underruns | false splits |",
        "|---|---:|---:|---:|---|",
    ]
    for peer in run.peers(engine):
        mean, level = run.ttfa_ms(engine, peer), run.level(engine, peer, 1)
        if mean is None or level is None:
            continue
        ratio = f"{ours / mean:.3f}" if ours is not None else ""
        wrong = our_false_splits(run) if peer == US else false_splits_of(run, peer)
        splits = "text changed" if wrong is None else f"{len(wrong)}"
        lines.append(f"| {LABELS[peer]} | {mean:.0f} | {ratio} | {level['stall_turns']} | {splits} |")
    return lines


def _stage_table(run: Run, engine: str) -> list[str]:
    reports = [note["report"] for note in run.turns.get((engine, 1), ())]
    if not reports:
        return []
    means = {name: statistics.mean(r["stages"][name] for r in reports) for name in reports[0]["stages"]}
    shown = ", ".join(f"{name} {value:.1f}" for name, value in means.items() if value >= 0.05)
    return [f"Where our time to first audio goes, ms (mean): {shown}."]


def _crowd_table(run: Run, engine: str, level: int) -> list[str]:
    lines = [
        "| | TTFA ms, p50 | p95 | p99 | last audio | with underruns | errors | CPU ms a turn, with espeak |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for peer in run.peers(engine):
        found = run.level(engine, peer, level)
        if found is not None:
            cells = [f"{found[key]:.0f}" for key in ("ttfa_p50", "ttfa_p95", "ttfa_p99", "last_p50")]
            cells += [str(found["stall_turns"]), str(found["errors"])]
            cells.append(f"{total_cpu_ms(run, engine, peer, level):.0f}")
            lines.append(f"| {LABELS[peer]} | {' | '.join(cells)} |")
    return lines


def _chunks(run: Run) -> Iterator[str]:
    """Every reply as it was cut, once for each way it was cut, one turn at a time."""
    for case in range(len(run.replies)):
        ways: dict[tuple[str, ...], tuple[list[str], list[Any]]] = {}
        for (engine, level), notes in run.turns.items():
            for note in notes if level == 1 else ():
                chunks = note["report"]["chunks"]
                if note["case"] == case:
                    engines, _ = ways.setdefault(tuple(chunk["text"] for chunk in chunks), ([], chunks))
                    engines.append(engine)
        for engines, chunks in ways.values():
            counts = ", ".join(f"{engine} {engines.count(engine)}×" for engine in dict.fromkeys(engines))  # noqa: RUF001
            yield f"Reply {case} ({counts}):"
            yield ""
            for chunk in chunks:
                held = f"held {chunk['held_ms']:.0f} ms, {chunk['audio_ms']:.0f} ms of audio"
                yield f"- `{chunk['reason']}`, {held}: {chunk['text']}"
            yield ""
