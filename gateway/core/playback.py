"""The caller's player as the gateway imagines it, and the silence at the start of the audio."""

import sys
from array import array

SILENCE_PEAK = 32768 // 128
"""Samples up to this magnitude (1/128 of full scale, -42 dBFS) count as silence."""


class Player:
    """A player that starts at the first frame and plays in real time.

        in hand = audio sent - audio played
        audio played = time since the first frame - time that it stood dry

    With reports from the real player (`report`), those are believed instead of the clock, and for underruns,
    too: a player that began late or is paused is not dry while it has audio.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self._rate_hz = sample_rate_hz
        # When it would have begun, had it played from then to where it is without a stop.
        self._began_ns: int | None = None
        self._resting = False
        self.samples = 0
        self.underruns = 0
        self.underrun_ns = 0

    @property
    def audio_ms(self) -> float:
        """Milliseconds of audio that were sent."""
        return self.samples * 1000 / self._rate_hz

    def slack_ns(self, now_ns: int) -> int:
        """Nanoseconds of audio that were not played by `now_ns`; below zero: it stands dry for that long."""
        if self._began_ns is None:
            return 0
        return self._began_ns + round(self.samples * 1e9 / self._rate_hz) - now_ns

    def add(self, samples: int, now_ns: int) -> int:
        """Take audio that is sent now; return for how many nanoseconds the player was dry before it."""
        if self._began_ns is None:
            self._began_ns = now_ns
        slack_ns = self.slack_ns(now_ns)
        dry_ns = self._go_on(-slack_ns) if slack_ns < 0 else 0
        self._resting = False
        self.samples += samples
        return dry_ns

    def rest(self, now_ns: int) -> int:
        """Until the next frame, nothing to play is no underrun: the caller speaks by itself now.

        Return for how many nanoseconds the player was dry before that.
        """
        dry_ns = self._go_on(max(0, -self.slack_ns(now_ns)))
        self._resting = True
        return dry_ns

    def _go_on(self, dry_ns: int) -> int:
        """End the time that it stood dry, `dry_ns`; return how long that was, where it is an underrun."""
        if not dry_ns or self._began_ns is None:
            return 0
        self._began_ns += dry_ns
        if self._resting:
            return 0
        self.underruns += 1
        self.underrun_ns += dry_ns
        return dry_ns

    def report(self, played_ms: int, now_ns: int) -> None:
        """Believe the real player: at `now_ns` it had played `played_ms`."""
        # Of one that has played all there is, the clock knows better since when it stands dry.
        if self._began_ns is not None and (played_ms < self.audio_ms or self.slack_ns(now_ns) > 0):
            self._began_ns = now_ns - round(min(float(played_ms), self.audio_ms) * 1e6)

    def played_ms(self, now_ns: int) -> float:
        """Milliseconds of audio that were played by `now_ns`; never more than was sent."""
        return self.audio_ms - self.in_hand_ms(now_ns)

    def in_hand_ms(self, now_ns: int) -> float:
        """Milliseconds of audio that were sent and not played by `now_ns`."""
        slack_ns = self.slack_ns(now_ns)  # asked for several times a frame
        return min(slack_ns / 1e6, self.audio_ms) if slack_ns > 0 else 0.0


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
