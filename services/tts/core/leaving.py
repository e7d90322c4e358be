r"""Where one engine left off in a chunk, and how another goes on: at a whole word, without a click.

    made by the first engine     |~~one~~|~~two~~|~~thr               ~ sound, | word begins
    delivered                    |~~one~~|~                            (what is delivered stays)
    kept, and a fade             |~~one~~|~~two~~|\                    text goes on at "three"

The cut is at the beginning of the last word that began in what was made, so that all words before it
are whole. Where more than that was delivered already, the cut is there, and the word is begun again.
"""

import math
import sys
from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple

from services.tts.estimates import CHAR_MS, EstimatedWords, weight
from services.tts.text import speakable
from services.tts.wire import Word
from voicemesh.runtime.frames import BYTES_PER_SAMPLE

FADE_MS: Final = 4
_WHOLE: Final = 1.5
"""The last word of a text is whole once so many times its estimated length has followed its beginning."""


class Leaving(NamedTuple):
    """Where an engine leaves off."""

    samples: int
    """The chunk's audio ends here; what is behind it is dropped."""
    text_offset: int
    """The text goes on here; the length of the text where nothing is left to say."""
    unsaid: tuple[Word, ...] = ()
    """Words before `text_offset` that nobody was told of, estimated."""


def leaving(
    text: str, words: Sequence[Word], delivered: int, made: int, sample_rate_hz: int, speed: float
) -> Leaving:
    """Return where to leave off a text of which `made` samples are there and `delivered` are gone.

    Args:
        text: What the engine was asked to speak.
        words: Those that it told so far, in order.
        delivered: Samples of it that the caller has; where there are none it is begun again as a whole.
        made: Samples of it that were made, the delivered ones included.
        sample_rate_hz: Samples per second.
        speed: Speed of speech, for estimates.

    """
    if delivered <= 0:
        return Leaving(0, 0)
    pace = _letter_samples(text, words, sample_rate_hz, speed)
    known = list(words)
    estimated: list[Word] = []
    if not known or known[-1].estimated:
        # Estimated words are told late: those that are in the audio by now are reckoned likewise.
        estimated = _further(text, known, made, pace)
        known += estimated
    begun = [word for word in known if word.offset_samples < made]
    if not begun:
        return Leaving(delivered, 0)
    last = begun[-1]
    end = last.text_offset + last.text_length
    if not speakable(text[end:]):
        length = weight(text[last.text_offset : end]) * pace * _WHOLE
        if made >= last.offset_samples + length:
            return Leaving(made, len(text), _before(estimated, len(text)))
    if len(begun) == 1:
        return Leaving(delivered, 0)
    at = last.text_offset
    return Leaving(max(last.offset_samples, delivered), at, _before(estimated, at))


def _before(words: list[Word], text_offset: int) -> tuple[Word, ...]:
    return tuple(word for word in words if word.text_offset < text_offset)


def _letter_samples(text: str, words: Sequence[Word], sample_rate_hz: int, speed: float) -> float:
    """Return the samples for each letter: as the words so far tell, else as usual."""
    if len(words) > 1 and (samples := words[-1].offset_samples - words[0].offset_samples) > 0:
        return samples / max(weight(text[words[0].text_offset : words[-1].text_offset]), 1)
    return CHAR_MS / speed * sample_rate_hz / 1000


def _further(text: str, known: list[Word], made: int, pace: float) -> list[Word]:
    """Return the words behind the known ones that begin before `made`, by the pace."""
    if not known:
        return EstimatedWords(text, pace).until(made)
    last = known[-1]
    begin = last.text_offset
    rest = EstimatedWords(text[begin:], pace).until(made - last.offset_samples)
    return [
        word._replace(
            text_offset=word.text_offset + begin, offset_samples=word.offset_samples + last.offset_samples
        )
        for word in rest
        if word.text_offset
    ]


def fade(following: bytes, last: bytes, sample_rate_hz: int) -> bytes:
    """Return how audio that is cut ends: a falling slope over what would have followed.

    Args:
        following: s16le PCM behind the cut, as far as there is some.
        last: The sample before the cut, which stands in for what there is not; b"" for none.
        sample_rate_hz: Samples per second.

    """
    count = max(1, FADE_MS * sample_rate_hz // 1000)
    tail = following[: count * BYTES_PER_SAMPLE]
    tail += (tail[-BYTES_PER_SAMPLE:] or last or b"\0\0") * (count - len(tail) // BYTES_PER_SAMPLE)
    samples = array("h", tail)
    if sys.byteorder == "big":
        samples.byteswap()
    faded = array(
        "h",
        (round(s * (0.5 + 0.5 * math.cos(math.pi * (i + 0.5) / count))) for i, s in enumerate(samples)),
    )
    if sys.byteorder == "big":
        faded.byteswap()
    return faded.tobytes()
