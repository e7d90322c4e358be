"""Where the filter stands in the text: what every rule sees, and what it may set."""

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from services.chunker.speech.output import Output

WAIT: Final = -1
"""From a rule: more text has to come before it can be decided."""

UNSPACED_FROM: Final = "\u2e80"
"""Most scripts from here on write words without spaces between."""


class Kind(Enum):
    """What a line is."""

    NONE = 0
    """Blank, or the beginning of the text."""
    TEXT = 1
    ITEM = 2
    HEADING = 3
    ROW = 4
    """A row of a table, or the rule between its head and its body."""
    APART = 5
    """A rule, a fence, indented code: what follows is no continuation."""
    CODE = 6
    """Indented code."""


@dataclass(slots=True)
class Line:
    """The line that is being read, and what it needs to know of those before."""

    kind: Kind = Kind.NONE
    before: Kind = Kind.NONE
    """Kind of the line before."""
    starting: bool = True
    """Nothing but white space and block marks has been seen."""
    begin: int = 0
    """Absolute offset of its first character."""
    length_before: int = 0
    """Characters of the line before, marks and all."""
    words_before: int = 0
    """Words that were said in the line before."""
    refers: bool = False
    """A number in brackets is said in it, and so are others."""
    cells: int = 1
    """Cells of a row that something was said for."""
    indent: int = 0
    """Columns of white space before its first character."""
    broken: bool = False
    """A backslash or spaces at its end break it."""
    marked: bool = False
    """A list or quote mark stands before its content."""
    numbered: bool = False
    """The last mark was a bullet or a number: a task box may follow."""
    list_open: bool = False
    """An indented line belongs to a list."""


@dataclass(slots=True)
class Skip:
    """Text that is passed over until `until` is found."""

    until: re.Pattern[str]
    keep: int
    """Characters at the end of what has come that may begin `until`."""
    inclusive: bool = True
    """The match of `until` is passed over, too."""


@dataclass(slots=True)
class Fence:
    """A fenced block of code that is open."""

    mark: str
    """The character of the fence."""
    count: int
    """The closing fence has at least as many."""
    in_line: bool = False
    """It began behind words, so that words may follow its end."""


@dataclass(slots=True)
class Closer:
    """The end of a link whose text is being read."""

    offset: int
    """Absolute offset of its `]`."""
    length: int
    skip: Skip | None = None
    """What to pass over behind it: a target too long to be held."""


@dataclass(slots=True)
class Reading:
    """The text that is held, and the state in which it is read."""

    language: str = ""
    text: str = ""
    """What has come and is undecided."""
    base: int = 0
    """Absolute offset of its first character."""
    before: str = ""
    """Up to two characters before it."""
    final: bool = False
    """Undecided things are decided now."""
    out: Output = field(default_factory=Output)
    line: Line = field(default_factory=Line)
    emphasis: dict[str, int] = field(default_factory=dict)
    """Open marks of emphasis, by their character."""
    code: int = 0
    """Backticks that close the code that is being read; 0 outside."""
    fence: Fence | None = None
    skip: Skip | None = None
    closers: list[Closer] = field(default_factory=list)

    def previous(self, index: int) -> str:
        """Return the source character before `index`; empty at the beginning."""
        return self.text[index - 1] if index else self.before[-1:]

    def short_of(self, index: int, limit: int) -> bool:
        """Say whether less than `limit` characters from `index` have come, and more may come."""
        return not self.final and len(self.text) - index < limit

    def keep(self, index: int, length: int) -> int:
        """Say the next `length` characters as they stand."""
        self.out.keep(self.text[index : index + length])
        return length

    def drop(self, length: int) -> int:
        """Say nothing for the next `length` characters."""
        self.out.drop(length)
        return length

    def say(self, text: str, length: int) -> int:
        """Say `text` for the next `length` characters."""
        self.out.say(text, length)
        return length

    def end_paragraph(self) -> None:
        """Forget what was open in a paragraph."""
        self.emphasis.clear()
        self.code = 0
