"""One span for each chunk, below the span of its call."""

from opentelemetry.trace import Span

from services.tts.core.model import ChunkOrder, FailedEvent, FinishedEvent, Start
from services.tts.core.speaker import Speaker
from voicemesh.runtime.telemetry import Telemetry, end_span


class ChunkSpan:
    """Watches one chunk. Its span begins when it is made; see `ChunkObserver`.

    Args:
        telemetry: Makes spans.
        parent: The span of the call.
        order: The chunk.
        speaker: Its voice.

    """

    def __init__(self, telemetry: Telemetry, parent: Span, order: ChunkOrder, speaker: Speaker) -> None:
        self._started = False
        self._span = telemetry.child_span(
            f"text_to_speech {speaker.pool.spec.engine}",
            parent,
            attributes={
                "gen_ai.operation.name": "text_to_speech",
                "gen_ai.output.type": "speech",
                "gen_ai.request.model": speaker.name,
                "voicemesh.chunk_index": order.index,
                "voicemesh.characters": len(order.text),
            },
        )

    def leased(self, replica: str, queue_us: int) -> None:
        """See `ChunkObserver`."""
        if self._started:
            self._span.add_event("resumed", {"voicemesh.tts.replica": replica})
        self._started = True
        self._span.set_attribute("voicemesh.tts.queue_ms", queue_us / 1000)
        self._span.set_attribute("voicemesh.tts.replica", replica)

    def first_frame(self, start: Start) -> None:
        """See `ChunkObserver`."""
        self._span.set_attribute("voicemesh.tts.synthesis_ms", start.synthesis_us / 1000)
        self._span.set_attribute("voicemesh.tts.voice", start.voice)

    def lost(self, replica: str, reason: str) -> None:
        """See `ChunkObserver`."""
        self._span.add_event("replica_lost", {"voicemesh.tts.replica": replica, "reason": reason})

    def fell_back(self, voice: str, reason: str) -> None:
        """See `ChunkObserver`."""
        self._span.add_event("fell_back", {"voicemesh.tts.voice": voice, "reason": reason})

    def hedged(self, replica: str) -> None:
        """See `ChunkObserver`."""
        self._span.add_event("hedged", {"voicemesh.tts.replica": replica})

    def ended(self, event: FinishedEvent | FailedEvent, audio_ms: float) -> None:
        """See `ChunkObserver`."""
        self._span.set_attribute("voicemesh.audio_ms", audio_ms)
        if isinstance(event, FailedEvent):
            end_span(self._span, event.error)
            return
        if event.cancelled:
            self._span.add_event("cancelled")
        end_span(self._span)
