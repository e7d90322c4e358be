"""One span for each chunk, below the span of its call; below that its leases, where they say more.

Synthesize ── text_to_speech {engine} ── lease {engine}     of one that was lost,
                               │         lease {engine}     of the one that went on, of a hedge
                               │         lease {engine}     of one that speaks for another voice
                               └ links <──> voicemesh.tts.batch, a trace of its own

A lease that went well and was the only one is in the chunk's own span: the replica, the wait for it, the time
of its engine. A span of its own would say the same once more, for each chunk of each turn.
"""

import time
from collections.abc import Sequence

from opentelemetry.trace import INVALID_SPAN, Link, Span

from services.tts.core.job import JobEnd
from services.tts.core.legs import LeaseObserver
from services.tts.core.model import ChunkOrder, FailedEvent, FinishedEvent, Start, Together
from services.tts.core.speaker import Speaker
from voicemesh.runtime import trace_content
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.telemetry import Telemetry, end_span, note_error


class ChunkSpan:
    """Watches one chunk. Its span begins when it is made; see `ChunkObserver`.

    Args:
        telemetry: Makes spans.
        parent: The span of the call.
        order: The chunk.
        speaker: Its voice.

    """

    def __init__(self, telemetry: Telemetry, parent: Span, order: ChunkOrder, speaker: Speaker) -> None:
        self._telemetry = telemetry
        self._lost = self._heard = False
        self._moved = False
        self._first: LeaseSpan | None = None
        engine = speaker.pool.spec.engine
        self.traced = parent.is_recording()
        if not self.traced:
            self._span: Span = INVALID_SPAN
            return
        self._span = telemetry.child_span(
            f"{names.TEXT_TO_SPEECH} {engine}",
            parent,
            attributes={
                names.OPERATION: names.TEXT_TO_SPEECH,
                names.OUTPUT_TYPE: "speech",
                names.PROVIDER: engine,
                names.REQUEST_MODEL: speaker.name,
                names.CHUNK_INDEX: order.index,
                names.CHARACTERS: len(order.text),
            },
        )
        if telemetry.content:
            self._span.set_attribute(names.INPUT_MESSAGES, trace_content.message("user", order.text))

    def leased(self, replica: str, queue_us: int) -> None:
        """See `ChunkObserver`."""
        if self._lost:
            name = names.RESUMED if self._heard else names.RETRIED
            self._span.add_event(name, {names.TTS_REPLICA: replica})
            self._lost = False
        self._span.set_attributes({names.TTS_QUEUE_MS: queue_us / 1000, names.TTS_REPLICA: replica})

    def first_frame(self, start: Start) -> None:
        """See `ChunkObserver`."""
        self._heard = True
        self._span.set_attributes(
            {names.TTS_SYNTHESIS_MS: start.synthesis_us / 1000, names.TTS_VOICE: start.voice}
        )

    def lost(self, replica: str, reason: str) -> None:
        """See `ChunkObserver`."""
        self._lost = True
        self._span.add_event(names.REPLICA_LOST, {names.TTS_REPLICA: replica, names.REASON: reason})

    def fell_back(self, voice: str, reason: str) -> None:
        """See `ChunkObserver`."""
        self._lost = False  # this one does not go on with what the last one lost: it begins at a word
        self._moved = True
        self._span.add_event(names.FAILED_OVER, {names.TTS_VOICE: voice, names.REASON: reason})

    def hedged(self, replica: str) -> None:
        """See `ChunkObserver`."""
        self._span.add_event(names.HEDGED, {names.TTS_REPLICA: replica, names.ERROR_TYPE: names.LATE})

    def watch(self, speaker: Speaker, replica: str) -> "LeaseSpan":
        """See `ChunkObserver`."""
        lease = LeaseSpan(self._telemetry, self._span, speaker, replica)
        if self._first is not None:
            self._first.show()
        if self._first is not None or self._moved:
            lease.show()
        self._first = self._first or lease
        return lease

    def ended(self, event: FinishedEvent | FailedEvent, audio_ms: float) -> None:
        """See `ChunkObserver`."""
        if not self.traced:
            return
        self._span.set_attributes({names.AUDIO_MS: audio_ms, names.ENGINE_MS: event.engine_us / 1000})
        if isinstance(event, FailedEvent):
            end_span(self._span, event.error, rpc=False)
            return
        if event.cancelled:
            self._span.add_event(names.CANCELLED)
        end_span(self._span, rpc=False)


class LeaseSpan:
    """Watches one lease: the time that a replica, a process of its own, had the chunk.

    It becomes a span when `show` is called, and where the replica is lost; else it leaves nothing.
    """

    def __init__(self, telemetry: Telemetry, chunk: Span, speaker: Speaker, replica: str) -> None:
        self._telemetry = telemetry
        self._chunk = chunk
        self._speaker = speaker
        self._replica = replica
        self._span: Span | None = None
        self._began_ns = time.time_ns()
        self._ended_ns: int | None = None
        self._end: JobEnd | None = None

    def show(self) -> None:
        """Make it a span, from when it began on."""
        if self._span is not None or not self._chunk.is_recording():
            return
        self._span = self._telemetry.child_span(
            f"{names.LEASE_SPAN} {self._speaker.pool.spec.engine}",
            self._chunk,
            start_time=self._began_ns,
            attributes={names.TTS_REPLICA: self._replica, names.TTS_VOICE: self._speaker.name},
        )
        if self._ended_ns is not None:
            self._end_span(self._span)

    def together(self, together: Together, others: Sequence[LeaseObserver]) -> None:
        """Record what it was advanced together with: a span with a link to each chunk's, and from each."""
        chunks = [self._chunk, *(other._chunk for other in others if isinstance(other, LeaseSpan))]  # noqa: SLF001 - of this class
        chunks = [chunk for chunk in chunks if chunk.is_recording()]
        if not chunks:
            return
        now_ns = time.time_ns()
        span = self._telemetry.linked_span(
            names.BATCH_SPAN,
            [Link(chunk.get_span_context()) for chunk in chunks],
            start_time=now_ns - together.began_us * 1000,
            attributes={
                names.BATCH_STAGE: together.stage,
                names.BATCH_SIZE: together.largest,
                names.BATCH_CHUNKS: len(together.ids),
                names.BATCH_STEPS: together.steps,
                names.ENGINE_MS: together.engine_us / 1000,
            },
        )
        if span.is_recording():
            for chunk in chunks:
                chunk.add_link(span.get_span_context())
        span.end(now_ns - together.ended_us * 1000)

    def end(self, lost: str = "", end: JobEnd | None = None) -> None:
        """See `LeaseObserver`."""
        if lost:
            self.show()
        self._ended_ns, self._end = time.time_ns(), end
        if self._span is None:
            return
        if lost:
            self._span.set_attribute(names.REASON, lost)
            note_error(self._span, "REPLICA_LOST")
        self._end_span(self._span)

    def _end_span(self, span: Span) -> None:
        end = self._end
        if end is not None and end.cancelled:
            span.add_event(names.CANCELLED, timestamp=self._ended_ns)
        end_span(span, end.error if end is not None else None, rpc=False, at_ns=self._ended_ns)
