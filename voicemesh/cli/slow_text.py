"""The account of many turns: as text that is legible without colours, also at 50 columns, and as JSON."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from voicemesh.cli.characters import printable
from voicemesh.critical_path import Analysis, Finding, Population, SlowTurn
from voicemesh.critical_path.analysis import ENOUGH_OF_A_GROUP
from voicemesh.critical_path.baseline import ENOUGH_TURNS
from voicemesh.critical_path.causes import said
from voicemesh.critical_path.turns import PARTS

_MEASURES: Final = {"ttfa": "time to first audio", "total": "time to the end of the turn"}
_WIDE: Final = 78
_ENOUGH_FOR_P99: Final = 100
_SKEWED: Final = 0.2
_VISIBLE_MS: Final = 0.05


def show(
    console: Console, analysis: Analysis, population: Population, source: str, *, forgotten: bool
) -> None:
    """Print what made slow turns slow.

    Args:
        console: Where to.
        analysis: What is known.
        population: The turns that it was made from.
        source: What these came from, as people call it.
        forgotten: True where older ones are forgotten there.

    """
    for part in _render(console, analysis, population, source, forgotten=forgotten):
        if isinstance(part, Line):
            console.print(part.wrapped(console.width), soft_wrap=True)
        else:
            console.print(part)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text that is wrapped at the width of the terminal, further lines below its beginning."""

    text: str = ""
    style: str = ""
    indent: int = 0
    hang: int = 0

    def wrapped(self, width: int) -> Text:
        """Return it as lines of at most `width`; a word that is longer, such as an id, stays whole."""
        first = " " * self.indent
        lines = textwrap.wrap(
            printable(self.text),
            max(width, 20),
            initial_indent=first,
            subsequent_indent=first + " " * self.hang,
            break_long_words=False,
            break_on_hyphens=False,
        )
        return Text("\n".join(lines), style=self.style)


def ms(milliseconds: float) -> str:
    """Return milliseconds as people read them: with decimals only where they say something."""
    rounded = abs(milliseconds)
    places = 0 if rounded >= 100 else 1 if rounded >= 1 else 2
    return f"{milliseconds:.{places}f}"


def _render(
    console: Console, analysis: Analysis, population: Population, source: str, *, forgotten: bool
) -> Iterator[Line | Table]:
    measure = _MEASURES[analysis.by]
    if not analysis.measured:
        yield Line(f"{analysis.turns} turns in {source}, none with a {measure}")
        return
    yield Line(f"the {len(analysis.slow)} slowest of {analysis.measured} turns by {measure}", style="bold")
    yield from _where(analysis, population, source, forgotten=forgotten)
    yield Line()
    if not analysis.enough:
        yield Line(
            f"{analysis.measured} turns are too few to say what is usual, and so what made some slow: "
            f"at least {ENOUGH_TURNS} are needed",
            style="yellow",
        )
    else:
        yield _parts(analysis)
        yield Line()
        yield from _findings(analysis)
    yield from _underruns(population)
    yield Line()
    yield from _turns(analysis.slow, wide=console.width >= _WIDE)


def _where(
    analysis: Analysis, population: Population, source: str, *, forgotten: bool
) -> Iterator[Line | Table]:
    first, last = population.first_began_unix_us, population.last_began_unix_us
    lines = [f"{source}, turns that began {_time(first)} to {_time(last)}" if first else source]
    if forgotten:
        lines.append("older ones are forgotten: VOICEMESH_GATEWAY_REMEMBERED_TURNS, …_BYTES")
    if analysis.sampled < analysis.measured:
        lines.append(f"what is usual is from a sample of {analysis.sampled} turns, drawn by chance")
    if without := analysis.turns - analysis.measured:
        lines.append(f"{without} more turns have none, and are left out")
    times = [f"p50 {ms(analysis.times.p50)}", f"p95 {ms(analysis.times.p95)}"]
    if analysis.measured >= _ENOUGH_FOR_P99:
        times.append(f"p99 {ms(analysis.times.p99)}")
    lines.append(f"{' · '.join(times)} ms; of the slow ones p50 {ms(analysis.slow_median_ms)} ms")
    for line in lines:
        yield Line(line)


