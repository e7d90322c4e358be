"""Rules for what stands in a line: one function for each character that may begin markup.

Each gets the reading and an index, tells the output what to say, and returns how many characters it has
decided; `WAIT` while that depends on text that has not come. The answer never depends on how much more
than the needed has come, so that it does not matter how the text is cut.
"""

import re
import string
from collections.abc import Callable
from typing import Final

from services.chunker.speech import emoji
from services.chunker.speech.emphasis import emphasis
from services.chunker.speech.entities import ampersand
from services.chunker.speech.latex import dollar, parenthesis
from services.chunker.speech.lines import hash_sign, line_end, pipe
from services.chunker.speech.links import bang, bracket, closing_bracket, source_mark
from services.chunker.speech.reading import UNSPACED_FROM, WAIT, Fence, Reading
from services.chunker.speech.tags import less_than
from services.chunker.speech.urls import web_address

Rule = Callable[[Reading, int], int]

_TICKS: Final = re.compile("`+")
_TICKS_LIMIT: Final = 32
_INFO_LIMIT: Final = 120
_INFO_END: Final = re.compile(r"[`\n]")
_RUN_LIMIT: Final = 64
_PUNCTUATION: Final = frozenset(string.punctuation)

_UNSEEN: Final = (
    f"{emoji.PICTOGRAPHS}{emoji.DRAWINGS}{emoji.SELECTORS}{emoji.INVISIBLE}{emoji.JOINERS}{emoji.STYLED}"
    f"{''.join(emoji.MARKS)}"
)
_BREAKS: Final = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
SPECIAL_CLASS: Final = rf"=\n\r{_BREAKS}*_~`\[\]!<&\\$|#\u3010\ue200{_UNSEEN}"
"""Inside a regular expression's brackets: characters without which no text in a line is markup; and letters
may be an address."""

SPECIAL: Final = re.compile(rf"[h{SPECIAL_CLASS}](?:(?<![h=])|(?<=h)ttp|(?<==)=)")
"""Finds the next place in a line where a rule has to look.

A pattern that begins with a set of characters is looked for many times faster than alternatives.
"""

SPECIAL_IN_CODE: Final = re.compile(rf"[\n\r{_BREAKS}`\]{_UNSEEN}]")
"""The same between backticks, where nothing is markup."""

BEGUN: Final = re.compile(r"[=h](?:(?<==)|(?<=h)(?<![^\W_]h)(?:tt?)?)\Z")
"""Finds what may begin such a place at the end of what has come."""

BEGUN_ENDS: Final = frozenset("ht=")
"""What such a beginning ends in."""


def backtick(reading: Reading, index: int) -> int:
    """Decide about a run of backticks: it opens or closes code, whose text is said as it stands."""
    text = reading.text
    match = _TICKS.match(text, index, index + _TICKS_LIMIT)
    assert match is not None
    end = match.end()
    count = end - index
    if end == len(text) and reading.short_of(index, _TICKS_LIMIT):
        return WAIT
    if reading.code:
        if reading.code != count:
            return reading.keep(index, count)
        reading.code = 0
        return reading.drop(count)
    if count >= 3:
        found = _INFO_END.search(text, end, end + _INFO_LIMIT)
        if found is None and reading.short_of(end, _INFO_LIMIT):
            return WAIT
        if found is not None and found[0] == "\n":
            # A block of code that begins behind words.
            reading.out.say("\n", count)
            reading.fence = Fence("`", count, in_line=True)
            return count
    reading.code = count
    return reading.drop(count)


def backslash(reading: Reading, index: int) -> int:
    r"""Decide about a backslash: `\*` is a star, `\(` begins mathematics, at a line's end it breaks it."""
    following = reading.text[index + 1 : index + 2]
    if not following:
        return reading.keep(index, 1) if reading.final else WAIT
    if following in "([":
        return parenthesis(reading, index)
    if following in "\n\r":
        reading.line.broken = True
        return reading.drop(1)
    if following in _PUNCTUATION:
        return reading.say(following, 2)
    return reading.keep(index, 1)


def separator(reading: Reading, index: int) -> int:
    """Take a separator of lines or pages for a boundary."""
    del index
    return reading.say("\n", 1)


def unsaid(reading: Reading, index: int) -> int:
    """Pass over pictographs and what cannot be seen, and say plainly what is styled."""
    text = reading.text
    char = text[index]
    if char in emoji.MARKS:
        return reading.say(emoji.MARKS[char], 1)
    if emoji.is_styled(char):
        return reading.say(emoji.plain_letter(char), 1)
    if "\u200b" <= char <= "\u200d":
        return reading.keep(index, 1) if emoji.joins_spelling(reading.previous(index)) else reading.drop(1)
    if emoji.PICTOGRAPH.match(char):
        return _pictographs(reading, index)
    match = emoji.UNSEEN.match(text, index)
    assert match is not None
    return reading.drop(match.end() - index)


def _pictographs(reading: Reading, index: int) -> int:
    """Pass over pictographs; directly between two words they stand for a space."""
    text, out = reading.text, reading.out
    match = emoji.SILENT.match(text, index, index + _RUN_LIMIT)
    assert match is not None
    length = match.end() - index
    if out.last.isalnum() and not out.ends_white:
        following = text[match.end() : match.end() + 1]
        if not following and reading.short_of(index, _RUN_LIMIT):
            return WAIT
        if following.isalnum() and following < UNSPACED_FROM and out.last < UNSPACED_FROM:
            return reading.say(" ", length)
    return reading.drop(length)


RULES: Final[dict[str, Rule]] = {
    "\n": line_end,
    "\r": line_end,
    "*": emphasis,
    "_": emphasis,
    "~": emphasis,
    "=": emphasis,
    "`": backtick,
    "[": bracket,
    "]": closing_bracket,
    "!": bang,
    "<": less_than,
    "&": ampersand,
    "\\": backslash,
    "$": dollar,
    "|": pipe,
    "#": hash_sign,
    "h": web_address,
    "\u3010": source_mark,
    "\ue200": source_mark,
    **dict.fromkeys(_BREAKS, separator),
}
"""The rule for each character; `unsaid` for all others."""
