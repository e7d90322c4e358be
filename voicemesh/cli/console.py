"""Consoles: one place decides about width and encoding."""

import sys
from collections.abc import Iterable
from typing import Final, TextIO

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from voicemesh.cli.characters import printable

_WIDEST: Final = 10_000


def console_for(stream: TextIO | None = None) -> Console:
    """Return a console on `stream` (standard output by default): 80 columns where there is no terminal."""
    stream = sys.stdout if stream is None else stream
    console = _Guarded(file=stream, highlight=False, soft_wrap=False)
    console.width = min(console.width, 120)
    return console


class _Guarded(Console):
    """Writes nothing that could move a terminal but what rich itself does: names are a caller's to choose."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, without control characters in any text."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control or text.isprintable() else Segment(printable(text), style)


def table_of(*columns: str, left: int) -> Table:
    """Return a table whose first `left` columns are names, and the others numbers.

    Nothing in it is cut short: names go on in the next line where there is no room, numbers stay whole.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for place, name in enumerate(columns):
        is_name = place < left
        table.add_column(name, justify="left" if is_name else "right", no_wrap=not is_name, overflow="fold")
    return table


def print_table(console: Console, table: Table) -> None:
    """Print a table; where it is no terminal, as wide as it needs."""
    if not console.is_terminal:
        needed = console.measure(table, options=console.options.update(width=_WIDEST)).maximum
        console.width = max(console.width, needed)
    console.print(table)


def plain_table(*, show_footer: bool = False) -> Table:
    """Return a table without edges, whose cells are one apart."""
    return Table(
        box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False, show_footer=show_footer
    )
