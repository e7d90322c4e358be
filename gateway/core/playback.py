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
        self._resting = False
        self._rested_ns = 0
        self._reported_ms = 0
        self._reported_at_ns = 0

    @property
    def audio_ms(self) -> float:
        """Milliseconds of audio that were sent."""
        return self.samples * 1000 / self._rate_hz

    def slack_ns(self, now_ns: int) -> int:
        """Nanoseconds of audio that were not played by `now_ns`; below zero: it stands dry for that long."""
        ends_ns = self.started_ns + self._stood_ns + round(self.samples * 1e9 / self._rate_hz)
        return ends_ns - now_ns if self.started_ns else 0

    def add(self, samples: int, now_ns: int) -> int:
        """Take audio that is sent now; return for how many nanoseconds the player was dry before it."""
        dry_ns = max(0, -self.slack_ns(now_ns))
        if not self.started_ns:
            self.started_ns = now_ns
        elif self._resting:
            self._rested_ns += dry_ns
            dry_ns = 0
        elif dry_ns:
            self.underruns += 1
            self.underrun_ns += dry_ns
        self._resting = False
        self.samples += samples
        return dry_ns

    def rest(self) -> None:
        """The caller speaks by itself now: until the next frame, nothing to play is no underrun."""
        self._resting = True

    @property
    def _stood_ns(self) -> int:
        return self.underrun_ns + self._rested_ns

    def report(self, played_ms: int, now_ns: int) -> None:
        """Believe the real player: at `now_ns` it had played `played_ms`."""
        self._reported_ms = min(played_ms, round(self.audio_ms))
        self._reported_at_ns = now_ns

    def played_ms(self, now_ns: int) -> float:
        """Milliseconds of audio that were played by `now_ns`; never more than was sent."""
        if self._reported_at_ns:
            played = self._reported_ms + (now_ns - self._reported_at_ns) / 1e6
        elif self.started_ns:
            played = (now_ns - self.started_ns - self._stood_ns) / 1e6
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
