"""Consoles: one place decides about width and encoding."""

import sys
from typing import TextIO

from rich.console import Console


def console_for(stream: TextIO | None = None) -> Console:
    """Return a console on `stream` (standard output by default): 80 columns where there is no terminal."""
    stream = sys.stdout if stream is None else stream
    console = Console(file=stream, highlight=False, soft_wrap=False)
    console.width = min(console.width, 120)
    return console
