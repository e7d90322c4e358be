"""The audio and the words of one chunk between its engines and its listener."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from services.tts.core.leaving import fade
from services.tts.core.model import Start, Word
from voicemesh.runtime.frames import BYTES_PER_SAMPLE, longest_samples

ToldWord = tuple[str, Word]
"""A word as it stands in the text, and when it is heard."""


class BufferedFrame(NamedTuple):
    """Audio that waits for its listener."""

    offset_samples: int
    pcm: bytes
    start: Start | None
    words: tuple[ToldWord, ...]


class Buffer:
    """See the module. Offsets of samples and of text are those of the whole chunk.

    Args:
        text: The chunk.
        start_offset_samples: Samples that the listener has already.
        sample_rate_hz: Samples per second.

    """

    def __init__(self, text: str, start_offset_samples: int, sample_rate_hz: int) -> None:
        self.made_to = start_offset_samples
        """Where the next frame begins."""
        self.delivered_to = start_offset_samples
        """Where the next frame begins that the listener takes."""
        self.sample_rate_hz = sample_rate_hz
        self._text = text
        self._frames: deque[BufferedFrame] = deque()
        self._words: list[Word] = []
        """Words that wait for the next frame."""
        self._last = b""
        """The last sample that was delivered."""
        self._told_to = -1
        """Where in the text the last word begins that the listener knows."""

    def __len__(self) -> int:
        """Return how many frames wait."""
        return len(self._frames)

    @property
    def delivered(self) -> bool:
        """Whether the listener took any audio."""
        return bool(self._last)

    def clear(self) -> None:
        """Drop all that waits: nobody will hear it."""
        self._frames.clear()
        self._words.clear()

    def add(self, offset_samples: int, pcm: bytes, start: Start | None) -> None:
        """Take the next frame; the words that came before it go with it."""
        self.made_to = offset_samples + len(pcm) // BYTES_PER_SAMPLE
        self._frames.append(BufferedFrame(offset_samples, pcm, start, self.take_words()))

    def add_words(self, words: Iterable[Word]) -> None:
        """Take words, in order; those that the listener knows are left out."""
        self._words += [word for word in words if word.text_offset > self._told_to]

    def take_words(self) -> tuple[ToldWord, ...]:
        """Return the words that no frame took."""
        words, self._words = self._words, []
        text = self._text
        return tuple((text[w.text_offset : w.text_offset + w.text_length], w) for w in words)

    def tell(self, words: tuple[ToldWord, ...]) -> tuple[ToldWord, ...]:
        """Note that the listener takes `words`; return them."""
        if words:
            self._told_to = max(self._told_to, words[-1][1].text_offset)
        return words

    def pop(self, *, spoken: bool) -> BufferedFrame:
        """Return the next frame, with those behind it that are here already, as long as a frame may be.

        Its listener is behind the engine then: fewer messages help it to catch up. The last of a
        chunk's audio goes with the frame before it, where that is still here.

        Args:
            spoken: No more audio will come.

        """
        offset, pcm, start, words = self._frames.popleft()
        if self._frames:
            most = longest_samples(self.sample_rate_hz) * BYTES_PER_SAMPLE
            parts, size = [pcm], len(pcm)
            while self._frames and (
                size + len(self._frames[0].pcm) <= most or (spoken and self._short_end(most))
            ):
                if self._frames[0].start is not None:
                    break  # another voice begins: its first frame says so
                following = self._frames.popleft()
                parts.append(following.pcm)
                words += following.words
                size += len(following.pcm)
            pcm = b"".join(parts)
        self.delivered_to = offset + len(pcm) // BYTES_PER_SAMPLE
        self._last = pcm[-BYTES_PER_SAMPLE:]
        return BufferedFrame(offset, pcm, start, self.tell(words))

    def _short_end(self, most: int) -> bool:
        """Return whether less than half of a frame is left of the whole chunk."""
        return len(self._frames) == 1 and len(self._frames[0].pcm) < most // 2

    def cut(self, samples: int, text_offset: int) -> None:
        """Drop the audio behind `samples` and the words from `text_offset` on; let the rest fade out.

        What is delivered stays: `samples` is not before that. `made_to` is behind the fade afterwards.
        """
        last, behind = self._drop(samples, text_offset)
        if not last:
            return  # the listener has it from elsewhere
        tail = fade(behind, last, self.sample_rate_hz)
        if self._frames:
            self._frames[-1] = self._frames[-1]._replace(pcm=self._frames[-1].pcm + tail)
        else:
            self._frames.append(BufferedFrame(samples, tail, None, ()))
        self.made_to = samples + len(tail) // BYTES_PER_SAMPLE

    def begin_again(self, samples: int, text_offset: int) -> None:
        """Drop the audio from `samples` on, where a voice began that is not heard, and its words."""
        self._drop(samples, text_offset)

    def _drop(self, samples: int, text_offset: int) -> tuple[bytes, bytes]:
        """Return the last sample that stays, and the audio that goes."""
        kept: deque[BufferedFrame] = deque()
        waiting: list[Word] = []
        behind = []
        for frame in self._frames:
            size = max(0, samples - frame.offset_samples) * BYTES_PER_SAMPLE
            behind.append(frame.pcm[size:])
            words = tuple(told for told in frame.words if told[1].text_offset < text_offset)
            if size:
                kept.append(frame._replace(pcm=frame.pcm[:size], words=words))
            else:
                waiting += [word for _, word in words]
        self._frames = kept
        self._words = waiting + [word for word in self._words if word.text_offset < text_offset]
        self.made_to = samples
        return kept[-1].pcm[-BYTES_PER_SAMPLE:] if kept else self._last, b"".join(behind)
