"""When words are heard, where the engine does not say: estimated from the text.

Letters are taken to last equally long. Best is to know how long the whole chunk is, so words wait
for its end as long as they can: until shortly before they could be played. An engine that is faster
than speech is done by then, and its words are spread over the true length; for one that is not,
the pace of the voice so far has to do. An engine that times words but for some has those between
their neighbours. Every word from here is marked as estimated. `gateway.core.heard`
estimates likewise, for a chunk whose words never came.

Workers import this module: standard library only.
"""

import re
from collections import deque
from typing import Final

from services.tts.text import speakable, words_of
from services.tts.wire import Word

CHAR_MS: Final = 65.0
"""About 15 characters a second: until something was heard of a voice."""
_LEARNED: Final = 0.3
"""Weight of the newest chunk in the pace of a voice."""
_LEAST_WEIGHT: Final = 10.0
"""Shorter chunks teach nothing."""

# Han, kana and hangul: a character is a syllable, which lasts as long as about three letters. Han
# and kana stand without spaces, so there each character counts as a word. A digit is a word: four.
_SYLLABLES: Final = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff]")
_SINGLE: Final = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_PARTS: Final = re.compile(rf"{_SINGLE.pattern}|(?:(?!{_SINGLE.pattern})\w)+")
_SYLLABLE_WEIGHT: Final = 3
_DIGITS: Final = re.compile(r"\d")
_DIGIT_WEIGHT: Final = 4


def weight(text: str) -> int:
    """Return how long `text` lasts, in letters."""
    syllables, digits = len(_SYLLABLES.findall(text)), len(_DIGITS.findall(text))
    return len(text) + (_SYLLABLE_WEIGHT - 1) * syllables + (_DIGIT_WEIGHT - 1) * digits


class Pace:
    """How fast the variants of an engine speak: learned from the chunks that they spoke."""

    def __init__(self) -> None:
        self._letter_ms: dict[str, float] = {}

    def letter_ms(self, variant: str) -> float:
        """Return milliseconds for each letter at speed 1."""
        return self._letter_ms.get(variant, CHAR_MS)

    def learn(self, variant: str, letters: float, audio_ms: float) -> None:
        """Take a chunk that was spoken to its end; `audio_ms` at speed 1."""
        if letters >= _LEAST_WEIGHT and audio_ms > 0:
            seen = audio_ms / letters
            known = self._letter_ms.get(variant, seen)
            self._letter_ms[variant] = known + _LEARNED * (seen - known)


class EstimatedWords:
    """The words of one chunk.

    Args:
        text: The chunk.
        letter_samples: Samples for each letter, as far as known.

    """

    def __init__(self, text: str, letter_samples: float) -> None:
        self._letter_samples = letter_samples
        spans = [part for span in words_of(text) for part in _parts(text, span)]
        first = spans[0][0] if spans else 0
        # (offset, length, letters between the first word and this one)
        self._left: list[tuple[int, int, int]] = []
        letters, at = 0, first
        for offset, length in spans:
            letters += weight(text[at:offset])
            at = offset
            self._left.append((offset, length, letters))
        self.letters = weight(text[first:].rstrip())
        self._told_samples = 0

    def until(self, samples: int) -> list[Word]:
        """Return the words, not told yet, that begin before sample `samples`: by the pace so far."""
        count = 0
        while count < len(self._left) and self._left[count][2] * self._letter_samples < samples:
            count += 1
        return self._tell(count, self._letter_samples)

    def finish(self, total_samples: int) -> list[Word]:
        """Return the words that are left, by the length of the speech without the pause behind it."""
        return self._tell(len(self._left), total_samples / max(self.letters, 1))

    def _tell(self, count: int, letter_samples: float) -> list[Word]:
        words = []
        for offset, length, letters in self._left[:count]:
            self._told_samples = at = max(int(letters * letter_samples), self._told_samples)
            words.append(Word(offset, length, at, estimated=True))
        del self._left[:count]
        return words


class SkippedWords:
    """The words of one chunk that its engine, which times words, says nothing of.

    espeak-ng tells no time for a word that leans on the one before it ("for *the* fish"). It is told with the
    next word that has a time, spread between its neighbours by letters. Times are the engine's.

    Args:
        text: The chunk.

    """

    def __init__(self, text: str) -> None:
        self._text = text
        # What is marks only may be left unsaid.
        self._left = deque(span for span in words_of(text) if speakable(text[span[0] : sum(span)]))
        self._before: tuple[int, int] | None = None  # the last word that was told: its offset and its sample

    def fill(self, words: list[Word]) -> list[Word]:
        """Return the engine's further words, with those that it left out in between."""
        filled: list[Word] = []
        for word in words:
            filled += self._until(word.text_offset, word.offset_samples)
            end = word.text_offset + word.text_length
            while self._left and self._left[0][0] < end:
                self._left.popleft()
            self._before = word.text_offset, word.offset_samples
            filled.append(word)
        return filled

    def finish(self, end_samples: int) -> list[Word]:
        """Return those that are left, of speech that ends at this sample."""
        return self._until(len(self._text), end_samples) if self._before is not None else []

    def _until(self, text_offset: int, samples: int) -> list[Word]:
        skipped = []
        while self._left and sum(self._left[0]) <= text_offset:
            skipped.append(self._left.popleft())
        if not skipped:
            return []
        begin, first = self._before if self._before is not None else (skipped[0][0], 0)
        ratio = max(0, samples - first) / max(weight(self._text[begin:text_offset]), 1)
        return [
            Word(offset, length, first + int(weight(self._text[begin:offset]) * ratio), estimated=True)
            for offset, length in skipped
        ]


def _parts(text: str, span: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the words of a span: itself, or each character of a script without spaces."""
    offset, length = span
    word = text[offset : offset + length]
    if not _SINGLE.search(word):
        return [span]
    return [(offset + part.start(), len(part[0])) for part in _PARTS.finditer(word)]
