r"""The edges of a chunk's audio: cut to the sound, faded, and followed by the pause that belongs there.

    engine    . . . . . ~~~~~~~~~~~~ . . . ~~~~~~~~~ . . . . . . . . . . .     . silence   ~ sound
    chunk             /.~~~~~~~~~~~~ . . . ~~~~~~~~~ . . . .\________          / \ fades    _ zeros
                      |lead|                        |---- pause ----|

An engine that speaks texts one by one puts its own silence around each, which is right around none
of them in the middle of a sentence. So silence in front goes, but for a few milliseconds; silence
behind is made as long as the mark at the end of the text asks for (`services.tts.pauses`): cut
where it is longer, filled with zeros where it is shorter. Silence inside is left as it is.

Nothing audible waits: sound leaves with the call that brings it, and so does silence that will be
heard anyway, as the pause. Only silence beyond that is held, until sound follows or the chunk ends.
What comes out depends on all of the engine's samples and not on the slices in which they come, so
an offset means the same sample every time.

An engine that can leave out what a listener has already may do so once the edges have begun: each
further sample is at its place then. What it left out may have ended in silence that counts for the
pause; so it goes on early enough (`context_samples`) to bring a sound before what is to be heard. Where
it brings none until its end, the chunk's length is not known (`unsure`), and it has to be made whole.

Workers import this module: standard library only, and only the edges cost time.
"""

import math
import sys
from array import array
from typing import Final, Protocol

from voicemesh.runtime.frames import BYTES_PER_SAMPLE

RENDERING: Final = 1
"""Raised whenever this module makes other samples of the same audio."""

LEAD_MS: Final = 5
"""Silence that stays in front of the first sound: quiet consonants begin below the threshold."""
FADE_MS: Final = 4
HOLD_MS: Final = 2000
"""Silence that is held at most; what is longer is no edge any more, and leaves."""

# The high byte of a sample from -256 to 255: silence as the gateway measures it
# (1/128 of full scale, `gateway.core.playback.SILENCE_PEAK`), found by `strip` at the speed of C.
_QUIET: Final = b"\x00\xff"
_NEAR_BYTES: Final = 512


class Edges(Protocol):
    """What stands between an engine and the frames."""

    trimmed_samples: int
    """Samples that were left out in front; final once `begun`."""
    begun: bool
    """True once a sample came out."""
    quiet_samples: int
    """Silent samples behind the last sound that came out."""
    context_samples: int
    """Samples that must not be left out in front of the first one that is to be heard."""
    unsure: bool
    """True from `skip` to the next sound: `finish` would be a guess."""

    def push(self, pcm: bytes) -> bytes:
        """Take s16le mono PCM, whole samples; return what may leave now."""
        ...

    def skip(self, samples: int) -> int:
        """Take `samples` as pushed that nobody made; return how many are past, with those held."""
        ...

    def finish(self) -> bytes:
        """Return what belongs behind the last sample."""
        ...


class Untouched:
    """For engines that make their own edges: everything passes as it is, once there is any sound.

    Silence in front is held until then: what is nothing but silence comes out as nothing at all, as
    from `TrimmedEdges`, so that a broken model is found before its silence was played.
    """

    trimmed_samples = 0
    quiet_samples = 0
    context_samples = 0
    unsure = False

    def __init__(self) -> None:
        self.begun = False
        self._held = bytearray()

    def push(self, pcm: bytes) -> bytes:
        """See `Edges`."""
        if self.begun:
            return pcm
        self._held += pcm
        if not pcm[1::2].strip(_QUIET):
            return b""
        self.begun = True
        held = bytes(self._held)
        self._held.clear()
        return held

    def skip(self, samples: int) -> int:
        """See `Edges`."""
        return samples

    def finish(self) -> bytes:
        """See `Edges`."""
        return b""


