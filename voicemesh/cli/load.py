"""The command around a bench: progress, output, exit status."""

import asyncio
import datetime as dt
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TextIO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from voicemesh.cli import bench_html, bench_report, compare, compare_loads, compare_report
from voicemesh.cli.arms import arms, recorded
from voicemesh.cli.bench import BenchRun
from voicemesh.cli.bench_advice import failures
from voicemesh.cli.bench_options import Arm, BenchOptions
from voicemesh.cli.bench_tool import CUT_SHORT
from voicemesh.cli.bench_turns import run_turns
from voicemesh.cli.console import console_for
from voicemesh.cli.exits import DONE, FAILED, STOPPED, Failure, usage
from voicemesh.cli.failures import failure_of
from voicemesh.cli.machine import busy, machine
from voicemesh.cli.speak import check
from voicemesh.client import TurnReport, VoiceMeshError

_COLUMNS: Final = (
    TextColumn("{task.description}"),
    BarColumn(bar_width=30),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("{task.fields[last]}"),
)


@dataclass(frozen=True, kw_only=True)
class Output:
    """What becomes of the result.

    Attributes:
        as_json: True to print one JSON object instead of text.
        html: File to write the report to, or None.

    """

    as_json: bool
    html: Path | None = None

    def check(self) -> None:
        """Raise Failure where the report cannot be written: before minutes are spent on a run."""
        if self.html is None:
            return
        try:
            there = self.html.exists()
            if self.html.is_dir():
                raise usage(
                    f"--html: {self.html} is a folder", f"name a file in it, as {self.html / 'report.html'}"
                )
            folder = self.html.absolute().parent
            if not folder.is_dir():
                problem = "is no folder" if folder.exists() else "is not there"
                raise usage(
                    f"--html: {self.html} cannot be written: {folder} {problem}",
                    "make the folder, or name a file in one that is there",
                )
            # Nothing else says as surely whether it can be: rights, a file system that is read-only.
            with self.html.open("ab"):
                pass
            if not there:
                self.html.unlink()
        except OSError as error:
            raise usage(
                f"--html: {self.html} cannot be written: {error.strerror}", "name a file that can be"
            ) from None

    def write(self, result: Mapping[str, Any], printed: Mapping[str, Any] | None = None) -> None:
        """Write the report, and print the JSON form, which is the same unless given. Raises Failure."""
        failed = None
        if self.html is not None:
            try:
                self.html.write_text(bench_html.page(result), encoding="utf-8")
            except OSError as error:
                failed = f"--html: cannot write {self.html}: {error.strerror}"
        if self.as_json:
            # Whatever became of the report: it can be made of this by --from.
            print(json.dumps(result if printed is None else printed))
        if failed is not None:
            raise Failure(FAILED, "NOT_WRITTEN", failed)


def run_bench(steps: Sequence[BenchOptions], output: Output) -> int:
    """Run one load after the other, and tell what came of it.

    Returns 0 when each ran to its end and a turn did not fail; failed turns are part of the result. Ctrl-C
    ends the run: what was measured until then is told, and 130 returned.
    Raises Failure where the mesh is not there, or the report cannot be written.
    """
    output.check()
    began, on = _now(), machine()
    runs = []
    for step in steps:
        run = _run(step, ())
        runs.append((step, run))
        if run.stopped:
            break  # what was measured is told
    if not any(run.turns for _, run in runs) and runs[-1][1].stopped:
        raise KeyboardInterrupt
    result = bench_report.document(runs, on, began)
    output.write(result)
    if not output.as_json:
        bench_report.show(console_for(), result)
        _told(output)
    cut_short = any(run.cut_short for _, run in runs)
    if runs[-1][1].stopped:
        return STOPPED
    return _status([[report for _, run in runs for report in run.reports]], cut_short=cut_short)


