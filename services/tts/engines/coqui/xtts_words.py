"""From text to the tokens of XTTS: piece by piece, and nothing in a text obeyed."""

import re
from typing import Any, Final

from services.tts.engines.base import CannotSpeakError
from services.tts.engines.coqui.xtts_text import pieces, spell_long_numbers
from services.tts.text import neutralise, speakable
from services.tts.text_limits import xtts_max_chars

_BRACKETS: Final = str.maketrans("[]", "  ")
"""The tokenizer's own marks are in brackets: "[STOP]" in a text would end it."""


class XttsWords:
    """See the module.

    Args:
        tokenizer: The library's `VoiceBpeTokenizer`.
        most_tokens: Longest piece.

    """

    def __init__(self, tokenizer: Any, most_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._most_tokens = most_tokens
        self._heard = frozenset(
            number
            for token, number in tokenizer.tokenizer.get_vocab().items()
            if not token.startswith("[") and speakable(token)
        )

    def of(self, text: str, language: str) -> list[list[int]]:
        """Return the tokens of each piece of `text`; nothing for a text that has nothing to say.

        Raises:
            CannotSpeakError: It has letters or digits, and the model knows none of them.

        """
        plain = spell_long_numbers(neutralise(text).translate(_BRACKETS))
        found = []
        for piece in pieces(plain, xtts_max_chars(language)):
            found += self._of_piece(piece, language)
        if not found and speakable(text):
            raise CannotSpeakError("the model knows none of the letters of the text")
        return found

    def _of_piece(self, piece: str, language: str) -> list[list[int]]:
        tokens = self._encode(piece, language)
        if len(tokens) > self._most_tokens and len(piece) > 1:  # numbers become many words
            return [
                tokens
                for part in pieces(piece, max(1, len(piece) // 2))
                for tokens in self._of_piece(part, language)
            ]
        return [tokens] if not self._heard.isdisjoint(tokens) else []

    def _encode(self, piece: str, language: str) -> list[int]:
        # As the library's `inference_stream` does. What cleans the text may fail over a number.
        last: Exception | None = None
        for text in (piece, re.sub(r"[0-9]", r"\g<0> ", piece), re.sub(r"[0-9]", " ", piece)):
            try:
                return list(self._tokenizer.encode(text.strip().lower(), lang=language))
            except Exception as error:  # noqa: BLE001 - of num2words, in many ways
                last = error
        raise CannotSpeakError(f"the library cannot read the text: {last}")
