"""Small plots as SVG text: scales, axes, marks. Colours are classes, so that a page's style decides on them.

A plot is `WIDTH` units wide however wide it is shown: two fill a screen, one a phone, and the text of both
is legible. Each mark says the values that it stands for (`data-x`, `data-y`), so that a plot can be checked
against the numbers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 420.0
HEIGHT: Final = 250.0
_LEFT: Final = 46.0
_RIGHT: Final = 58.0
_TOP: Final = 26.0
_BOTTOM: Final = 38.0
_LABEL_GAP: Final = 13.0
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


class Point(NamedTuple):
    """A value and its place: what stands on the axes, and what a reader sees of it."""

    x: float
    y: float
    title: str = ""
    style: str = ""


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line or a cloud of points.

    Attributes:
        name: Stands at its end.
        style: Its class.
        points: In order of x.
        marks: True to draw each point.

    """

    name: str
    style: str
    points: Sequence[Point]
    marks: bool = True


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Maps values to places: linear, or logarithmic.

    Attributes:
        low: Least value.
        high: Largest value.
        ticks: Values with a label, and the label.
        label: What is measured.
        log: True for a logarithmic one.

    """

    low: float
    high: float
    ticks: Mapping[float, str]
    label: str
    log: bool = False

    def share(self, value: float) -> float:
        """Return how far along the axis a value lies, 0 to 1; what lies outside is at the end."""
        low, high, value = (
            (math.log10(self.low), math.log10(self.high), math.log10(max(value, self.low)))
            if self.log
            else (self.low, self.high, value)
        )
        return min(max((value - low) / ((high - low) or 1.0), 0.0), 1.0)


def linear(
    values: Sequence[float], label: str, *, text: Callable[[float], str] = lambda v: f"{v:,.10g}"
) -> Axis:
    """Return an axis from 0 to what holds every value."""
    top = max((value for value in values if math.isfinite(value)), default=0.0) or 1.0
    rough = top / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in _STEPS if size * factor >= rough)
    count = math.ceil(top / step - 1e-9)
    return Axis(
        low=0.0,
        high=count * step,
        ticks={number * step: text(round(number * step, 10)) for number in range(count + 1)},
        label=label,
    )


def logarithmic(values: Sequence[float], label: str) -> Axis:
    """Return an axis of powers of ten, with 2 and 5 between where there are few."""
    known = [value for value in values if value > 0 and math.isfinite(value)] or [1.0]
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    high = max(high, low + 1)
    factors = (1, 2, 5) if high - low <= 2 else (1,)
    ticks = {
        factor * 10.0**power: f"{factor * 10.0**power:,.10g}"
        for power in range(low, high + 1)
        for factor in factors
        if factor * 10.0**power <= 10.0**high
    }
    return Axis(low=10.0**low, high=10.0**high, ticks=ticks, label=label, log=True)


def places(names: Sequence[str], label: str) -> Axis:
    """Return an axis of names, each at its number from 0, with room at both ends."""
    return Axis(low=-0.4, high=len(names) - 0.6, ticks=dict(enumerate(names)), label=label)


def tag(name: str, *inside: str, **attributes: object) -> str:
    """Return an element; `data_x` is written `data-x`, `class_` `class`, None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{''.join(inside)}</{name}>" if inside else f"<{name}{written}/>"


def plot(
    title: str, x: Axis, y: Axis, series: Sequence[Series], *, scatter: bool = False, named: bool = True
) -> str:
    """Return a plot: lines with their names at their ends where `named`, or clouds of points."""
    parts = [*_axes(x, y)]
    for one in series:
        if not scatter:
            path = " ".join(f"{_x(x, p.x):.2f},{_y(y, p.y):.2f}" for p in one.points)
            values = " ".join(f"{_text(p.x)},{_text(p.y)}" for p in one.points) if not one.marks else None
            parts.append(tag("polyline", points=path, class_=f"line {one.style}", data_values=values))
        if one.marks:
            parts += [_mark(x, y, point, one) for point in one.points]
    if named and not scatter:
        parts += _names(y, x, series)
    return tag(
        "svg",
        tag("title", escape(title)),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        class_="plot",
    )


def place_of(x: Axis, y: Axis, point: Point) -> tuple[float, float]:
    """Return where a point is drawn."""
    return _x(x, point.x), _y(y, point.y)


