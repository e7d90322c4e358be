"""Text on its way into an engine: made harmless, without moving a character."""

import re
import unicodedata
from typing import Final

from services.tts.wire import Word

RENDERING: Final = 2
"""Raised whenever this module gives engines another text for the same one."""

# What an engine might obey, or a reader not see:
#   control characters          U+0001 starts a command to espeak-ng; tab and line ends stay
#   halves of characters        no text: an engine that encodes one fails
#   U+061C, U+200E … U+2069     which way to read; line and paragraph separators
#   U+2061 … U+206F, U+FFF0 …   invisible operators, annotations, characters that are none
#   private use areas           engines have marks of their own there
#   U+E0000 … U+E007F           tags: letters that nobody sees and a model reads
# U+200B to U+200D, U+00AD and U+FEFF stay, one at a time: words of many scripts need them.
_UNSPEAKABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ue000-\uf8ff"
    "\ufdd0-\ufdef\ufff0-\ufffb\ufffe\uffff\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
)

# More of these on one letter, or in a row, than any script writes: each takes an engine as long as a letter.
_FLOOD: Final = re.compile(
    "(?<=[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{8})"
    "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
    "|(?<=[\u00ad\u200b-\u200d\ufe00-\ufe0f\ufeff]{4})[\u00ad\u200b-\u200d\ufe00-\ufe0f\ufeff]+"
)

# Scripts without spaces between words: there an engine's own word bounds are all there is.
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def neutralise(text: str) -> str:
    """Return `text` with a space for each character that an engine might obey instead of speak.

    Every other character keeps its place, so that offsets stay true.
    """
    text = _UNSPEAKABLE.sub(" ", text)
    return text if text.isascii() else _FLOOD.sub(lambda flood: " " * len(flood[0]), text)


def speakable(text: str) -> bool:
    """Return whether an engine must make sound for `text`: whether it holds a letter or a digit."""
    return any(character.isalnum() for character in text)


def pauses_at_end(text: str) -> bool:
    """Return whether `text` ends with a mark, so that a pause belongs behind it."""
    last = text.rstrip()[-1:]
    return bool(last) and not last.isalnum()


def words_of(text: str) -> list[tuple[int, int]]:
    """Return (offset, length) of the words of `text`, split at white space, without marks around them."""
    spans = []
    for match in re.finditer(r"\S+", text):
        start, end = trim(text, match.start(), match.end())
        if start < end:
            spans.append((start, end - start))
    return spans


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the bounds of a word without the marks around it; the whole of it where it is marks only."""
    left, right = start, end
    while left < right and not _of_word(text[left]):
        left += 1
    while right > left and not _of_word(text[right - 1]):
        right -= 1
    return (left, right) if left < right else (start, end)


def _of_word(character: str) -> bool:
    # Vowel signs and accents of their own (Devanagari "े") are no letters, but part of the word.
    return character.isalnum() or unicodedata.category(character).startswith("M")


class WordBounds:
    """Turns the word events of an engine into words of the text as a reader sees them.

    Engines speak "12,345" or "don't" as several words and report each; here the first event within a
    word as the text has it (between white space, without marks around it) stands for the whole word.
    In scripts without spaces the engine's own bounds count. Words come in order and never overlap.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = 0
        self._samples = 0

    def add(self, text_offset: int, text_length: int, offset_samples: int) -> list[Word]:
        """Take an event; return the word that begins with it, or nothing."""
        text = self._text
        if text_offset < self._end or text_offset >= len(text) or text[text_offset].isspace():
            return []
        end = min(text_offset + max(text_length, 1), len(text))
        start = text_offset
        if not _UNSPACED.match(text[start]):
            while start > self._end and not text[start - 1].isspace():
                start -= 1
            while end < len(text) and not text[end].isspace():
                end += 1
            self._end = end
            start, end = trim(text, start, end)
        else:
            end = text_offset + len(text[text_offset:end].rstrip())
            self._end = end
        self._samples = max(self._samples, offset_samples)
        return [Word(start, end - start, self._samples)]
