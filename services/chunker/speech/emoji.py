"""Characters that are not said, as tables: pictographs, what goes with them, and what cannot be seen.

Source: Unicode's emoji-data.txt (property Emoji_Presentation and Extended_Pictographic) and the general
categories Cc, Cf, Co and Cs. What is text by default and has a name that is said stays: the signs of
copyright, trade mark and degree, arrows, notes of music, mathematical signs, currencies.
"""

import re
import unicodedata
from typing import Final

PICTOGRAPHS: Final = (
    "\U0001f000-\U0001faff"  # emoji, flags, skin tones, tiles, cards
    "\u2600-\u266c\u2670-\u2752\u2756\u2758-\u2775\u2794-\u27bf"  # miscellaneous symbols, dingbats
    "\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa"  # clocks, keys of players
    "\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2934\u2935\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55"
    "\u21a9\u21aa\u3030\u303d\u3297\u3299"
)
"""Emoji, and signs that are drawn like them."""

DRAWINGS: Final = "\u2500-\u259f\U0001fb00-\U0001fbef"
"""Lines, boxes and blocks: trees of files, frames, bars of progress."""

SELECTORS: Final = "\ufe00-\ufe0f\u20e0\u20e3\U000e0000-\U000e01ef"
"""Variation selectors, the key cap, tags of flags."""

INVISIBLE: Final = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u180e\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\uffff\U000f0000-\U0010ffff\ud800-\udfff\ue000-\ue1ff\ue201-\uf8ff"
)
"""Controls, marks of direction, byte order marks, private use, broken characters."""

JOINERS: Final = "\u200b-\u200d"
"""Zero width; inside words of many scripts they are part of the spelling."""

SILENT: Final = re.compile(f"[{PICTOGRAPHS}{DRAWINGS}{SELECTORS}{INVISIBLE}]+")
"""A run of characters for which nothing is said."""

PICTOGRAPH: Final = re.compile(f"[{PICTOGRAPHS}]")

UNSEEN: Final = re.compile(f"[{DRAWINGS}{SELECTORS}{INVISIBLE}]+")
"""A run of such characters without pictographs."""

MARKS: Final = {"\u2753": "?", "\u2754": "?", "\u2755": "!", "\u2757": "!"}
"""Emoji that stand for a mark."""

STYLED: Final = "\U0001d400-\U0001d7ff\u2460-\u2473\u2776-\u2793"
"""Letters of mathematical alphabets, which stand in for bold and italic, and numbers in circles."""

_STYLED_RUN: Final = re.compile(f"[{STYLED}]")
_JOINER: Final = re.compile(f"[{JOINERS}]")
_CIRCLED: Final = re.compile("[\u2776-\u2793]")
_SPELLING_FROM: Final = 0x0590  # the scripts from here on spell with joiners


def plain_letter(char: str) -> str:
    """Return what a styled letter or number stands for."""
    if _CIRCLED.match(char):
        return str((ord(char) - 0x2776) % 10 + 1)
    return unicodedata.normalize("NFKC", char)


def is_styled(char: str) -> bool:
    """Say whether `char` is a letter or number in a style of its own."""
    return _STYLED_RUN.match(char) is not None


def joins_spelling(previous: str) -> bool:
    """Say whether a joiner behind `previous` is part of a word's spelling."""
    return previous != "" and ord(previous) >= _SPELLING_FROM and unicodedata.category(previous)[0] in "LM"


def without_unsaid(text: str) -> str:
    """Return `text` without what is not said, joiners included."""
    return SILENT.sub("", _JOINER.sub("", text))
