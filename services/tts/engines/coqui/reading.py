"""Text on its way into a VITS: tokens as the model's own tokenizer makes them, and whose they are.

    text ──clean──> ──phonemes──> characters ──vocabulary──> tokens ──blanks between──> ids
      └ words ───────(each by itself, laid over the whole)──────────> token that begins each

A text with more tokens than `MAX_TOKENS` is read in parts, cut where a reader would pause: the work of the
text encoder grows with the square of the tokens, and sound would be late.
"""

import functools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from services.tts.engines.base import CannotSpeakError
from services.tts.engines.coqui.alignment import starts
from services.tts.text import neutralise, speakable, words_of

MAX_TOKENS: Final = 512

_CUTS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"[.!?…]+[\"'”)]*\s+|[。！？]",  # noqa: RUF001 - marks of other scripts
        r"[,;:]\s+|[，、；：]|\s[—-]\s",  # noqa: RUF001
        r"\s+",
    )
)
_log: Final = logging.getLogger(__name__)


class Tokens(NamedTuple):
    """A text, or a part of one, as the model takes it."""

    ids: tuple[int, ...]
    words: tuple[tuple[int, int, int], ...]
    """(index in `ids` where it begins, offset in the text, length in the text) of each word, in order."""


class Reader:
    """Reads texts of one language for one model.

    Args:
        tokenizer: The model's, of the library.
        language: As the model calls it.
        max_tokens: Of a part.

    """

    def __init__(self, tokenizer: Any, language: str, max_tokens: int = MAX_TOKENS) -> None:
        self._tokenizer = tokenizer
        self._language = language
        self._max_tokens = max_tokens
        self._unknown: set[str] = set()
        self._rendered = functools.lru_cache(maxsize=4096)(self._render)
        self.read: Callable[[str], tuple[Tokens, ...]] = functools.lru_cache(maxsize=256)(self._read)
        """Takes a text; returns its parts, none for a text that has nothing to say. Raises
        `CannotSpeakError` where the model knows none of its letters."""

    def _read(self, text: str) -> tuple[Tokens, ...]:
        text = neutralise(text)
        parts = tuple(self._parts(text, 0, len(text), words_of(text)))
        if not parts and speakable(text):
            raise CannotSpeakError("the model's alphabet has none of the letters of this text")
        return parts

    def _parts(self, text: str, start: int, end: int, words: list[tuple[int, int]]) -> Iterator[Tokens]:
        part = text[start:end]
        if not part.strip():
            return
        rendered = self._rendered(part)
        known = [index for index, character in enumerate(rendered) if self._id(character) is not None]
        ids = self._ids([self._id(rendered[index]) for index in known])
        if not any(self._is_sound(rendered[index]) for index in known):
            return
        if len(ids) > self._max_tokens and len(part) > 1:
            cut = start + _cut(part)
            yield from self._parts(text, start, cut, words)
            yield from self._parts(text, cut, end, words)
            return
        spans = [(at, length) for at, length in words if at < end and at + length > start]
        yield Tokens(ids, tuple(self._words(part, start, rendered, known, spans)))

    def _words(
        self, part: str, start: int, rendered: str, known: list[int], spans: list[tuple[int, int]]
    ) -> Iterator[tuple[int, int, int]]:
        pieces = [self._rendered(part[max(0, at - start) : at - start + length]) for at, length in spans]
        kept = [number for number, piece in enumerate(pieces) if any(map(self._is_sound, piece))]
        token = 0
        for number, begin in zip(kept, starts([pieces[number] for number in kept], rendered), strict=True):
            at, length = spans[number]
            if at < start:
                continue  # it began in the part before
            while token < len(known) - 1 and known[token] < begin:
                token += 1
            yield self._place(token), at, length

    def _render(self, text: str) -> str:
        """Return what the model's tokenizer makes of `text` before it looks characters up."""
        try:
            return self._said(text)
        except Exception as error:  # noqa: BLE001 - cleaners and number spellers fail in their own ways
            _log.debug("a text could not be prepared as a whole: %s", type(error).__name__)
        # Word by word, and those at fault letter by letter.
        said = []
        for word in text.split():
            try:
                said.append(self._said(word))
            except Exception:  # noqa: BLE001 - see above
                said.append(" ".join(self._letter(letter) for letter in word))
        return " ".join(said)

    def _letter(self, letter: str) -> str:
        try:
            return self._said(letter)
        except Exception:  # noqa: BLE001 - left out
            return ""

    def _said(self, text: str) -> str:
        tokenizer = self._tokenizer
        if tokenizer.text_cleaner is not None:
            text = tokenizer.text_cleaner(text, lang=self._language.split("-")[0])
        if tokenizer.phonemizer and text.strip():
            text = tokenizer.phonemizer.phonemize(text, separator="", language=self._language)
        return str(text)

    def _id(self, character: str) -> int | None:
        try:
            return int(self._tokenizer.characters.char_to_id(character))
        except KeyError:
            if character not in self._unknown and len(self._unknown) < 1000:
                self._unknown.add(character)
                _log.debug("the model does not know the character U+%04X", ord(character))
            return None

    def _is_sound(self, character: str) -> bool:
        characters = self._tokenizer.characters
        marks = getattr(characters, "punctuations", "")  # a bare vocabulary has none
        if character.isspace() or character in marks or character == characters.pad:
            return False
        return self._id(character) is not None

    def _ids(self, ids: list[Any]) -> tuple[int, ...]:
        if self._tokenizer.add_blank:
            ids = self._tokenizer.intersperse_blank_char(ids)
        if self._tokenizer.use_eos_bos:
            ids = self._tokenizer.pad_with_bos_eos(ids)
        return tuple(ids)

    def _place(self, token: int) -> int:
        """Return the index of the id that stands for the token with that number."""
        place = 2 * token + 1 if self._tokenizer.add_blank else token
        return place + 1 if self._tokenizer.use_eos_bos else place


def _cut(text: str) -> int:
    """Return where to part `text`: at the best end near its middle."""
    middle, quarter = len(text) / 2, len(text) / 4
    for pattern in _CUTS:
        ends = [match.end() for match in pattern.finditer(text)]
        near = [end for end in ends if quarter <= end <= len(text) - quarter]
        if near:
            return min(near, key=lambda end: abs(end - middle))
    return max(1, len(text) // 2)
