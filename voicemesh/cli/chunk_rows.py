"""The chunks of a turn: a row each, why they were held, and whose time it was that the player ran dry.

     #  cut by    held ms  cache   first ms  audio s  slack ms  text
     1  sentence     20.6  miss         528     2.48       790  so a script is…
    held by lookahead: chunk 1 (20.6 ms)
    dry at chunk 3 for 130 ms: tts_synthesis

In a narrow terminal the texts give way first, then the slack goes below.
"""

from collections.abc import Sequence
from typing import Final, Literal

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from voicemesh.cli.characters import printable
from voicemesh.cli.console import plain_table
from voicemesh.client import ChunkReport
from voicemesh.critical_path.causes import BECAUSE, HOLDS
from voicemesh.stages import Stage

_COLUMNS: Final = (
    ("#", 2),
    ("cut by", 8),
    ("held ms", 7),
    ("cache", 6),
    ("first ms", 8),
    ("audio s", 7),
)
_SLACK_CELLS: Final = 8
_GAP: Final = 2
"""Padding and divider."""
_LEAST_TEXT_CELLS: Final = 4
_LEAST_WITH_SLACK: Final = 14
"""With less room for texts, these are worth more than the slack."""
_HELD_MS: Final = 1.0
"""What is below is no hold, but the way through the chunker."""


def render(chunks: Sequence[ChunkReport], width: int) -> list[RenderableType]:
    """Return the account of the chunks, `width` columns wide."""
    left = width - sum(cells + _GAP for _, cells in _COLUMNS) - 1
    has_slack = any(chunk.slack_ms is not None for chunk in chunks)
    in_table = has_slack and left - _SLACK_CELLS - _GAP >= _LEAST_WITH_SLACK
    if in_table:
        left -= _SLACK_CELLS + _GAP
    parts: list[RenderableType] = [_table(chunks, left, slack=in_table)]
    lines = [*_holds(chunks), *_underruns(chunks)]
    if has_slack and not in_table:
        shown = " · ".join(f"{chunk.index} {_slack(chunk)}" for chunk in chunks if chunk.slack_ms is not None)
        lines.insert(0, f"slack ms: {shown}")
    return [*parts, *(Text(line, style="dim") for line in lines)]


def _table(chunks: Sequence[ChunkReport], left: int, *, slack: bool) -> Table:
    table = plain_table()
    columns = (*_COLUMNS, ("slack ms", _SLACK_CELLS)) if slack else _COLUMNS
    for name, cells in columns:
        justify: Literal["left", "right"] = "left" if name in ("cut by", "cache") else "right"
        table.add_column(name, justify=justify, no_wrap=True, width=cells)
    if left >= _LEAST_TEXT_CELLS:
        table.add_column("text", no_wrap=True)
    for chunk in chunks:
        row: list[RenderableType] = [
            str(chunk.index),
            chunk.reason,
            f"{chunk.held_ms:.1f}",
            chunk.cache,
            f"{chunk.first_frame_ms:.0f}" if chunk.first_frame_ms else "-",
            f"{chunk.audio_ms / 1000:.2f}",
        ]
        if slack:
            row.append(Text(_slack(chunk), style="red" if (chunk.slack_ms or 0) < 0 else ""))
        if left >= _LEAST_TEXT_CELLS:
            text = Text(" ".join(printable(chunk.text).split()))
            text.truncate(left, overflow="ellipsis")
            row.append(text)
        table.add_row(*row)
    return table


def _slack(chunk: ChunkReport) -> str:
    return "-" if chunk.slack_ms is None else f"{chunk.slack_ms:.0f}"


def _holds(chunks: Sequence[ChunkReport]) -> list[str]:
    """Return a line for each thing that chunks were held for."""
    held: dict[str, list[str]] = {}
    for chunk in chunks:
        if chunk.held_ms >= _HELD_MS:
            why = BECAUSE.get(HOLDS.get(chunk.reason, ""), "")
            held.setdefault(why, []).append(f"chunk {chunk.index} ({chunk.held_ms:.1f} ms)")
    return [f"{f'held {why}'.rstrip()}: {', '.join(which)}" for why, which in held.items()]


def _underruns(chunks: Sequence[ChunkReport]) -> list[str]:
    lines = []
    for chunk in chunks:
        if chunk.underruns:
            times = f", {chunk.underruns} times" if chunk.underruns > 1 else ""
            causes = _causes(chunk)
            lines.append(f"dry at chunk {chunk.index} for {chunk.underrun_ms:.0f} ms{times}: {causes}")
    return lines


def _causes(chunk: ChunkReport) -> str:
    """Return whose the time was; where it was not always the same stage, how much of it was each one's."""
    late_ms: dict[Stage | None, float] = {}
    for underrun in chunk.underrun_list:
        late_ms[underrun.cause] = late_ms.get(underrun.cause, 0.0) + underrun.duration_ms
    if len(late_ms) < 2:
        return _cause(chunk.underrun_cause)
    most_first = sorted(late_ms, key=late_ms.__getitem__, reverse=True)
    return ", ".join(f"{_cause(cause)} {late_ms[cause]:.0f} ms" for cause in most_first)


def _cause(cause: Stage | None) -> str:
    return cause.value if cause is not None else "by design, no stage's"
