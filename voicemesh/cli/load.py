"""The command around a bench: progress, output, exit status."""

import asyncio
import sys
from typing import TextIO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from voicemesh.cli import bench_report
from voicemesh.cli.bench import Bench, BenchOptions
from voicemesh.cli.console import console_for
from voicemesh.cli.exits import DONE, FAILED
from voicemesh.cli.failures import failure_of
from voicemesh.client import TurnReport, VoiceMeshError


def run_bench(options: BenchOptions, *, as_json: bool) -> int:
    """Run it and print what came of it.

    Returns 0 when it ran to its end and a turn did not fail; failed turns are part of the result.
    Raises Failure where the mesh is not there.
    """
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
        task = progress.add_task("turns", total=options.turns, last="")

        def done(report: TurnReport) -> None:
            last = report.error.reason if report.error else f"{report.ttfa_ms:.0f} ms to first audio"
            progress.update(task, advance=1, last=last)

        try:
            run = asyncio.run(Bench(options, done).run())
        except VoiceMeshError as error:
            raise failure_of(error, options.addr) from None
    if as_json:
        print(bench_report.to_json(options, run))
    else:
        bench_report.show(console_for(), run)
    if run.cut_short or all(report.outcome == "failed" for report in run.reports):
        return FAILED
    return DONE
