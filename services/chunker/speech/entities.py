"""Character references: `&amp;` stands for `&`, `&#8217;` for an apostrophe; a bare `&` is text."""

import html
import html.entities
import re
from bisect import bisect_left
from typing import Final

from services.chunker.speech.emoji import without_unsaid
from services.chunker.speech.reading import WAIT, Reading

_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,8}|#[xX][0-9A-Fa-f]{1,8}|[A-Za-z][A-Za-z0-9]{1,31});")
_NUMBER_BEGUN: Final = re.compile(r"&#(?:[0-9]{0,8}|[xX][0-9A-Fa-f]{0,8})\Z")
_NAMES: Final = sorted(name for name in html.entities.html5 if name.endswith(";"))
_LONGEST: Final = max(map(len, _NAMES)) + 1


def ampersand(reading: Reading, index: int) -> int:
    """Decide about the `&` at `index`."""
    text = reading.text
    match = _ENTITY.match(text, index)
    if match:
        decoded = html.unescape(match[0])
        if decoded == match[0]:
            return reading.keep(index, 1)
        return reading.say(" " if decoded.isspace() else without_unsaid(decoded), match.end() - index)
    if not reading.final and _may_begin(text[index : index + _LONGEST]):
        return WAIT
    return reading.keep(index, 1)


def _may_begin(begun: str) -> bool:
    """Say whether what has come may be the beginning of a reference."""
    if begun == "&" or _NUMBER_BEGUN.match(begun):
        return True
    place = bisect_left(_NAMES, begun[1:])
    return place < len(_NAMES) and _NAMES[place].startswith(begun[1:])
