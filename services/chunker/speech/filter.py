"""The speech text filter: written text in, spoken text out. Sans-I/O, incremental."""

from services.chunker.speech.spoken import Spoken


class SpeechText:
    r"""Turns one text into what should be said.

    What comes out, joined, does not depend on how the text is cut into pushes. A `\n` in it is a hard
    boundary: a chunk has to end there even without a full stop.
    """

    def __init__(self, language: str = "") -> None:
        self.language = language
        self._offset = 0

    def push(self, text: str) -> list[Spoken]:
        """Take in more text; give out all of it that is decided."""
        if not text:
            return []
        spoken = Spoken(text, self._offset, len(text))
        self._offset += len(text)
        return [spoken]

    def flush(self) -> list[Spoken]:
        """Decide and give out everything that is held; more text may follow."""
        return []