def show_recorded(path: Path, output: Output) -> int:
    """Show a run that was saved, as if it had just ended. Raises Failure."""
    output.check()
    found = bench_report.read(path, "--from").result
    needed = ("compare",) if "compare" in found else ("summary", "config")
    if missing := [name for name in needed if name not in found]:
        raise usage(
            f"--from: {path} has no {' and no '.join(missing)}", "give what `voicemesh bench --json` printed"
        )
    output.write(found)
    if not output.as_json:
        if "compare" in found:
            console = console_for()
            for load, each in compare.each_of(found["compare"]):
                if load:
                    console.print(f"{load}:", markup=False)
                for metric in each["metrics"].values():
                    console.print(f"→ {metric['sentence']}", markup=False, soft_wrap=True)
        else:
            bench_report.show(console_for(), found)
        _told(output)
    return DONE


def run_compare(options: BenchOptions, a: str, b: str, output: Output) -> int:
    """Compare two recorded runs, or run two arms side by side; tell what came of it.

    Returns and raises as `run_bench`; 1 also where every turn of one arm failed. That a difference
    is shown, or none, changes nothing.
    """
    output.check()
    files = recorded(a, b)
    if files is not None:
        return _compare_recorded(options, a, b, files, output)
    both = arms(a, b, options)
    for arm in both:
        check(arm.speech)
    began, on = _now(), machine()
    run = _run(options, both)
    if run.stopped and not run.turns:
        raise KeyboardInterrupt
    compared = compare.result((a, b), compare_report.pairs_of(run), options.seed)
    compared = replace(compared, warnings=list(filter(None, [busy(on)])))
    result = compare_report.document(options, both, run, compared, on, began)
    output.write(result)
    if not output.as_json:
        compare_report.show(console_for(), compared, _notes(options, run))
        _told(output)
    if run.stopped:
        return STOPPED
    sides = [[turn.report for turn in run.turns if turn.job.arm == arm] for arm in range(len(both))]
    return _status(sides, cut_short=run.cut_short)


def _compare_recorded(
    options: BenchOptions, a: str, b: str, files: Sequence[bench_report.Recorded], output: Output
) -> int:
    loads = compare_loads.loads_of(*files)
    compared = [(load, compare_loads.compared((a, b), *turns, options.seed)) for load, turns in loads.items()]
    warnings = compare.differences(files[0].result, files[1].result)
    told = {"compare": compare_loads.to_json(compared, files, warnings, options.seed)}
    output.write({**told, "turns": {"a": files[0].turns, "b": files[1].turns}}, told)
    if not output.as_json:
        compare_loads.show(console_for(), compared, warnings)
        _told(output)
    return DONE


def _told(output: Output) -> None:
    if output.html is not None:
        console_for().print(f"report: {output.html}", markup=False, soft_wrap=True)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _notes(options: BenchOptions, run: BenchRun) -> list[str]:
    notes = [
        f"{letter}: {line}"
        for arm, letter in enumerate("AB")
        for line in failures(compare_report.turns_of(run, arm))
    ]
    if run.cut_short:
        notes.append(CUT_SHORT)
    if options.tenant and options.reply_cache:
        notes.append(
            "with --tenant both share one cache, and the second of a pair may find what the first left: "
            "leave it out, or add --no-cache"
        )
    return notes


def _status(sides: Sequence[Sequence[TurnReport]], *, cut_short: bool) -> int:
    nothing = any(all(report.outcome == "failed" for report in side) for side in sides)
    return FAILED if cut_short or nothing else DONE


def _run(options: BenchOptions, both: Sequence[Arm]) -> BenchRun:
    # Progress goes to standard error, so that the JSON stays clean; only where somebody looks.
    stream: TextIO = sys.stderr
    progress = Progress(*_COLUMNS, console=console_for(stream), transient=True, disable=not stream.isatty())
    with progress:
        task = progress.add_task(options.load, total=options.turns * (len(both) or 1), last="")

        def done(report: TurnReport) -> None:
            last = report.error.reason if report.error else f"{report.ttfa_ms:.0f} ms to first audio"
            progress.update(task, advance=1, last=last)

        try:
            return asyncio.run(run_turns(options, done, both))
        except VoiceMeshError as error:
            raise failure_of(
                error, ", ".join(dict.fromkeys(arm.addr for arm in both)) or options.addr
            ) from None
