"""One chunk on its way from text to frames: what is told of it, and its end.

listener <── pop ── Chunk ── Buffer <── frames ── Relay ── legs ──> pools
"""

import enum
from collections.abc import Callable
from typing import Protocol

from services.tts.core.buffer import Buffer
from services.tts.core.job import JobEnd, Lease
from services.tts.core.legs import LeaseObserver, Leg
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
from services.tts.core.relay import Relay
from services.tts.core.speaker import Speaker
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.frames import BYTES_PER_SAMPLE

__all__ = ["Chunk", "ChunkObserver", "Observe", "Speaker"]


class ChunkObserver(Protocol):
    """Who watches a chunk, for traces and meters. Calls must not raise."""

    traced: bool
    """Whether its replicas are to tell what it was advanced together with."""

    def leased(self, replica: str, queue_us: int) -> None:
        """A replica begins to speak it; again after one was lost."""
        ...

    def first_frame(self, start: Start) -> None:
        """Its first audio came."""
        ...

    def lost(self, replica: str, reason: str) -> None:
        """Its replica was lost."""
        ...

    def fell_back(self, voice: str, reason: str) -> None:
        """Another voice is asked to go on with it, or the same one at a whole word."""
        ...

    def hedged(self, replica: str) -> None:
        """A second replica was asked for it, because the first is late."""
        ...

    def watch(self, speaker: Speaker, replica: str) -> LeaseObserver:
        """Return who watches a lease of it: that of `replica`, which speaks as `speaker`."""
        ...

    def ended(self, event: FinishedEvent | FailedEvent, audio_ms: float) -> None:
        """It is complete, or failed. `audio_ms` is what was delivered."""
        ...


Observe = Callable[[ChunkOrder, Speaker], ChunkObserver]
"""Makes the watcher of a chunk."""


class _State(enum.Enum):
    WAITING = enum.auto()  # not submitted yet
    SPEAKING = enum.auto()  # a pool has it
    SPOKEN = enum.auto()  # no pool has it any more; its listener may not have it all yet
    ANSWERED = enum.auto()


