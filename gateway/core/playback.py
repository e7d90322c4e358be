"""The caller's player as the gateway imagines it, and the silence at the start of the audio."""

import sys
from array import array

SILENCE_PEAK = 32768 // 128
"""Samples up to this magnitude (1/128 of full scale, -42 dBFS) count as silence."""


class Player:
    """A player that starts at the first frame and plays in real time.

        in hand = audio sent - audio played
        audio played = time since the first frame - time that it stood dry

    With reports from the real player (`report`), those are believed instead of the clock.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self._rate_hz = sample_rate_hz
        self.samples = 0
        self.started_ns = 0
        self.underruns = 0
        self.underrun_ns = 0
        self._reported_ms = 0
        self._reported_at_ns = 0

    @property
    def audio_ms(self) -> float:
        """Milliseconds of audio that were sent."""
        return self.samples * 1000 / self._rate_hz

    def add(self, samples: int, now_ns: int) -> None:
        """Take audio that is sent now; notes an underrun where the player had run dry before it."""
        if not self.started_ns:
            self.started_ns = now_ns
        else:
            dry_ns = now_ns - (self.started_ns + self.underrun_ns + round(self.samples * 1e9 / self._rate_hz))
            if dry_ns > 0:
                self.underruns += 1
                self.underrun_ns += dry_ns
        self.samples += samples

    def report(self, played_ms: int, now_ns: int) -> None:
        """Believe the real player: at `now_ns` it had played `played_ms`."""
        self._reported_ms = min(played_ms, round(self.audio_ms))
        self._reported_at_ns = now_ns

    def played_ms(self, now_ns: int) -> float:
        """Milliseconds of audio that were played by `now_ns`; never more than was sent."""
        if self._reported_at_ns:
            played = self._reported_ms + (now_ns - self._reported_at_ns) / 1e6
        elif self.started_ns:
            played = (now_ns - self.started_ns - self.underrun_ns) / 1e6
        else:
            played = 0.0
        return max(0.0, min(played, self.audio_ms))

    def in_hand_ms(self, now_ns: int) -> float:
        """Milliseconds of audio that were sent and not played by `now_ns`."""
        return self.audio_ms - self.played_ms(now_ns)


class LeadingSilence:
    """Measures the silence at the start of 16-bit mono audio, frame by frame."""

    def __init__(self) -> None:
        self.samples = 0
        """Samples before the first audible one; all so far while there is none."""
        self.audible = False

    def add(self, audio: bytes) -> None:
        """Look at the next frame; costs nothing once a sample was audible."""
        if self.audible:
            return
        samples = array("h", audio)
        if sys.byteorder == "big":
            samples.byteswap()
        for index, sample in enumerate(samples):
            if sample > SILENCE_PEAK or sample < -SILENCE_PEAK:
                self.samples += index
                self.audible = True
                return
        self.samples += len(samples)
