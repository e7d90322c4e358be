"""What `bench --compare` prints."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from rich.console import Console

from voicemesh.cli.bench import Arm, BenchOptions, BenchRun, as_json_config
from voicemesh.cli.bench_report import summarise, versions
from voicemesh.cli.bootstrap import Estimate
from voicemesh.cli.compare import (
    FEWEST_OF_P95,
    Figure,
    Pair,
    Result,
    number_of,
    result,
    sentence,
    text_of,
    to_json,
)
from voicemesh.cli.console import print_table, table_of
from voicemesh.client import TurnReport

_NAME_CELLS: Final = 16
"""With these the table has 80 columns where money is compared; a longer name goes on in the next line."""


def pairs_of(run: BenchRun) -> list[Pair]:
    """Return the turns of a run of two arms, by the prompt that both were asked."""
    numbers = sorted({number for number, _ in run.by_job})
    return [(_turn(run.by_job.get((number, 0))), _turn(run.by_job.get((number, 1)))) for number in numbers]


def _turn(report: TurnReport | None) -> Mapping[str, Any] | None:
    return report.to_json() if report is not None else None


def reports_of(run: BenchRun, arm: int) -> list[TurnReport]:
    """Return the reports of one arm."""
    return [report for (_, of), report in sorted(run.by_job.items(), key=lambda item: item[0]) if of == arm]


def run_json(options: BenchOptions, arms: Sequence[Arm], run: BenchRun) -> str:
    """Return a run of two arms as one JSON object; each arm's turns can be compared with other runs'."""
    compared = result((arms[0].label, arms[1].label), pairs_of(run), options.seed)
    sides = {
        letter: BenchRun(reports_of(run, arm), run.wall_s, (), run.cut_short)
        for arm, letter in enumerate(("a", "b"))
    }
    return json.dumps(
        {
            "compare": to_json(compared, options.seed),
            "turns": {
                letter: [report.to_json() for report in side.reports] for letter, side in sides.items()
            },
            "summary": {letter: summarise(side) for letter, side in sides.items()},
            "config": {
                **as_json_config(options, run),
                "arms": {letter: _arm_json(arm) for letter, arm in zip("ab", arms, strict=True)},
            },
            "versions": versions(),
        }
    )


def _arm_json(arm: Arm) -> dict[str, str]:
    return {
        "label": arm.label,
        "addr": arm.addr,
        "tenant": arm.tenant,
        "voice": arm.speech.voice,
        "policy": arm.speech.policy,
        "model": arm.model,
        "prompt": arm.system_prompt,
        "prompt_variant": arm.prompt_variant,
    }


def show(console: Console, compared: Result, notes: Sequence[str] = ()) -> None:
    """Print a comparison: the figures, then what they say."""
    for letter, label, turns in zip("AB", compared.labels, compared.turns, strict=True):
        console.print(f"{letter}: {label} ({turns} turns)", markup=False, soft_wrap=True)
    pairs = f"{compared.pairs} pairs" if compared.pairs else "not paired: the runs asked different things"
    console.print(f"{pairs}; intervals hold 95%, by resampling\n")
    table = table_of("", "A", "B", "B - A", "interval", "B / A", left=1)
    table.columns[0].max_width = _NAME_CELLS
    for figure in compared.figures:
        for name, found in figure.found.items():
            if _is_nothing(figure, name) or (name == "p95" and min(figure.counts) < FEWEST_OF_P95):
                continue
            unit = figure.metric
            table.add_row(
                f"{unit.title}, {name}",
                text_of(unit, found.a),
                text_of(unit, found.b),
                number_of(unit, found.difference.value),
                _interval(found.difference, partial(number_of, unit)),
                f"{found.ratio.value:.2f}" if found.ratio else "",
                style="bold" if figure.shows(name) else "",
            )
    print_table(console, table)
    console.print()
    for figure in compared.figures:
        if figure.found and not all(_is_nothing(figure, name) for name in figure.found):
            console.print(f"→ {sentence(figure)}", markup=False, soft_wrap=True)
    for letter, said in zip("AB", compared.flags, strict=True):
        if said:
            counts = ", ".join(f"{name} in {count}" for name, count in sorted(said.items()))
            console.print(f"→ flags had a say in turns of {letter}: {counts}", markup=False, soft_wrap=True)
    for note in notes:
        console.print(f"→ {note}", markup=False, soft_wrap=True)


def _is_nothing(figure: Figure, name: str) -> bool:
    """Say whether there was none of it in either: no underrun, no cost."""
    return not figure.found[name].a and not figure.found[name].b


def _interval(estimate: Estimate | None, text: Callable[[float], str]) -> str:
    if estimate is None:
        return ""
    return f"{text(estimate.low)} to {text(estimate.high)}"
