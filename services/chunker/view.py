"""What the rules see of the text, and how they look around in it.

Each rule looks at the text alone, never at how it was cut into tokens: it says `YES` or `NO` only when
no further text could change that, else `UNDECIDED`. So what comes out does not depend on the tokens.
Lookahead is as short as is safe, because lookahead is silence: one character for most marks, the next
word after an abbreviation.

    … the U.S. It is …            text[index] is the mark
          ^  ^ ^^
          |  |  `-- the next character behind the white space, or the next word
          |  `----- the marks and what closes with them, up to `end`, belong to the sentence
          `-------- the word before the mark, back to white space
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from services.chunker import abbreviations as abbr
from services.chunker import marks
from services.chunker.abbreviations import Table

UNKNOWN: Final = -1
"""From `next_char`: nothing but white space has come."""
OVER: Final = -2
"""From `next_char`: the line or the text is over."""
WHITE_LIMIT: Final = 16
"""So much white space ends a sentence as a new line does: lookahead is bounded."""

_WORD_LIMIT: Final = 32  # no longer word is looked at
_WHITE: Final = re.compile(r"\s*")
_LETTERS: Final = re.compile(r"[^\W\d_]*")


class Verdict(Enum):
    """What a mark is."""

    NO = 0
    YES = 1
    UNDECIDED = 2


class Decision(NamedTuple):
    """What a mark is, and where what belongs to it ends."""

    verdict: Verdict
    end: int
    """Behind the marks and what closes with them. Scanning goes on here."""
    plausible: bool = True
    """For UNDECIDED: may be taken for an end when it was held too long."""


@dataclass(slots=True)
class View:
    """The text as far as it has come, for the rules."""

    text: str
    start: int
    """Where the chunk begins; of what is before it, rules look at one character at most."""
    sentence_start: int
    """Where the sentence begins; before `start` where the chunk is not its beginning."""
    limit: int
    """No rule looks at a run of marks beyond this index."""
    final: bool
    """No more text comes."""
    guillemet_open: bool
    """A « with a space behind it is open, so that a space and » may follow an end mark."""
    table: Table


def maybe(end: int, plausible: bool = True) -> Decision:
    """Return that the text does not show yet whether a sentence ends at `end`."""
    return Decision(Verdict.UNDECIDED, end, plausible)


def next_char(view: View, end: int) -> int:
    """Return the index of the first character behind white space; -1 undecided, -2 end of a line or all."""
    text = view.text
    match = _WHITE.match(text, end)
    found = match.end() if match else end
    white = text[end:found]
    if white and (found - end >= WHITE_LIMIT or (not white.isprintable() and _has_newline(white))):
        return OVER
    if found == len(text):
        return OVER if view.final else UNKNOWN
    return found


def _has_newline(white: str) -> bool:
    return any(char in marks.NEWLINES for char in white)


def word_at(view: View, index: int) -> str | None:
    """Return the word at `index`; None where it may go on."""
    match = _LETTERS.match(view.text, index, index + _WORD_LIMIT)
    end = match.end() if match else index
    if end == len(view.text) and not view.final:
        return None
    return view.text[index:end]


def start_of_word(view: View, index: int) -> int:
    """Return where the word before `index` begins."""
    text, begin = view.text, max(view.start, index - _WORD_LIMIT * 2)
    space = text.rfind(" ", begin, index) + 1 or begin
    if text[space:index].isprintable():
        return space  # no white space is printable but the space
    words = text[begin:index].split()
    if not words or view.text[index - 1].isspace():
        return index
    return index - len(words[-1])


def word_before(view: View, index: int) -> str:
    """Return the word that ends before the white space before `index`."""
    text = view.text
    while index > view.start and text[index - 1].isspace():
        index -= 1
    return text[start_of_word(view, index) : index]


def _goes_on(view: View, index: int) -> Verdict:
    """Say whether the sentence goes on at `index`, behind a quote: in lower case, also behind a dash."""
    text = view.text
    if text[index] in marks.DASHES:
        after = next_char(view, index + 1)
        if after == UNKNOWN:
            return Verdict.UNDECIDED
        index = max(after, index)
    return Verdict.YES if text[index].islower() or text[index] in ",;:" else Verdict.NO


def after_closer(view: View, end: int) -> Decision:
    """Decide about marks with a closed quote or bracket: the sentence may go on behind it."""
    following = next_char(view, end)
    if following < 0:
        return maybe(end) if following == UNKNOWN else Decision(Verdict.YES, end)
    goes_on = _goes_on(view, following)
    if goes_on is Verdict.UNDECIDED:
        return maybe(end)
    return Decision(Verdict.NO if goes_on is Verdict.YES else Verdict.YES, end)


def before_starter(view: View, end: int) -> Decision:
    """Decide about what ends a sentence only where a word follows that begins sentences."""
    following = next_char(view, end)
    if following < 0:
        return maybe(end) if following == UNKNOWN else Decision(Verdict.YES, end)
    if not view.text[following].isupper():
        return Decision(
            Verdict.YES if view.text[following] in marks.OPENERS - {"(", "["} else Verdict.NO, end
        )
    word = word_at(view, following)
    if word is None:
        return maybe(end)
    return Decision(Verdict.YES if word in abbr.STARTERS else Verdict.NO, end)
