"""One chunk on its way from text to frames: its buffer, its window, its end."""

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from services.tts.core.job import Job, JobEnd, Lease
from services.tts.core.model import (
    ChunkEvent,
    ChunkOrder,
    FailedEvent,
    FinishedEvent,
    FrameEvent,
    SpeakRequest,
    Start,
    Word,
    WordsEvent,
)
from services.tts.core.pool import Pool
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import MeshError
from voicemesh.runtime.frames import BYTES_PER_SAMPLE, longest_samples


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice that was asked for and found."""

    name: str
    """In full, as ListVoices has it."""
    pool: Pool
    variant: str
    model_revision: str
    sample_rate_hz: int
    """Of the audio that is wanted of it."""


class ChunkObserver(Protocol):
    """Who watches a chunk, for traces and meters. Calls must not raise."""

    def leased(self, replica: str, queue_us: int) -> None:
        """A replica begins to speak it; again after one was lost."""
        ...

    def first_frame(self, start: Start) -> None:
        """Its first audio came."""
        ...

    def lost(self, replica: str, reason: str) -> None:
        """Its replica was lost."""
        ...

    def ended(self, event: FinishedEvent | FailedEvent, audio_ms: float) -> None:
        """It is complete, or failed. `audio_ms` is what was delivered."""
        ...


Observe = Callable[[ChunkOrder, Speaker], ChunkObserver]
"""Makes the watcher of a chunk."""


class _Frame(NamedTuple):
    offset_samples: int
    pcm: bytes
    start: Start | None
    words: tuple[tuple[str, Word], ...]


class _State(enum.Enum):
    WAITING = enum.auto()  # not submitted yet
    SPEAKING = enum.auto()  # the pool has it
    SPOKEN = enum.auto()  # the pool is done; its listener may not be
    ANSWERED = enum.auto()


class Chunk:
    """One chunk. Hears its job; `pop` gives what is to be answered.

    Args:
        order: What to speak.
        speaker: The voice.
        speed: 0.25 to 4.
        seed: From everything that decides the samples.
        clock: For the durations that are reported.
        observer: Watches it.
        wake: Called when `pop` has something new.
        caller: Whose it is; see `SpeakRequest.caller`.

    """

    def __init__(
        self,
        order: ChunkOrder,
        speaker: Speaker,
        speed: float,
        seed: int,
        clock: Clock,
        observer: ChunkObserver,
        wake: Callable[[], None],
        caller: str,
    ) -> None:
        self.order = order
        self._speaker = speaker
        self._request = SpeakRequest(
            order.text,
            speaker.variant,
            speed=speed,
            seed=seed,
            start_offset_samples=order.start_offset_samples,
            in_hand_ms=order.deadline_ms,
            sample_rate_hz=speaker.sample_rate_hz,
            caller=caller,
        )
        self._clock = clock
        self._observer = observer
        self._wake = wake
        self._arrived_ns = clock.now_ns()
        self._state = _State.WAITING
        self._frames: deque[_Frame] = deque()
        self._words: list[tuple[str, Word]] = []
        """Words that wait for the next frame."""
        self._job: Job | None = None
        self._end: JobEnd | None = None
        self._lease: Lease | None = None
        self._start: Start | None = None
        self._sequence = 0
        self._made_to = order.start_offset_samples
        self._delivered_to = order.start_offset_samples
        self._to_grant = 0
        self._last_frame_ns = 0
        self._cancelled = False

    @property
    def waiting(self) -> bool:
        """True until `submit`."""
        return self._state is _State.WAITING

    @property
    def answered(self) -> bool:
        """True once its last event was given out."""
        return self._state is _State.ANSWERED

    def submit(self, *, admitted: bool) -> bool:
        """Ask the pool to speak it; return whether it will. A refusal becomes its `FailedEvent`.

        Args:
            admitted: See `Pool.submit`. A chunk that goes on behind its first sample has a listener, too.

        """
        self._state = _State.SPEAKING
        deadline_ns = self._arrived_ns + self.order.deadline_ms * 1_000_000
        try:
            job = self._speaker.pool.submit(
                self._request, deadline_ns, self, admitted=admitted or self.order.start_offset_samples > 0
            )
        except MeshError as error:
            self.job_ended(JobEnd(self._clock.now_ns(), error=error))
            return False
        if self._state is _State.SPEAKING:
            self._job = job
        return True

    def cancel(self) -> None:
        """End it: from now on `pop` gives no frame, only the end once its engine has stopped."""
        if self._cancelled or self.answered:
            return
        self._cancelled = True
        self._frames.clear()
        self._words.clear()
        if self._state is _State.SPEAKING and self._job is not None:
            self._speaker.pool.cancel(self._job)
        elif self._state is _State.WAITING:
            self._state = _State.SPOKEN
            self._end = JobEnd(self._clock.now_ns(), cancelled=True)
        self._wake()

    def abandon(self) -> None:
        """End it with nobody to answer: what it cost is still counted."""
        self.cancel()
        self._wake = _nobody
        if self._state is _State.SPOKEN:
            self._answer()

    def pop(self) -> ChunkEvent | None:
        """Return what is next; None where nothing is yet, or after the end."""
        if self._frames:
            return self._pop_frame()
        if self._state is not _State.SPOKEN:
            return None
        if self._words:
            words, self._words = tuple(self._words), []
            return WordsEvent(self.order.index, words)
        return self._answer()

    def _pop_frame(self) -> FrameEvent:
        """Return the next frame, with those behind it that are here already, as long as a frame may be.

        Its listener is behind the engine then: fewer messages help it to catch up. The last of a
        chunk's audio goes with the frame before it, where that is still here.
        """
        offset, pcm, start, words = self._frames.popleft()
        if self._frames:
            most = longest_samples(self._speaker.sample_rate_hz) * BYTES_PER_SAMPLE
            parts, size = [pcm], len(pcm)
            while self._frames and (size + len(self._frames[0].pcm) <= most or self._short_end(most)):
                following = self._frames.popleft()
                parts.append(following.pcm)
                words += following.words
                size += len(following.pcm)
            pcm = b"".join(parts)
        event = FrameEvent(self.order.index, self._sequence, offset, pcm, start, words)
        self._sequence += 1
        self._taken(len(pcm) // BYTES_PER_SAMPLE)
        return event

    def _short_end(self, most: int) -> bool:
        """Return whether less than half of a frame is left of the whole chunk."""
        last = len(self._frames) == 1 and self._state is _State.SPOKEN
        return last and len(self._frames[0].pcm) < most // 2

    def _taken(self, samples: int) -> None:
        self._delivered_to += samples
        if self._state is not _State.SPEAKING or self._job is None:
            return
        # Told to the pool in parts of the window: a message for each frame would be wasteful.
        self._to_grant += samples
        if self._to_grant >= self._job.request.window_samples // 4:
            granted, self._to_grant = self._to_grant, 0
            self._speaker.pool.grant(self._job, granted)

    # ---- what the job says --------------------------------------------------------------------

    def job_leased(self, lease: Lease) -> None:
        """See `JobListener`."""
        self._lease = lease
        self._observer.leased(lease.replica, (lease.leased_ns - self._arrived_ns) // 1000)

    def job_frame(self, offset_samples: int, pcm: bytes) -> None:
        """See `JobListener`."""
        assert self._lease is not None
        now_ns = self._last_frame_ns = self._clock.now_ns()
        start = None
        if self._start is None:
            start = self._start = Start(
                sample_rate_hz=self._speaker.sample_rate_hz,
                queue_us=(self._lease.leased_ns - self._arrived_ns) // 1000,
                synthesis_us=(now_ns - self._lease.leased_ns) // 1000,
                replica=self._lease.replica,
                model_revision=self._speaker.model_revision,
            )
            self._observer.first_frame(start)
        self._made_to = offset_samples + len(pcm) // 2
        words, self._words = tuple(self._words), []
        self._frames.append(_Frame(offset_samples, pcm, start, words))
        self._wake()

    def job_words(self, words: list[Word]) -> None:
        """See `JobListener`."""
        text = self.order.text
        self._words += [(text[w.text_offset : w.text_offset + w.text_length], w) for w in words]

    def job_lost(self, replica: str, reason: str) -> None:
        """See `JobListener`."""
        self._observer.lost(replica, reason)

    def job_ended(self, end: JobEnd) -> None:
        """See `JobListener`."""
        self._end = end
        self._state = _State.SPOKEN
        self._job = None
        if self._wake is _nobody:
            self._answer()
        else:
            self._wake()

    def _answer(self) -> FinishedEvent | FailedEvent:
        """Make the last event, and count the chunk."""
        assert self._end is not None
        self._state = _State.ANSWERED
        end, stats = self._end, self._speaker.pool.stats
        delivered = self._delivered_to - self.order.start_offset_samples
        # Engine time whose audio nobody hears: the share of the samples that nobody got.
        heard_us = end.engine_us * min(delivered, end.made_samples) // max(end.made_samples, 1)
        wasted_us = end.engine_us - heard_us
        stats.wasted_us += wasted_us
        event: FinishedEvent | FailedEvent
        if end.error is not None and not self._cancelled:
            stats.failed_chunks += 1
            event = FailedEvent(self.order.index, end.error, self._delivered_to)
        else:
            cancelled = self._cancelled or end.cancelled
            if cancelled:
                stats.cancelled_chunks += 1
            else:
                stats.completed_chunks += 1
            leased_ns = self._lease.leased_ns if self._lease is not None else 0
            event = FinishedEvent(
                index=self.order.index,
                total_samples=self._delivered_to if cancelled else self._total_samples(end),
                synthesis_us=max(0, (self._last_frame_ns or end.ended_ns) - leased_ns) // 1000
                if leased_ns
                else 0,
                cancelled=cancelled,
                resumed=end.resumed,
                wasted_us=wasted_us,
            )
        self._observer.ended(event, delivered * 1000 / self._speaker.sample_rate_hz)
        return event

    def _total_samples(self, end: JobEnd) -> int:
        # A caller may resume behind the end: then no frame came, and the engine made less than that.
        return self._made_to if self._start is not None else min(self._made_to, end.made_samples)


def _nobody() -> None:
    """Nobody waits."""
