"""The plots of a load test's report: each a figure with its caption, made of the run's own numbers."""

import itertools
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from voicemesh.cli import svg
from voicemesh.cli.bench_figures import (
    KINDS,
    PARTS,
    Turn,
    heard_of,
    kind_of,
    times_of,
)
from voicemesh.cli.bench_loads import Step, arrivals_of
from voicemesh.cli.bench_slow import accounts
from voicemesh.cli.bench_tool import mixed_caches
from voicemesh.cli.characters import printable
from voicemesh.cli.stats import percentile
from voicemesh.cli.svg import Point, Series, tag

_QUANTILES: Final = ("p50", "p95", "p99")
_TIMES: Final = {"ttfa_ms": "Time to first audio", "ttft_ms": "Time to first text", "total_ms": "Whole turn"}
_CDF_POINTS: Final = 120
_MOST_DOTS: Final = 3_000
_NAMED_SHARE: Final = 0.1
"""From this share of a bar on, a part is named inside it."""
_RAMP: Final = 6
"""How many colours of a ramp the style has."""


def figure(title: str, *inside: str, note: str = "", wide: bool = False) -> str:
    """Return a figure with its title and what has to be known to read it."""
    caption = tag("figcaption", tag("b", escape(title)), escape(f" {note}" if note else ""))
    return tag("figure", caption, *inside, class_="wide" if wide else None)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return a table whose first `left` columns are names; a narrow screen scrolls it by itself."""

    def row(cells: Sequence[str], name: str) -> str:
        return tag(
            "tr",
            *(
                tag(
                    name,
                    escape(printable(cell)) or "&#8203;",
                    class_=None if place < left else "number",
                    # Prompts are of any language: each is laid out by itself.
                    dir="auto" if place < left and name == "td" else None,
                )
                for place, cell in enumerate(cells)
            ),
        )

    body = [row(cells, "td") for cells in rows]
    return tag("div", tag("table", tag("thead", row(head, "th")), tag("tbody", *body)), class_="scroll")


def percentiles_by_load(steps: Sequence[Step]) -> list[str]:
    """Return how the percentiles of each time grow with the load; one load has bars instead."""
    if len(steps) == 1:
        summary = steps[0].summary
        rows = [
            (f"{title.lower()}, {name}", {"value": summary[time][name]})
            for time, title in _TIMES.items()
            for name in _QUANTILES
        ]
        return [
            figure("Times", bars(rows, "ms"), note="in milliseconds; total of completed turns", wide=True)
        ]
    plots = []
    note = mixed_caches(steps)
    x = svg.places([_short(step) for step in steps], _load_label(steps))
    for time, title in _TIMES.items():
        series = [
            Series(
                name=name,
                style=f"q-{name}",
                points=[
                    Point(
                        place,
                        step.summary[time][name],
                        f"{step.load}, {name}: {step.summary[time][name]:g} ms",
                    )
                    for place, step in enumerate(steps)
                ],
            )
            for name in _QUANTILES
        ]
        y = svg.linear([point.y for one in series for point in one.points], "ms")
        plots.append(figure(title, svg.plot(title, x, y, series), note=note))
    return plots


def throughput(steps: Sequence[Step]) -> str:
    """Return how many turns a second were answered under each load, and how many were asked for.

    In an open loop those that were answered while others came, where the run can tell: what empties behind
    the last arrival is not slower for it.
    """
    x = svg.places([_short(step) for step in steps], _load_label(steps))
    answers = [
        round(came.answered_per_s, 3) if (came := arrivals_of(step)) else step.summary["turns_per_s"]
        for step in steps
    ]
    series = [
        Series(
            name="answered",
            style="q-p95",
            points=[
                Point(
                    place,
                    answered,
                    f"{step.load}: {answered:g} turns/s",
                )
                for place, (step, answered) in enumerate(zip(steps, answers, strict=True))
            ],
        )
    ]
    if steps[0].rate_per_s is not None:
        asked = [Point(place, step.rate_per_s or 0.0) for place, step in enumerate(steps)]
        series.append(Series(name="asked", style="q-p50", points=asked))
    y = svg.linear([point.y for one in series for point in one.points], "turns a second")
    return figure("Throughput", svg.plot("Throughput", x, y, series))


def distribution(lines: Sequence[tuple[str, Sequence[Turn]]], note: str = "") -> str:
    """Return the share of turns whose first audio came within a time, a line for each set of turns."""
    known = [(name, sorted(times_of(turns, "ttfa_ms"))) for name, turns in lines]
    known = [(name, values) for name, values in known if values]
    series = [
        Series(name=name, style=_ramp(place, len(known)), points=_cdf(values), marks=False)
        for place, (name, values) in enumerate(known)
    ]
    x = svg.logarithmic([value for _, values in known for value in values], "ms to first audio")
    shares = {float(share): f"{share}%" for share in (0, 25, 50, 75, 95)}
    y = svg.Axis(low=0, high=100, ticks=shares, label="turns heard within")
    keys = [
        tag("span", tag("i", "", class_=one.style), escape(f"{one.name} ({len(values)})"), class_="key")
        for one, (_, values) in zip(series, known, strict=True)
    ]
    drawn = svg.plot("Share of turns heard within a time", x, y, series, named=False)
    return figure("Distribution of the first audio", drawn, tag("p", *keys, class_="keys"), note=note)


def by_cache(turns: Sequence[Turn]) -> list[tuple[str, Sequence[Turn]]]:
    """Return the turns by what their first audio came from."""
    found = [
        (what, [turn for turn in heard_of(turns) if kind_of(turn) == kind]) for kind, what in KINDS.items()
    ]
    return [(what.removeprefix("of "), of) for what, of in found if of]


def _cdf(values: Sequence[float]) -> list[Point]:
    """Return points of the distribution, all of them turns of the run: of many turns, some evenly by rank."""
    last = len(values) - 1
    ranks = sorted({round(place * last / _CDF_POINTS) for place in range(_CDF_POINTS + 1)})
    steps = [(values[rank], 100 * rank / len(values), 100 * (rank + 1) / len(values)) for rank in ranks]
    return [
        Point(value, share) for value, before, after in steps for share in (round(before, 4), round(after, 4))
    ]


def made_of(sets: Sequence[tuple[str, Sequence[Turn]]]) -> str:
    """Return what the time to first audio of usual and of slow turns adds up from."""
    heads, rows = [], []
    for name, turns in sets:
        for title, count, made in accounts(turns):
            heads.append(f"{name}, {title}" if name else title)
            rows.append((f"{heads[-1]} ({count})", made))
    shown = [part for part in PARTS if any(abs(made[part]) >= 0.0005 for _, made in rows)]
    keys = [tag("span", tag("i", "", class_=f"stage-{part}"), escape(part), class_="key") for part in shown]
    numbers = table(
        ("milliseconds", *(title for title, _ in rows)),
        [(part, *(f"{made[part]:.1f}" for _, made in rows)) for part in shown],
    )
    return figure(
        "What the first audio waited for",
        bars(rows, "ms", style="stage-"),
        tag("p", *keys, class_="keys"),
        tag("details", tag("summary", "the same in numbers"), numbers),
        note="usual: the median of each stage; the slowest 5%, and all of a few turns: its mean; "
        "in milliseconds, in order of the path; how many turns in brackets",
        wide=True,
    )


def bars(rows: Sequence[tuple[str, Mapping[str, float]]], unit: str, *, style: str = "part-") -> str:
    """Return a bar for each row, its parts one behind the other, all to one scale."""
    longest = max((sum(max(value, 0.0) for value in parts.values()) for _, parts in rows), default=0.0) or 1.0
    lines = []
    for name, parts in rows:
        whole = sum(parts.values())
        cells = []
        for part, value in parts.items():
            if value <= 0:
                continue
            share = value / whole if whole else 0.0
            inside = (
                escape(f"{share:.0%}") if len(parts) > 1 and value / longest >= _NAMED_SHARE else "&#8203;"
            )
            cells.append(
                tag(
                    "span",
                    inside,
                    class_=f"{style}{part}",
                    style=f"width:{100 * value / longest:.3f}%",
                    title=f"{part}: {_number(value)} {unit}" + (f", {share:.0%}" if len(parts) > 1 else ""),
                    data_part=part,
                    data_value=round(value, 6),
                )
            )
        lines.append(tag("div", escape(name), class_="bar-name"))
        lines.append(
            tag(
                "div",
                tag("div", *(cells or ["&#8203;"]), class_="bar"),
                tag("b", _number(whole)),
                class_="bar-line",
            )
        )
    return tag("div", *lines, class_="bars")


def timeline(steps: Sequence[Step]) -> list[str]:
    """Return each turn at its moment, and how many were under way; nothing where moments are not known."""
    placed = _placed(steps)
    if not placed:
        return []
    dots, thinned = _thin(placed)
    points = []
    for at_s, turn in dots:
        failed = turn["outcome"] == "failed"
        style = "failed" if failed else "dry" if turn["underruns"] else kind_of(turn)
        said = turn["error"]["reason"] if turn["error"] else f"{turn['ttfa_ms']:g} ms to first audio"
        points.append(
            Point(at_s, turn["ttfa_ms"], printable(f"{said}, turn {turn['turn_id']}"), f"turn-{style}")
        )
    x = svg.linear(
        [at_s for at_s, _ in placed], "seconds; each load behind the other" if len(steps) > 1 else "seconds"
    )
    y = svg.linear([point.y for point in points], "ms to first audio")
    present = {point.style for point in points}
    names = {
        "turn-none": "nothing cached",
        "turn-audio": "cached audio",
        "turn-reply": "cached reply",
        "turn-dry": "ran dry",
        "turn-failed": "failed",
    }
    keys = [
        tag("span", tag("i", "", class_=f"dot {style}"), escape(name), class_="key")
        for style, name in names.items()
        if style in present
    ]
    cloud = Series(name="turn", style="turn", points=points)
    note = (
        f"{len(dots)} of {len(placed)} turns are drawn" if thinned else "each turn when it was due, or asked"
    )
    drawn = svg.plot("Turns over time", x, y, [cloud], scatter=True)
    return [
        figure("Turns over time", drawn, tag("p", *keys, class_="keys"), note=note),
        _under_way(placed, x),
    ]


def _under_way(placed: Sequence[tuple[float, Turn]], x: svg.Axis) -> str:
    """Return how many turns were under way, a step at each that came or went."""
    changes: list[tuple[float, int]] = []
    for at_s, turn in placed:
        run = turn["run"]
        began_s = run["began_s"] if run["due_s"] is None else run["due_s"]
        changes += [(at_s, 1), (at_s + run["ended_s"] - began_s, -1)]
    points, level = [Point(0.0, 0)], 0
    for at_s, group in itertools.groupby(sorted(changes), key=lambda change: change[0]):
        before, level = level, level + sum(change for _, change in group)
        points += [Point(round(at_s, 6), before), Point(round(at_s, 6), level)]
    y = svg.linear([point.y for point in points], "turns")
    line = Series(name="", style="q-p95", points=points, marks=False)
    return figure(
        "Under way at once",
        svg.plot("Turns under way", x, y, [line]),
        note="from when it was due, or asked, to its end; where it only grows, the mesh does not keep up",
    )


def _placed(steps: Sequence[Step]) -> list[tuple[float, Turn]]:
    """Return each turn with its moment in seconds, the loads one behind the other."""
    placed, offset_s = [], 0.0
    for step in steps:
        timed = [turn for turn in step.turns if "run" in turn]
        for turn in timed:
            run = turn["run"]
            at_s = run["began_s"] if run["due_s"] is None else run["due_s"]
            placed.append((round(offset_s + at_s, 6), turn))
        offset_s += max((turn["run"]["ended_s"] for turn in timed), default=0.0)
    return placed


def _thin(placed: Sequence[tuple[float, Turn]]) -> tuple[Sequence[tuple[float, Turn]], bool]:
    """Return what is drawn of many turns: what failed, ran dry or was slow, and every n-th of the rest."""
    if len(placed) <= _MOST_DOTS:
        return placed, False
    slow_ms = percentile(times_of([turn for _, turn in placed], "ttfa_ms"), 0.99)
    stride = -(-len(placed) // _MOST_DOTS)
    return [
        (at_s, turn)
        for place, (at_s, turn) in enumerate(placed)
        if place % stride == 0
        or turn["outcome"] == "failed"
        or turn["underruns"]
        or turn["ttfa_ms"] >= slow_ms
    ], True


def _load_label(steps: Sequence[Step]) -> str:
    return "callers" if steps[0].rate_per_s is None else "turns a second"


def _short(step: Step) -> str:
    return f"{step.rate_per_s:g}" if step.rate_per_s is not None else str(step.concurrency or step.load)


def _ramp(place: int, count: int) -> str:
    """Return a colour of the ramp, the last one for the last line."""
    return f"ramp-{_RAMP - 1 if count == 1 else round(place * (_RAMP - 1) / (count - 1))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or isinstance(value, int) else f"{value:.1f}"