def _mark(x: Axis, y: Axis, point: Point, series: Series) -> str:
    title = tag("title", escape(point.title or f"{series.name}: {point.y:g}"))
    left, top = place_of(x, y, point)
    return tag(
        "circle",
        title,
        cx=f"{left:.2f}",
        cy=f"{top:.2f}",
        r="3.2",
        class_=f"mark {series.style} {point.style}".strip(),
        data_x=point.x,
        data_y=point.y,
    )


def _axes(x: Axis, y: Axis) -> list[str]:
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = []
    for value, label in y.ticks.items():
        at = f"{_y(y, value):.2f}"
        parts.append(tag("line", x1=_LEFT, x2=right, y1=at, y2=at, class_="grid"))
        parts.append(tag("text", escape(label), x=_LEFT - 6, y=f"{_y(y, value) + 4:.2f}", class_="tick end"))
    for value, label in x.ticks.items():
        at = f"{_x(x, value):.2f}"
        parts.append(tag("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(tag("text", escape(label), x=at, y=bottom + 16, class_="tick middle"))
    parts.append(tag("line", x1=_LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
    parts.append(tag("text", escape(x.label), x=(_LEFT + right) / 2, y=HEIGHT - 5, class_="label middle"))
    parts.append(tag("text", escape(y.label), x=2, y=12, class_="label"))
    return parts


def _names(y: Axis, x: Axis, series: Sequence[Series]) -> list[str]:
    """Write each line's name at its end; those that would overlap are moved apart."""
    ends = sorted(
        ((_y(y, one.points[-1].y), _x(x, one.points[-1].x), one) for one in series if one.points),
        key=lambda end: end[0],
    )
    parts, free = [], -math.inf
    room = HEIGHT - _BOTTOM - _LABEL_GAP * len(ends)
    for number, (top, left, one) in enumerate(ends):
        at = max(min(top + 4, room + _LABEL_GAP * (number + 1)), free)
        free = at + _LABEL_GAP
        parts.append(
            tag("text", escape(one.name), x=f"{left + 6:.2f}", y=f"{at:.2f}", class_=f"name {one.style}")
        )
    return parts


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.share(value) * (WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.share(value) * (HEIGHT - _TOP - _BOTTOM)


def _text(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


class Interval(NamedTuple):
    """A value with the interval in which the true one lies."""

    name: str
    value: float
    low: float
    high: float
    style: str
    title: str


def intervals(title: str, x: Axis, centre: float, rows: Sequence[Interval]) -> str:
    """Return a row for each interval, its name above it, on one axis with a line at no difference."""
    row_height, left, right = 30.0, 12.0, WIDTH - 12.0
    height = _TOP + row_height * len(rows) + _BOTTOM

    def at(value: float) -> str:
        return f"{left + x.share(value) * (right - left):.2f}"

    parts = [tag("line", x1=at(centre), x2=at(centre), y1=_TOP, y2=height - _BOTTOM, class_="zero")]
    for value, label in x.ticks.items():
        parts.append(
            tag("text", escape(label), x=at(value), y=f"{height - _BOTTOM + 16:g}", class_="tick middle")
        )
    parts.append(tag("text", escape(x.label), x=WIDTH / 2, y=f"{height - 5:g}", class_="label middle"))
    for place, row in enumerate(rows):
        top = _TOP + row_height * place
        parts += [
            tag("text", escape(row.name), x=left, y=f"{top + 10:g}", class_="tick"),
            tag(
                "line",
                x1=at(row.low),
                x2=at(row.high),
                y1=top + 19,
                y2=top + 19,
                class_=row.style,
                stroke_width=3,
            ),
            tag(
                "circle",
                tag("title", escape(row.title)),
                cx=at(row.value),
                cy=top + 19,
                r=5,
                class_=row.style,
                data_value=row.value,
                data_low=row.low,
                data_high=row.high,
            ),
        ]
    return tag(
        "svg",
        tag("title", escape(title)),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        class_="plot",
    )


def around(values: Sequence[float], centre: float, label: str) -> Axis:
    """Return a linear axis with `centre` in its middle that holds every value."""
    reach = max((abs(value - centre) for value in values), default=0.0) or 1.0
    half = linear([reach], label)
    ticks = {
        round(centre + sign * tick, 10): f"{centre + sign * tick:,.10g}"
        for tick in half.ticks
        for sign in (-1, 1)
    }
    return Axis(
        low=centre - half.high, high=centre + half.high, ticks=dict(sorted(ticks.items())), label=label
    )
