"""The command around a bench: progress, output, exit status."""

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import TextIO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from voicemesh.cli import bench_report, compare, compare_report
from voicemesh.cli.arms import arms, recorded
from voicemesh.cli.bench import Arm, Bench, BenchOptions, BenchRun
from voicemesh.cli.console import console_for
from voicemesh.cli.exits import DONE, FAILED
from voicemesh.cli.failures import failure_of
from voicemesh.cli.speak import check
from voicemesh.client import TurnReport, VoiceMeshError


def run_bench(options: BenchOptions, *, as_json: bool) -> int:
    """Run it and print what came of it.

    Returns 0 when it ran to its end and a turn did not fail; failed turns are part of the result.
    Raises Failure where the mesh is not there.
    """
    run = _run(options, ())
    if as_json:
        print(bench_report.to_json(options, run))
    else:
        bench_report.show(console_for(), run)
    return _status(run, [run.reports])


def run_compare(options: BenchOptions, a: str, b: str, *, as_json: bool) -> int:
    """Compare two recorded runs, or run two arms side by side; print what came of it.

    Returns and raises as `run_bench`; 1 also where every turn of one arm failed. That a difference
    is shown, or none, changes nothing.
    """
    files = recorded(a, b)
    if files is not None:
        pairs = compare.paired_by_prompt(*files)
        compared = (
            compare.result((a, b), pairs, options.seed)
            if pairs is not None
            else compare.result_apart((a, b), *files, options.seed)
        )
        if as_json:
            print(json.dumps({"compare": compare.to_json(compared, options.seed)}))
        else:
            compare_report.show(console_for(), compared)
        return DONE
    both = arms(a, b, options)
    for arm in both:
        check(arm.speech)
    run = _run(options, both)
    if as_json:
        print(compare_report.run_json(options, both, run))
    else:
        compared = compare.result((a, b), compare_report.pairs_of(run), options.seed)
        compare_report.show(console_for(), compared, _notes(options, run))
    return _status(run, [compare_report.reports_of(run, arm) for arm in range(len(both))])


def _notes(options: BenchOptions, run: BenchRun) -> list[str]:
    notes = [
        f"{letter}: {line}"
        for arm, letter in enumerate("AB")
        for line in bench_report.failures(compare_report.reports_of(run, arm))
    ]
    if run.cut_short:
        notes.append(bench_report.CUT_SHORT)
    if options.tenant and options.reply_cache:
        notes.append(
            "with --tenant both share one cache, and the second of a pair may find what the first left: "
            "leave it out, or add --no-cache"
        )
    return notes


def _status(run: BenchRun, sides: Sequence[Sequence[TurnReport]]) -> int:
    nothing = any(all(report.outcome == "failed" for report in side) for side in sides)
    return FAILED if run.cut_short or nothing else DONE


def _run(options: BenchOptions, both: Sequence[Arm]) -> BenchRun:
    # Progress goes to standard error, so that the JSON stays clean; only where somebody looks.
    stream: TextIO = sys.stderr
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}"),
    )
    progress = Progress(*columns, console=console_for(stream), transient=True, disable=not stream.isatty())
    with progress:
        task = progress.add_task("turns", total=options.turns * (len(both) or 1), last="")

        def done(report: TurnReport) -> None:
            last = report.error.reason if report.error else f"{report.ttfa_ms:.0f} ms to first audio"
            progress.update(task, advance=1, last=last)

        try:
            return asyncio.run(Bench(options, done, both).run())
        except VoiceMeshError as error:
            raise failure_of(
                error, ", ".join(dict.fromkeys(arm.addr for arm in both)) or options.addr
            ) from None
