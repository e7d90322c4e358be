"""Two recorded runs against each other, load by load: the median of two loads together is of neither."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from voicemesh.cli import compare, compare_report
from voicemesh.cli.bench_figures import Turn
from voicemesh.cli.bench_report import Recorded
from voicemesh.cli.exits import usage

Loads = Sequence[tuple[str, compare.Result]]
"""What came of each load; the only one of two runs that have one each has no name."""


def loads_of(a: Recorded, b: Recorded) -> dict[str, tuple[Sequence[Turn], Sequence[Turn]]]:
    """Return the turns of two runs by load; under "" where both have one, which may be another.

    Raises Failure where one has several, and the other does not have the same.
    """
    ours, theirs = a.by_load, b.by_load
    if len(ours) == len(theirs) == 1:
        return {"": (a.turns, b.turns)}
    if set(ours) != set(theirs):
        said = [f"{run.name} has {', '.join(loads)}" for run, loads in ((a, ours), (b, theirs))]
        raise usage(
            f"--compare: {' and '.join(said)}: sweeps are compared load by load",
            "run both with the same loads",
        )
    return {load: (turns, theirs[load]) for load, turns in ours.items()}


def compared(labels: tuple[str, str], a: Sequence[Turn], b: Sequence[Turn], seed: int) -> compare.Result:
    """Compare the turns of two runs, in pairs where both asked the same."""
    pairs = compare.paired_by_prompt(a, b)
    if pairs is None:
        return compare.result_apart(labels, a, b, seed)
    return compare.result(labels, pairs, seed)


def to_json(loads: Loads, files: Sequence[Recorded], warnings: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the JSON form: that of a comparison, or `loads` with one for each, and which step it was."""
    if len(loads) == 1:
        return compare.to_json(replace(loads[0][1], warnings=warnings), seed)
    first = loads[0][1]
    turns = [sum(result.turns[side] for _, result in loads) for side in (0, 1)]
    return {
        "a": first.labels[0],
        "b": first.labels[1],
        "turns": dict(zip("ab", turns, strict=True)),
        "warnings": list(warnings),
        "loads": [
            {
                "load": load,
                "steps": {
                    letter: list(file.by_load).index(load) for letter, file in zip("ab", files, strict=True)
                },
                **compare.to_json(result, seed),
            }
            for load, result in loads
        ],
    }


def show(console: Console, loads: Loads, warnings: Sequence[str]) -> None:
    """Print what came of each load, below what else the runs differ in."""
    compare_report.show_warnings(console, warnings)
    for place, (load, result) in enumerate(loads):
        if load:
            console.print(f"{chr(10) if place else ''}under {load}", style="bold", markup=False)
        compare_report.show(console, result)


def turns_of(result: Mapping[str, Any], load: str) -> dict[str, Sequence[Turn]]:
    """Return the turns of A and B in a document, of one load of each; none where there are none."""
    if "turns" not in result:
        return {"a": (), "b": ()}
    if not load:
        return dict(result["turns"])
    places = {each["load"]: each["steps"] for each in result["compare"]["loads"]}[load]
    return {
        letter: [turn for turn in result["turns"][letter] if turn["run"]["step"] == places[letter]]
        for letter in "ab"
    }
