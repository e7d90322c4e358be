"""Frames: the slices in which audio travels, from an engine's worker or from the cache to the caller.

    length of frame n   20  20  40  80  160  200  200  …  milliseconds
    audio in front of it 0  20  40  80  160  320  520  …

The first frame is short, so that it leaves as soon as 20 ms of audio exist; each later one is no
longer than the audio in front of it, so that a player which starts at the first frame never waits
for a frame to fill. From 200 ms on, longer frames would save little. A listener that has audio in
hand gets long frames at once. The last frame of a chunk holds what is left: it is shorter, or up to
half as long again, where less than half a frame was left and the one before it had not gone yet.
"""

from typing import Final

FRAME_MS: Final = (20, 20, 40, 80, 160, 200)
"""Length of each frame of a chunk, in milliseconds; the last entry holds for all further ones."""

BYTES_PER_SAMPLE: Final = 2

SAMPLE_RATES_HZ: Final = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Rates that audio is offered at, beside a voice's own."""


def frame_samples(sequence: int, sample_rate_hz: int) -> int:
    """Return the samples in frame `sequence` (from 0) of a chunk."""
    return FRAME_MS[min(sequence, len(FRAME_MS) - 1)] * sample_rate_hz // 1000


def longest_samples(sample_rate_hz: int) -> int:
    """Return the samples in the longest frame, the last one of a chunk apart."""
    return frame_samples(len(FRAME_MS), sample_rate_hz)


class FrameSlicer:
    """Cuts PCM of any slicing into frames.

    Args:
        sample_rate_hz: Samples per second.
        skip_samples: Leave out this many samples at the beginning, for resuming: the first frame
            has this offset. Frame lengths begin anew behind it.
        in_hand_ms: Audio that the listener has already: it counts as in front of the first frame, which
            so need not be short.

    """

    def __init__(self, sample_rate_hz: int, skip_samples: int = 0, in_hand_ms: float = 0) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._skip_bytes = skip_samples * BYTES_PER_SAMPLE
        self._offset_samples = skip_samples
        # The longest frame that is no longer than what is in front of it.
        self._step = max((n for n, length in enumerate(FRAME_MS) if length <= in_hand_ms), default=0)
        self._pending = bytearray()
        self.made_samples = 0
        """Samples that were pushed, those left out included."""

    def push(self, pcm: bytes) -> list[tuple[int, bytes]]:
        """Add s16le mono PCM; return the frames that are full now, as (offset in samples, PCM).

        Raises:
            ValueError: `pcm` ends in the middle of a sample.

        """
        if len(pcm) % BYTES_PER_SAMPLE:
            raise ValueError(f"an engine gave {len(pcm)} bytes: not whole 16-bit samples")
        self.made_samples += len(pcm) // BYTES_PER_SAMPLE
        if self._skip_bytes:
            skipped = min(self._skip_bytes, len(pcm))
            self._skip_bytes -= skipped
            pcm = pcm[skipped:]
        self._pending += pcm
        frames = []
        while len(self._pending) >= (size := self._next_bytes()):
            frames.append(self._cut(size))
        return frames

    def skip(self, samples: int) -> None:
        """Take `samples` as pushed that nobody made: all of them are to be left out.

        Raises:
            ValueError: Some are not to be left out.

        """
        if samples * BYTES_PER_SAMPLE > self._skip_bytes:
            raise ValueError(f"{samples} samples are more than the {self._skip_bytes} bytes to be left out")
        self.made_samples += samples
        self._skip_bytes -= samples * BYTES_PER_SAMPLE

    def flush(self) -> list[tuple[int, bytes]]:
        """Return what is left as the last frame; nothing where nothing is left."""
        return [self._cut(len(self._pending))] if self._pending else []

    def _next_bytes(self) -> int:
        return frame_samples(self._step, self._sample_rate_hz) * BYTES_PER_SAMPLE

    def _cut(self, size: int) -> tuple[int, bytes]:
        frame = (self._offset_samples, bytes(self._pending[:size]))
        del self._pending[:size]
        self._step += 1
        self._offset_samples += size // BYTES_PER_SAMPLE
        return frame
