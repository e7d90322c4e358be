"""Where a chunk is cut when no mark ends it: between words."""

import re
import unicodedata
from typing import Final

from services.chunker import marks
from services.chunker.view import WHITE_LIMIT

_NOT_WHITE: Final = re.compile(r"\S")
_ALPHABETS: Final = "\u0e00"  # every script without spaces comes behind
_NO_BREAK_BEFORE: Final = marks.CLUSTER | marks.CLOSERS | marks.CLAUSE_FULL | marks.CLAUSE_ASCII
_JOINERS: Final = "\u200d\u2060\ufe0f\ufe0e"


def forced_cut(text: str, start: int, limit: int) -> int:
    """Return where `text[start:]` is cut so that at most `limit - start` characters come before.

    At the last white space that is not inside a number ("1 234"), or between two characters of a
    script without spaces, whichever is later; where one word is longer than that, inside it, but not
    before a combining character. `text` reaches beyond `limit`.
    """
    for index in range(limit, start, -1):
        if text[index].isspace():
            following = _NOT_WHITE.search(text, index)
            near = following is not None and following.start() - index < WHITE_LIMIT
            if not (near and following and following.group().isdigit() and text[index - 1].isdigit()):
                return index
        elif (text[index] > _ALPHABETS or text[index - 1] > _ALPHABETS) and _breaks(text, index):
            return index
    index = limit
    while index > start + 1 and _joined(text, index):
        index -= 1
    return limit if _joined(text, index) else index


def _breaks(text: str, index: int) -> bool:
    """Say whether a line of a script without spaces may break before `index`."""
    before, after = text[index - 1], text[index]
    if not (marks.UNSPACED.match(before) or marks.UNSPACED.match(after)):
        return False
    if after in _NO_BREAK_BEFORE or after.isspace() or before in marks.OPENERS or _joined(text, index):
        return False
    # "3公里" and "第3" stay whole.
    return not (before.isdigit() or after.isdigit())


def _joined(text: str, index: int) -> bool:
    """Say whether the characters before and at `index` make one."""
    after = text[index]
    return (
        unicodedata.category(after) in ("Mn", "Mc", "Me")
        or after in _JOINERS
        or text[index - 1] == "\u200d"
        or 0x1F3FB <= ord(after) <= 0x1F3FF
    )


def word_ends(text: str, word_start: int, index: int) -> tuple[int, bool]:
    """Return where the word at the word mark `index` ends, and whether it counts as one.

    A character of Han or kana counts as a word; otherwise what is between white spaces, if there is
    something to say in it.
    """
    if marks.CJK.match(text, index):
        return index + 1, True
    return index, marks.SPEAKABLE.search(text, word_start, index) is not None
