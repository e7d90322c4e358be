"""Text on its way into XTTS: cut into pieces that it speaks to their end.

XTTS makes at most 28 seconds of audio at a time and forgets what it was to say long before: its tokenizer
knows a number of characters for each language (`services.tts.text_limits`). A longer text is spoken piece
by piece. Pieces joined are the text, but for the white space between them.

Workers import this module: standard library only.
"""

import re
from collections.abc import Iterator
from typing import Final

_LONG_NUMBER: Final = re.compile(r"[0-9]{16,}")
"""Too long for a number that anybody says (and for the library's float): its digits are said one by one."""

# From the best place for a cut to the worst: behind a sentence, behind a clause, at white space. A mark
# between two digits belongs to a number.
_CUTS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？।؟]+[”」』）]*",
        r"(?:[,;:–—][\"'”’»)\]]*(?=\s)|[，、；：،؛])",
        r"(?=\s)",
    )
)
_LEAST_SHARE: Final = 0.3
"""A piece shorter than this share of the limit sounds cut off: then a worse place further on is better."""


def pieces(text: str, limit: int) -> Iterator[str]:
    """Yield `text` in pieces of at most `limit` characters, without white space around them.

    A piece ends behind a sentence where one ends late enough, else at a clause mark, else at a space;
    inside a word or number only where that alone is longer than the limit.
    """
    rest = text.strip()
    while len(rest) > limit:
        end = _cut(rest, limit)
        yield rest[:end].rstrip()
        rest = rest[end:].lstrip()
    if rest:
        yield rest


def spell_long_numbers(text: str) -> str:
    """Return `text` with a space between the digits of numbers that nobody would say as a number."""
    return _LONG_NUMBER.sub(lambda match: " ".join(match[0]), text)


def _cut(text: str, limit: int) -> int:
    """Return where the first piece of `text` ends: 1 to `limit`."""
    for least in (limit * _LEAST_SHARE, 0):
        for cuts in _CUTS:
            # Looked for a character further, so that what follows a cut is seen.
            ends = [match.end() for match in cuts.finditer(text, 0, limit + 1) if match.end() <= limit]
            if ends and ends[-1] > least:
                return ends[-1]
    return limit
