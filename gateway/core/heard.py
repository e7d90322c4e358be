"""Which words of a turn were heard when it was interrupted.

A word counts as heard when its first sample was played. Where an engine gives no word timings, the
words of a chunk are spread over its audio in proportion to their characters.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.values import Chunk, Word


@dataclass(frozen=True, slots=True)
class SpokenChunk:
    """A chunk and what was sent of its audio."""

    chunk: Chunk
    words: tuple[Word, ...]
    samples: int
    """Samples of the chunk that were sent."""
    complete: bool
    """True where `samples` is all of the chunk's audio."""
    samples_per_char: int = 0
    """Estimate of speech, for a chunk that is not complete and has no word timings."""

    def heard(self, played_samples: int) -> str:
        """Return the beginning of the chunk's text that was heard by sample `played_samples`."""
        if self.complete and played_samples >= self.samples:
            return self.chunk.text
        end = 0
        for word in self.words or self._estimated():
            if word.offset_samples >= played_samples:
                break
            end = word.text_offset + word.text_length
        text = self.chunk.text
        # Punctuation belongs to the word before it.
        while end and end < len(text) and not text[end].isspace() and not text[end].isalnum():
            end += 1
        return text[:end]

    def _estimated(self) -> list[Word]:
        text = self.chunk.text
        total = self.samples if self.complete else max(self.samples, len(text) * self.samples_per_char)
        return [
            Word(m[0], m.start(), len(m[0]), total * m.start() // len(text), estimated=True)
            for m in re.finditer(r"\S+", text)
        ]


def heard_text(written: str, spoken: Sequence[SpokenChunk], played_samples: int) -> str:
    """Return the beginning of `written` that was heard by sample `played_samples` of the turn.

    `spoken` are the turn's chunks in order; the audio of each begins where that of the one before ends.
    """
    end = 0
    start_samples = 0
    for chunk in spoken:
        if played_samples <= start_samples:
            break
        heard = chunk.heard(played_samples - start_samples)
        if heard:
            _, end = chunk.chunk.source(0, len(heard))
        if len(heard) < len(chunk.chunk.text):
            break
        start_samples += chunk.samples
    return written[:end]
