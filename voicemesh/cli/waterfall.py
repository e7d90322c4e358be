"""The waterfall of a turn: where its time to first audio went, legible without colours, also at 50 columns.

    stage                                                        ms   share
    llm_ttft       ████████████████▎                          182.4    61%
    llm_text                        █████▌                     60.1    20%

Bars are drawn in eighths of a cell; each begins where the one before it ends, because stages are
contiguous.
"""

import textwrap
from collections.abc import Iterator
from typing import Final, Literal

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from voicemesh.cli import chunk_rows
from voicemesh.cli.characters import printable
from voicemesh.cli.console import plain_table
from voicemesh.client import TurnReport
from voicemesh.stages import STAGES, Stage

_BAR_CELLS: Final = 40
_LEAST_BAR_CELLS: Final = 6
_FIGURES_CELLS: Final = 34
"""What stands beside a bar: name, milliseconds, share, and what is between them."""
_NAME_CELLS: Final = 15
"""Where bars begin."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_STYLES: Final = {
    Stage.LLM_CONNECT: "magenta",
    Stage.LLM_TTFT: "magenta",
    Stage.LLM_TEXT: "bright_magenta",
    Stage.CHUNK_HOLD: "yellow",
    Stage.TTS_QUEUE: "red",
    Stage.TTS_SYNTHESIS: "green",
    Stage.TRANSPORT: "cyan",
}
Seen = Literal["gateway", "caller"]
_SEEN: Final[dict[Seen, str]] = {
    "gateway": "times: the gateway's, prompt read to frame sent",
    "caller": "times: the caller's, prompt sent to frame here",
}
_OUTCOME_STYLES: Final = {"completed": "green", "interrupted": "yellow", "failed": "red"}


def show(console: Console, report: TurnReport, *, seen_by: Seen) -> None:
    """Print the whole account of a turn, with the times that the gateway or the caller saw."""
    unicode = not console.options.ascii_only
    console.print(render(report, width=console.width, unicode=unicode, seen_by=seen_by))


def render(
    report: TurnReport, *, width: int = 80, unicode: bool = True, seen_by: Seen = "gateway"
) -> RenderableType:
    """Return the whole account of a turn, `width` columns wide: its figures, its stages, its chunks."""
    parts: list[RenderableType] = [_headline(report, seen_by), Text()]
    if report.ttfa_ms:
        parts += [_stages(report, width, unicode=unicode), *_audible(report, width), *_hops(report), Text()]
    else:
        parts += [Text("no audio was heard: there is no time to first audio to cut", style="dim"), Text()]
    if report.chunks:
        parts += chunk_rows.render(report.chunks, width)
    if report.degraded:
        parts += [Text(), *(Text(line, style="yellow") for line in _given_up(report, width))]
    return Group(*parts)


def bar(
    start_ms: float, duration_ms: float, total_ms: float, *, cells: int = _BAR_CELLS, unicode: bool = True
) -> str:
    """Return a bar for a stage that begins at `start_ms` of `total_ms`, which is `cells` wide.

    What lasts at all is drawn at least an eighth of a cell wide.
    """
    if total_ms <= 0 or duration_ms <= 0:
        return ""
    scale = cells * 8 / total_ms
    first = min(max(round(start_ms * scale), 0), cells * 8 - 1)
    last = min(max(round((start_ms + duration_ms) * scale), first + 1), cells * 8)
    if not unicode:
        filled = max(round(last / 8) - first // 8, 1)
        return " " * (first // 8) + "#" * filled
    # A cell can be filled from its left edge only: a bar begins at the cell that its start lies in.
    lead, inside = divmod(first, 8)
    width = max(last - first, 1) if inside else last - first
    full, rest = divmod(width, 8)
    return " " * lead + "█" * full + (_EIGHTHS[rest] if rest else "")


def _given_up(report: TurnReport, width: int) -> list[str]:
    """Return a line for each thing that was given up, and why, wrapped."""
    whys = [*report.degraded_why, *("" for _ in report.degraded[len(report.degraded_why) :])]
    lines = []
    for what, why in zip(report.degraded, whys, strict=False):
        said = f"given up: {what}" + (f" ({' '.join(printable(why).split())})" if why else "")
        lines += textwrap.wrap(said, max(width, 20), subsequent_indent="  ")
    return lines


def _headline(report: TurnReport, seen_by: Seen) -> Text:
    text = Text()
    text.append(report.outcome, style=f"bold {_OUTCOME_STYLES.get(report.outcome, '')}".strip())
    text.append(f"  turn {report.turn_id}\n", style="dim")
    text.append(f"{_SEEN[seen_by]}\n", style="dim")
    first = [
        ("first text", report.ttft_ms),
        ("first audio", report.ttfa_ms),
        ("audible", report.ttfa_audible_ms),
    ]
    shown = [f"{name} {value:.1f} ms" for name, value in first if value]
    shown.append(f"end {report.total_ms:.0f} ms")
    text.append(" · ".join(shown) + "\n")
    facts = [f"{report.audio_ms / 1000:.2f} s of audio", f"{report.underruns} underruns"]
    if report.underruns:
        facts[-1] += f" ({report.underrun_ms:.0f} ms)"
    facts.append(f"reply cache {report.reply_cache}")
    if report.input_tokens or report.output_tokens:
        facts.append(f"{report.input_tokens} + {report.output_tokens} tokens")
    text.append(" · ".join(facts))
    for line in _paid(report):
        text.append(f"\n{line}")
    return text


def _paid(report: TurnReport) -> list[str]:
    """Return what the turn cost and what was saved, a line each; none where nobody charges for anything."""
    cost = report.cost
    lines = []
    if cost.total_usd:
        about = "about " if cost.estimated else ""
        shares = (("llm", cost.llm_usd), ("speech", cost.speech_usd))
        shown = ", ".join(f"{name} ${usd:.6f}" for name, usd in shares if usd)
        lines.append(f"cost {about}${cost.total_usd:.6f} ({shown})")
    saved = (("the cache", cost.saved_usd), ("the provider's prompt cache", cost.prompt_cache_saved_usd))
    if shown := ", ".join(f"${usd:.6f} by {what}" for what, usd in saved if usd):
        lines.append(f"saved {shown}")
    if cost.unpriced:
        lines.append(f"no price for {printable(', '.join(cost.unpriced))}")
    return lines


def _stages(report: TurnReport, width: int, *, unicode: bool) -> Table:
    whole_ms = f"{sum(report.stages.values()) + report.unattributed_ms:.2f}"
    # The bars give way: without them the figures still say all.
    cells = min(width - _FIGURES_CELLS, _BAR_CELLS)
    has_bars = cells >= _LEAST_BAR_CELLS
    below = "all of the above"
    table = plain_table(show_footer=True)
    table.add_column("stage", "first audio", no_wrap=True)
    if has_bars:
        table.add_column("", below if cells >= len(below) else "", width=cells, no_wrap=True)
    table.add_column("ms", whole_ms, justify="right", no_wrap=True, min_width=9)
    table.add_column("share", "100%", justify="right", no_wrap=True, min_width=5)
    for name, start_ms, duration_ms in _rows(report):
        style = _STYLES.get(name, "blue") if isinstance(name, Stage) else "dim"
        quiet = "" if duration_ms else "dim"
        row = [
            Text(str(name), style=quiet),
            Text(f"{duration_ms:.2f}", style=quiet),
            Text(_share(duration_ms, report.ttfa_ms), style=quiet),
        ]
        if has_bars:
            drawn = bar(start_ms, duration_ms, report.ttfa_ms, cells=cells, unicode=unicode)
            row.insert(1, Text(drawn, style=style))
        table.add_row(*row)
    return table


def _audible(report: TurnReport, width: int) -> list[Text]:
    """Return where the first sound is: a caret behind the bars, as far as there is room."""
    silence_ms = report.ttfa_audible_ms - report.ttfa_ms
    if silence_ms <= 0:
        return []
    cells = min(width - _FIGURES_CELLS, _BAR_CELLS)
    said = f"audible at {report.ttfa_audible_ms:.1f} ms, behind {silence_ms:.1f} ms of silence"
    if cells < _LEAST_BAR_CELLS:
        return [Text(said, style="dim")]
    behind = round(cells * silence_ms / report.ttfa_ms)
    caret = min(_NAME_CELLS + cells + behind, width - 1)
    if len(said) >= caret:
        said = f"audible +{silence_ms:.1f} ms"
    return [Text(f"{said:<{caret}}^", style="dim")]


def _hops(report: TurnReport) -> list[Text]:
    hops = [f"{hop} {duration_ms:.2f}" for hop, duration_ms in report.hops.items() if duration_ms]
    return [Text(f"transport by hop: {' · '.join(hops)}", style="dim")] if hops else []


def _rows(report: TurnReport) -> Iterator[tuple[str, float, float]]:
    start_ms = 0.0
    for stage in STAGES:
        duration_ms = report.stages.get(stage, 0.0)
        yield stage, start_ms, duration_ms
        start_ms += duration_ms
    yield "unattributed", start_ms, report.unattributed_ms


def _share(part: float, whole: float) -> str:
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.5:
        return "<1%"
    return f"{percent:.0f}%"