def _parts(analysis: Analysis) -> Table:
    """Return what the time of the slow turns went to; the columns add up, so these are means."""
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False, show_footer=True)
    usual_ms, slow_ms = (
        sum(part.usual_ms for part in analysis.parts),
        sum(part.slow_ms for part in analysis.parts),
    )
    table.add_column("a slow turn", "ms", no_wrap=True)
    for name, total in (
        ("usual", ms(usual_ms)),
        ("slow", ms(slow_ms)),
        ("more", _signed(slow_ms - usual_ms)),
        ("share", "100%"),
        ("blamed", str(len(analysis.slow) - analysis.nothing)),
    ):
        table.add_column(name, total, justify="right", no_wrap=True)
    for part in analysis.parts:
        quiet = "" if part.blamed else "dim"
        share = f"{100 * part.slow_ms / slow_ms:.0f}%" if slow_ms else "0%"
        row = [
            part.name,
            ms(part.usual_ms),
            ms(part.slow_ms),
            _signed(part.excess_ms),
            share,
            str(part.blamed) if part.blamed else "-",
        ]
        table.add_row(*(Text(cell, style=quiet) for cell in row))
    return table


def _findings(analysis: Analysis) -> Iterator[Line | Table]:
    slow = len(analysis.slow)
    if 2 * analysis.busy > slow:
        yield Line(
            f"in {analysis.busy} of {slow} slow turns most processes took longer than usual at once: "
            "look at the machine first, it was busy or starved of CPU",
            style="bold yellow",
        )
    for place, finding in enumerate(analysis.findings, start=1):
        yield Line(f"{place}. {finding.part}: {headline(finding, len(analysis.slow))}", style="bold", hang=3)
        for line in _details(finding, analysis):
            yield Line(line, indent=3)
    if analysis.nothing:
        of = f"{analysis.nothing} of {len(analysis.slow)} slow turns"
        yield Line(f"{of}: no one stage was unusually long")
    for line in _remarks(analysis):
        yield Line(line)


def headline(finding: Finding, slow: int) -> str:
    """Return a finding as a sentence: what, how long, why, in how many of the slow turns."""
    what = said(finding.part, finding.reason, f"{ms(finding.part_ms)} ms")
    return f"{what} in {_percent(finding.share)} of slow turns ({finding.turns} of {slow})"


def _details(finding: Finding, analysis: Analysis) -> Iterator[str]:
    yield f"usually {ms(finding.usual_ms)} ms; {_signed(finding.excess_ms)} ms in these (medians)"
    if finding.first < finding.turns:
        yield f"what took longest in {finding.first or 'none'} of them, and counts beside that in the others"
    if finding.advice:
        yield f"without that: {won(finding, analysis) or 'no percentile moves'}"
        yield f"{finding.affected} of {analysis.sampled} turns have it, slow or not"
        yield f"try: {finding.advice}"
    else:
        yield f"fewer than {ENOUGH_OF_A_GROUP} turns: too few to conclude from"
    yield f"such as {finding.examples[0]}"


def won(finding: Finding, analysis: Analysis) -> str:
    """Return which percentiles would have been lower without what was found, and by how much; "" for none."""
    before, after = analysis.times, finding.without
    moved = [
        ("p95", before.p95, after.p95),
        ("p50 of the slow", analysis.slow_median_ms, finding.slow_median_without_ms),
    ]
    if analysis.measured >= _ENOUGH_FOR_P99:
        moved.insert(1, ("p99", before.p99, after.p99))
    return ", ".join(
        f"{name} {ms(was)} to {ms(now)} ms" for name, was, now in moved if was - now > _VISIBLE_MS
    )


def _remarks(analysis: Analysis) -> Iterator[str]:
    """Say what slow turns have in common beside their stages."""
    slow, everything = len(analysis.slow), analysis.sampled
    for what, (in_slow, in_all) in analysis.kinds.items():
        if in_slow / slow - in_all / everything > _SKEWED:
            yield _unlike(what, in_slow, slow, in_all, everything)
    for what, (in_slow, in_all) in analysis.degraded.items():
        if in_slow >= ENOUGH_OF_A_GROUP and in_slow / slow > in_all / everything:
            yield _unlike(f"gave up {what}", in_slow, slow, in_all, everything)


def _unlike(what: str, in_slow: int, slow: int, in_all: int, everything: int) -> str:
    return f"{_percent(in_slow / slow)} of slow turns, {_percent(in_all / everything)} of all: {what}"


