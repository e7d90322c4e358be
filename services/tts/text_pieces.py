"""A text that is longer than an engine takes at once, cut where it hurts least.

Workers import this module: standard library only.
"""

import re
from typing import Final

from services.tts.text import speakable

# Quotation marks and brackets may stand between the mark and the space. The last group: marks of
# Chinese and Japanese, behind which no space is written.
_SENTENCE_END: Final = re.compile("[.!?\u2026][\"'\u201d\u2019)\\]]*\\s+|[\u3002\uff01\uff1f]+|\\n\\s*")
_WORD_END: Final = re.compile(r"\s+")


def pieces_of(text: str, most_chars: int) -> list[str]:
    """Cut `text` into pieces of at most `most_chars` code points; those with nothing to say are left out.

    Behind a sentence where one ends in the second half of what fits, else between two words, else
    where it has to be.
    """
    pieces = []
    rest = text
    while len(rest) > most_chars:
        at = _last(_SENTENCE_END, rest, most_chars // 2, most_chars) or _last(_WORD_END, rest, 1, most_chars)
        pieces.append(rest[: at or most_chars])
        rest = rest[at or most_chars :]
    return [piece for piece in (*pieces, rest) if speakable(piece)]


def _last(end: re.Pattern[str], text: str, first: int, most: int) -> int:
    """Return the last place from `first` to `most` behind a match of `end`; 0 without one."""
    return max((match.end() for match in end.finditer(text, 0, most) if match.end() >= first), default=0)