class Chunk:
    """One chunk. Hears its relay; `pop` gives what is to be answered.

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
        self._clock = clock
        self._observer = observer
        self._wake = wake
        self._arrived_ns = clock.now_ns()
        self._state = _State.WAITING
        self._buffer = Buffer(order.text, order.start_offset_samples, speaker.sample_rate_hz)
        request = SpeakRequest(
            order.text,
            speaker.variant,
            speed=speed,
            seed=seed,
            start_offset_samples=order.start_offset_samples,
            in_hand_ms=order.deadline_ms,
            sample_rate_hz=speaker.sample_rate_hz,
            caller=caller,
            traced=observer.traced,
        )
        deadline_ns = self._arrived_ns + order.deadline_ms * 1_000_000
        # Behind the first chunk a player has something in hand, and nothing is in front of index 0.
        first = not (order.index or order.deadline_ms or order.start_offset_samples)
        self._relay = Relay(speaker, request, deadline_ns, self._buffer, clock, self, first=first)
        self._end: JobEnd | None = None
        self._lease: Lease | None = None
        self._first_leased_ns: int | None = None
        self._heard: Leg | None = None
        """Whose audio came last."""
        self._fell_back = False
        self._sequence = 0
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
        """Ask for it to be spoken; return whether it will. A refusal becomes its `FailedEvent`.

        Args:
            admitted: See `Pool.submit`. A chunk that goes on behind its first sample has a listener, too.

        """
        self._state = _State.SPEAKING
        self._relay.submit(admitted=admitted or self.order.start_offset_samples > 0)
        return self._end is None or self._end.error is None

    def cancel(self) -> None:
        """End it: from now on `pop` gives no frame, only the end once its engine has stopped."""
        if self._cancelled or self.answered:
            return
        self._cancelled = True
        self._buffer.clear()
        if self._state is _State.SPEAKING:
            self._relay.cancel()
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
        if self._buffer:
            return self._pop_frame()
        if self._state is not _State.SPOKEN:
            return None
        if words := self._buffer.tell(self._buffer.take_words()):
            return WordsEvent(self.order.index, words)
        return self._answer()

    def _pop_frame(self) -> FrameEvent:
        offset, pcm, start, words = self._buffer.pop(spoken=self._state is _State.SPOKEN)
        event = FrameEvent(self.order.index, self._sequence, offset, pcm, start, words)
        self._sequence += 1
        if self._state is _State.SPEAKING:
            self._relay.take(offset, len(pcm) // BYTES_PER_SAMPLE)
        return event

    # ---- what the relay says ------------------------------------------------------------------

    def leased(self, lease: Lease) -> None:
        """See `RelayListener`."""
        self._lease = lease
        if self._first_leased_ns is None:
            self._first_leased_ns = lease.leased_ns
        self._observer.leased(lease.replica, (lease.leased_ns - self._arrived_ns) // 1000)

    def frame(self, leg: Leg, offset_samples: int, pcm: bytes) -> None:
        """See `RelayListener`."""
        assert leg.lease is not None
        now_ns = self._last_frame_ns = self._clock.now_ns()
        start, speaker = None, leg.speaker
        if self._heard is not leg:
            leased_ns = leg.lease.leased_ns
            if self._heard is None and self._first_leased_ns is not None:
                # What a replica that was lost or late took is no wait for one.
                leased_ns = self._first_leased_ns
            self._heard = leg
            start = Start(
                sample_rate_hz=speaker.sample_rate_hz,
                queue_us=(leased_ns - self._arrived_ns) // 1000,
                synthesis_us=(now_ns - leased_ns) // 1000,
                replica=leg.lease.replica,
                model_revision=speaker.model_revision,
                voice=speaker.name,
                is_fallback=speaker.is_fallback,
            )
            if not self._buffer.delivered:
                self._observer.first_frame(start)
            if speaker.is_fallback and not self._fell_back:
                self._fell_back = True
                self._speaker.pool.stats.fallback_chunks += 1
        self._buffer.add(offset_samples, pcm, start)
        self._wake()

    def words(self, words: list[Word]) -> None:
        """See `RelayListener`."""
        self._buffer.add_words(words)

    def lost(self, replica: str, reason: str) -> None:
        """See `RelayListener`."""
        self._observer.lost(replica, reason)

    def moved(self, speaker: Speaker, reason: str) -> None:
        """See `RelayListener`."""
        self._observer.fell_back(speaker.name, reason)

    def hedged(self, replica: str) -> None:
        """See `RelayListener`."""
        self._observer.hedged(replica)

    def watch(self, leg: Leg, replica: str) -> LeaseObserver:
        """See `RelayListener`."""
        return self._observer.watch(leg.speaker, replica)

    def ended(self, end: JobEnd) -> None:
        """See `RelayListener`."""
        self._end = end
        self._state = _State.SPOKEN
        if self._wake is _nobody:
            self._answer()
        else:
            self._wake()

    def _answer(self) -> FinishedEvent | FailedEvent:
        """Make the last event, and count the chunk."""
        assert self._end is not None
        self._state = _State.ANSWERED
        end, leg, delivered_to = self._end, self._relay.leg, self._buffer.delivered_to
        stats = leg.speaker.pool.stats
        # Engine time whose audio nobody hears: the share of the samples that nobody got.
        heard = min(max(0, delivered_to - leg.begun_at), end.made_samples)
        wasted_us = end.engine_us - end.engine_us * heard // max(end.made_samples, 1)
        stats.wasted_us += wasted_us
        engine_us = end.engine_us + self._relay.engine_us
        event: FinishedEvent | FailedEvent
        if end.error is not None and not self._cancelled:
            stats.failed_chunks += 1
            event = FailedEvent(self.order.index, end.error, delivered_to, engine_us)
        else:
            cancelled = self._cancelled or end.cancelled
            if cancelled:
                stats.cancelled_chunks += 1
            else:
                stats.completed_chunks += 1
            leased_ns = self._lease.leased_ns if self._lease is not None else 0
            event = FinishedEvent(
                index=self.order.index,
                total_samples=delivered_to if cancelled else self._total_samples(end),
                synthesis_us=max(0, (self._last_frame_ns or end.ended_ns) - leased_ns) // 1000
                if leased_ns
                else 0,
                cancelled=cancelled,
                resumed=end.resumed,
                wasted_us=wasted_us + self._relay.wasted_us,
                engine_us=engine_us,
            )
        delivered = delivered_to - self.order.start_offset_samples
        self._observer.ended(event, delivered * 1000 / self._speaker.sample_rate_hz)
        return event

    def _total_samples(self, end: JobEnd) -> int:
        # A caller may resume behind the end: then no frame came, and the engine made less than that.
        made_to = self._buffer.made_to
        return made_to if self._heard is not None else min(made_to, end.made_samples)


def _nobody() -> None:
    """Nobody waits."""
