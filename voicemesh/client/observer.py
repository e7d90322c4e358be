"""What the caller sees of one turn, measured on its own clock. No I/O."""

from collections.abc import Callable

from voicemesh.client.events import AudioFormat, Event, Frame, SpeakLocally, TextDelta, TurnStarted
from voicemesh.client.report import Observed

Clock = Callable[[], int]
"""Monotonic nanoseconds."""


class Player:
    """A player that starts at the first frame and plays without a pause, to tell when it runs dry.

    frame 0 arrives      frame 1 arrives              frame 2 arrives
       |== frame 0 ==|      |== frame 1 ==|== frame 2 ==|
                     |<---->| one underrun
    """

    def __init__(self) -> None:
        self.underruns = 0
        self.underrun_us = 0
        self._plays_until_us: int | None = None

    def frame(self, now_us: int, duration_us: int) -> None:
        """Take a frame of `duration_us` that arrives at `now_us`."""
        if self._plays_until_us is None:
            self._plays_until_us = now_us
        elif now_us > self._plays_until_us:
            self.underruns += 1
            self.underrun_us += now_us - self._plays_until_us
            self._plays_until_us = now_us
        self._plays_until_us += duration_us

    def rest(self) -> None:
        """The caller speaks by itself now: the next frame starts the player anew."""
        self._plays_until_us = None

    def played_us(self, audio_us: int, now_us: int) -> int:
        """Return how much of the `audio_us` that came has been played at `now_us`."""
        left_us = max((self._plays_until_us or 0) - now_us, 0)
        return max(audio_us - left_us, 0)


class Observer:
    """Takes the events of one turn as they arrive; gives what the caller saw."""

    def __init__(self, clock: Clock, *, prompt: str = "", text: str = "") -> None:
        self._clock = clock
        self._prompt = prompt
        self._given = text
        self._text: list[str] = []
        self._began_ns = clock()
        self._format = AudioFormat()
        self._player = Player()
        self._ttft_us: int | None = None
        self._ttfa_us: int | None = None
        self._samples = 0
        self._frames = 0
        self._first_frame_us: dict[int, int] = {}
        self._spoke_locally = False
        self.session_id = ""
        self.trace_id = ""

    def _now_us(self) -> int:
        return (self._clock() - self._began_ns) // 1000

    def begin(self, at_ns: int | None = None) -> None:
        """Count the time from `at_ns` on the clock, or from now; not from construction."""
        self._began_ns = self._clock() if at_ns is None else at_ns

    def given(self, text: str) -> None:
        """Add to the text that the caller gives."""
        self._given += text

    def anew(self) -> None:
        """The turn is asked again elsewhere: forget what came of it, but not when it began."""
        self._text.clear()
        self._ttft_us = None

    @property
    def heard(self) -> bool:
        """True once there was something to hear."""
        return self._frames > 0 or self._spoke_locally

    def event(self, event: Event) -> None:
        """Take an event that has just arrived."""
        match event:
            case Frame():
                self._frame(event)
            case TextDelta():
                if self._ttft_us is None:
                    self._ttft_us = self._now_us()
                self._text.append(event.text)
            case TurnStarted():
                self._format = event.format
                self.session_id = event.session_id
                self.trace_id = event.trace_id
            case SpeakLocally():
                self._spoke_locally = True
                self._player.rest()
            case _:
                pass

    def _frame(self, frame: Frame) -> None:
        now_us = self._now_us()
        if self._ttfa_us is None:
            self._ttfa_us = now_us
        self._first_frame_us.setdefault(frame.chunk_index, now_us)
        samples = frame.samples or self._format.samples_in(len(frame.audio))
        self._samples += samples
        self._frames += 1
        if samples:  # else an encoder's stream was completed, or nobody said how many they are
            self._player.frame(now_us, self._format.duration_us(samples))

    def arrived_ms(self) -> int:
        """Return how much audio has come, in milliseconds."""
        return self._format.duration_us(self._samples) // 1000

    def played_ms(self) -> int:
        """Return how much of the audio a player that started at the first frame has played, in ms."""
        return self._player.played_us(self._format.duration_us(self._samples), self._now_us()) // 1000

    def seen(self) -> Observed:
        """Return what was seen up to now; called when the turn ends."""
        return Observed(
            prompt=self._prompt,
            text="".join(self._text) or self._given,
            ttft_us=self._ttft_us,
            ttfa_us=self._ttfa_us,
            total_us=self._now_us(),
            audio_us=self._format.duration_us(self._samples) if self._samples or not self._frames else None,
            underruns=self._player.underruns,
            underrun_us=self._player.underrun_us,
            first_frame_us=self._first_frame_us,
        )
