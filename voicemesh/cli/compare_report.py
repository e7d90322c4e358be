"""What `bench --compare` prints."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from rich.console import Console

from voicemesh.cli.bench import BenchRun, TimedTurn
from voicemesh.cli.bench_figures import Turn, summarise
from voicemesh.cli.bench_options import Arm, BenchOptions, as_json_config
from voicemesh.cli.bootstrap import Estimate
from voicemesh.cli.compare import (
    FEWEST_OF,
    STAGE_METRICS,
    Figure,
    Pair,
    Result,
    number_of,
    sentence,
    stage_sentence,
    text_of,
    to_json,
)
from voicemesh.cli.console import print_table, table_of
from voicemesh.cli.machine import versions

_NAME_CELLS: Final = 16
"""With these the table has 80 columns where money is compared; a longer name goes on in the next line."""


def pairs_of(run: BenchRun) -> list[Pair]:
    """Return the turns of a run of two arms, by the prompt that both were asked."""
    by_job = {(turn.job.number, turn.job.arm): turn for turn in run.turns}
    numbers = sorted({number for number, _ in by_job})
    return [(_turn(by_job.get((number, 0))), _turn(by_job.get((number, 1)))) for number in numbers]


def _turn(turn: TimedTurn | None) -> Turn | None:
    return turn.to_json() if turn is not None else None


def turns_of(run: BenchRun, arm: int) -> list[Turn]:
    """Return the turns of one arm, by the prompt that they were asked."""
    own = sorted((turn for turn in run.turns if turn.job.arm == arm), key=lambda turn: turn.job.number)
    return [turn.to_json() for turn in own]


def document(
    options: BenchOptions,
    arms: Sequence[Arm],
    run: BenchRun,
    compared: Result,
    on: Mapping[str, Any],
    began: str,
) -> dict[str, Any]:
    """Return a run of two arms as one JSON object; each arm's turns can be compared with other runs'."""
    sides = {letter: turns_of(run, arm) for arm, letter in enumerate(("a", "b"))}
    return {
        "compare": to_json(compared, options.seed),
        "turns": sides,
        "summary": {letter: summarise(side, run.wall_s) for letter, side in sides.items()},
        "config": {
            **as_json_config(options, cut_short=run.cut_short),
            "began": began,
            "arms": {letter: _arm_json(arm) for letter, arm in zip("ab", arms, strict=True)},
        },
        "versions": versions(),
        "machine": on,
    }


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


def show_warnings(console: Console, warnings: Sequence[str]) -> None:
    """Print why a difference may be of something else than of what is compared."""
    for warning in warnings:
        console.print(f"→ {warning}", markup=False, soft_wrap=True)


def show(console: Console, compared: Result, notes: Sequence[str] = ()) -> None:
    """Print a comparison: what else the runs differ in, the figures, then what they say."""
    show_warnings(console, compared.warnings)
    for letter, label, turns in zip("AB", compared.labels, compared.turns, strict=True):
        console.print(f"{letter}: {label} ({turns} turns)", markup=False, soft_wrap=True)
    pairs = f"{compared.pairs} pairs" if compared.pairs else "not paired: the runs asked different things"
    console.print(f"{pairs}; intervals hold 95%, by resampling\n")
    table = table_of("", "A", "B", "B - A", "interval", "B / A", left=1)
    table.columns[0].max_width = _NAME_CELLS
    for figure in compared.figures:
        for name, found in figure.found.items():
            if _is_nothing(figure, name) or min(figure.counts) < FEWEST_OF.get(name, 0):
                continue
            if figure.metric in STAGE_METRICS and name != "mean" and not figure.shows(name):
                continue  # their means add up; what else is not told apart is in the report and in JSON
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
    for place, figure in enumerate(compared.figures):
        if (
            figure.metric not in STAGE_METRICS
            and figure.found
            and not all(_is_nothing(figure, name) for name in figure.found)
        ):
            console.print(f"→ {sentence(figure)}", markup=False, soft_wrap=True)
        if place == 0 and (stage := stage_sentence(compared)):
            console.print(f"→ {stage}", markup=False, soft_wrap=True)
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