def _underruns(population: Population) -> Iterator[Line | Table]:
    found = population.underruns
    if not found.turns:
        return
    shares = sorted(found.by_stage.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{name} {_percent(late_ms / found.total_ms)}" for name, late_ms in shares if found.total_ms]
    design_ms = found.total_ms - sum(late_ms for _, late_ms in shares)
    if told and design_ms > _VISIBLE_MS:
        told.append(f"no stage {_percent(design_ms / found.total_ms)}")
    yield Line()
    yield Line(
        f"underruns in {_percent(found.turns / population.taken)} of turns ({found.turns} of "
        f"{population.taken}): {found.count}, {ms(found.total_ms)} ms in sum; "
        f"by whose time: {', '.join(told) or 'not known'}"
    )


def _turns(slow: Sequence[SlowTurn], *, wide: bool) -> Iterator[Line | Table]:
    for turn in slow:
        why = f"{turn.part} {_signed(turn.excess[PARTS.index(turn.part)])}" if turn.part else "-"
        began = f"{_time(turn.turn.began_unix_us)[-8:]} " if turn.turn.began_unix_us else ""
        line = f"{began}{ms(turn.measure_ms):>6} ms  {why}"
        name = turn.turn.turn_id
        if turn.turn.tenant:
            name += f" ({turn.turn.tenant})"
        if wide:
            yield Line(f"{line:<42} {name}")
        else:
            yield Line(line)
            yield Line(name, style="dim", indent=4)


def _signed(milliseconds: float) -> str:
    if abs(milliseconds) < _VISIBLE_MS:
        return "0"
    text = ms(milliseconds)
    return text if text.startswith("-") else f"+{text}"


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{100 * share:.0f}%"


def _time(unix_us: int) -> str:
    began = datetime.fromtimestamp(unix_us / 1e6, tz=UTC).astimezone()
    return f"{began:%Y-%m-%d %H:%M:%S}"


def to_json(
    analysis: Analysis,
    population: Population,
    problems: Sequence[tuple[str, int, str]],
    *,
    forgotten: bool,
) -> dict[str, Any]:
    """Return the JSON form: stable names, times in milliseconds."""
    found = population.underruns
    return {
        "by": analysis.by,
        "turns": analysis.turns,
        "measured": analysis.measured,
        "sampled": analysis.sampled,
        "enough": analysis.enough,
        "forgotten": forgotten,
        "first_began_unix_us": population.first_began_unix_us,
        "last_began_unix_us": population.last_began_unix_us,
        "ms": _times(analysis.times),
        "slow_median_ms": _rounded(analysis.slow_median_ms),
        "parts": {
            part.name: {
                "usual_ms": _rounded(part.usual_ms),
                "slow_ms": _rounded(part.slow_ms),
                "excess_ms": _rounded(part.excess_ms),
                "blamed": part.blamed,
            }
            for part in analysis.parts
        },
        "findings": [_finding_json(finding, len(analysis.slow)) for finding in analysis.findings],
        "nothing": analysis.nothing,
        "busy": analysis.busy,
        "kinds": _pairs(analysis.kinds),
        "degraded": _pairs(analysis.degraded),
        "underruns": {
            "turns": found.turns,
            "count": found.count,
            "ms": _rounded(found.total_ms),
            "by_stage_ms": {name: _rounded(late_ms) for name, late_ms in sorted(found.by_stage.items())},
        },
        "slow": [_slow_json(turn) for turn in analysis.slow],
        "left_out": [{"file": name, "line": line, "problem": problem} for name, line, problem in problems],
    }


def _finding_json(finding: Finding, slow: int) -> dict[str, Any]:
    return {
        "part": finding.part,
        "reason": finding.reason,
        "said": headline(finding, slow),
        "turns": finding.turns,
        "first": finding.first,
        "busy": finding.busy,
        "share": round(finding.share, 4),
        "part_ms": _rounded(finding.part_ms),
        "usual_ms": _rounded(finding.usual_ms),
        "excess_ms": _rounded(finding.excess_ms),
        "affected": finding.affected,
        "without_ms": _times(finding.without),
        "slow_median_without_ms": _rounded(finding.slow_median_without_ms),
        "examples": list(finding.examples),
        "advice": finding.advice,
    }


def _slow_json(slow: SlowTurn) -> dict[str, Any]:
    turn = slow.turn
    return {
        "turn_id": turn.turn_id,
        "trace_id": turn.trace_id,
        "tenant": turn.tenant,
        "began_unix_us": turn.began_unix_us,
        "outcome": turn.outcome,
        "ms": _rounded(slow.measure_ms),
        "usual_ms": _rounded(slow.usual_ms),
        "part": slow.part,
        "reason": slow.reason,
        "excess_ms": {name: _rounded(value) for name, value in zip(PARTS, slow.excess, strict=False)},
    }


def _pairs(found: dict[str, tuple[int, int]]) -> dict[str, dict[str, int]]:
    return {name: {"slow": in_slow, "all": in_all} for name, (in_slow, in_all) in found.items()}


def _times(times: Any) -> dict[str, float]:
    return {"p50": _rounded(times.p50), "p95": _rounded(times.p95), "p99": _rounded(times.p99)}


def _rounded(milliseconds: float) -> float:
    return round(milliseconds, 3)