class TrimmedEdges:
    """See the module. Audio without any sound comes out as nothing at all.

    Args:
        sample_rate_hz: Samples per second.
        pause_ms: From the last sound of this chunk to the first one of the next. No join is shorter
            than `FADE_MS` and `LEAD_MS` together.

    """

    def __init__(self, sample_rate_hz: int, pause_ms: float) -> None:
        self.trimmed_samples = 0
        self.begun = False
        self.quiet_samples = 0
        self.unsure = False
        self._lead = LEAD_MS * sample_rate_hz // 1000
        fade = max(1, FADE_MS * sample_rate_hz // 1000)
        # A raised cosine: no step, and none in its slope either.
        self._rise = [0.5 - 0.5 * math.cos(math.pi * (i + 0.5) / fade) for i in range(fade)]
        self._risen = 0
        self._pause = max(round(pause_ms * sample_rate_hz / 1000) - self._lead, fade)
        self.context_samples = self._pause
        self._hold_bytes = HOLD_MS * sample_rate_hz // 1000 * BYTES_PER_SAMPLE
        self._held = bytearray()
        self._last = b"\0\0"

    def push(self, pcm: bytes) -> bytes:
        """See `Edges`."""
        if not self.begun:
            self._held += pcm
            pcm = self._begin()
        if not pcm:
            return b""
        out = self._body(pcm)
        if self._risen < len(self._rise):
            out = self._fade_in(out)
        if out:
            self._last = out[-BYTES_PER_SAMPLE:]
        return out

    def skip(self, samples: int) -> int:
        """See `Edges`. Only once they have begun."""
        assert self.begun
        passed = len(self._held) // BYTES_PER_SAMPLE + samples
        self._held.clear()
        self._risen = min(len(self._rise), self._risen + passed)
        self.quiet_samples = 0
        self.unsure = True
        return passed

    def finish(self) -> bytes:
        """See `Edges`."""
        if not self.begun:
            return b""
        fade = len(self._rise)
        # What fades is the silence that follows; where an engine ends within a sound, its last sample.
        tail = bytes(self._held[: fade * BYTES_PER_SAMPLE])
        tail += (tail[-BYTES_PER_SAMPLE:] or self._last) * (fade - len(tail) // BYTES_PER_SAMPLE)
        zeros = max(0, self._pause - self.quiet_samples - fade)
        return _scaled(tail, self._rise[::-1]) + bytes(zeros * BYTES_PER_SAMPLE)

    def _begin(self) -> bytes:
        """Return what is held from shortly before the first sound on, or nothing without sound."""
        held = bytes(self._held)
        samples = len(held) // BYTES_PER_SAMPLE
        quiet = samples - len(held[1::2].lstrip(_QUIET))
        spare = max(0, quiet - self._lead)
        self.trimmed_samples += spare
        if quiet == samples:
            del self._held[: spare * BYTES_PER_SAMPLE]
            return b""
        self.begun = True
        self._held.clear()
        return held[spare * BYTES_PER_SAMPLE :]

    def _body(self, pcm: bytes) -> bytes:
        # Mostly the last few samples tell that it ends within speech.
        start = max(0, len(pcm) - _NEAR_BYTES)
        loud = len(pcm[start + 1 :: 2].rstrip(_QUIET)) * BYTES_PER_SAMPLE
        sound = start + loud if loud else len(pcm[1:start:2].rstrip(_QUIET)) * BYTES_PER_SAMPLE
        out = b""
        if sound:
            out = b"".join((self._held, pcm[:sound]))
            self._held.clear()
            self.quiet_samples = 0
            self.unsure = False
        quiet = pcm[sound:]
        room = max(0, self._pause - len(self._rise) - self.quiet_samples) * BYTES_PER_SAMPLE
        leaving = quiet[:room]
        self._held += quiet[room:]
        if (over := len(self._held) - self._hold_bytes) > 0:
            leaving += bytes(self._held[:over])
            del self._held[:over]
        self.quiet_samples += len(leaving) // BYTES_PER_SAMPLE
        return out + leaving if leaving else out

    def _fade_in(self, pcm: bytes) -> bytes:
        gains = self._rise[self._risen : self._risen + len(pcm) // BYTES_PER_SAMPLE]
        self._risen += len(gains)
        edge = len(gains) * BYTES_PER_SAMPLE
        return _scaled(pcm[:edge], gains) + pcm[edge:]


def _scaled(pcm: bytes, gains: list[float]) -> bytes:
    samples = array("h", pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    scaled = array("h", (round(sample * gain) for sample, gain in zip(samples, gains, strict=True)))
    if sys.byteorder == "big":
        scaled.byteswap()
    return scaled.tobytes()
