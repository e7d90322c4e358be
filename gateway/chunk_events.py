"""What a turn's span tells of its chunks."""

from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span

from gateway.core.report import ChunkAccount, TurnReport

EVENT: Final = "voicemesh.chunk"
MAX_EVENTS: Final = 32
"""So many chunks are told of a turn: those with underruns go first, then the first ones."""


def add_chunk_events(span: Span, report: TurnReport) -> None:
    """Add one event for each chunk to the turn's span, at the time of its first frame where it has one."""
    if not span.is_recording():
        return
    chosen = sorted(report.chunks, key=lambda chunk: (not chunk.underruns, chunk.index))[:MAX_EVENTS]
    began_ns = span.start_time if isinstance(span, ReadableSpan) else None
    for chunk in sorted(chosen, key=lambda chunk: chunk.index):
        at_ns = None
        if began_ns is not None and chunk.first_frame_us:
            at_ns = began_ns + (report.head_start_us + chunk.first_frame_us) * 1000
        span.add_event(EVENT, _attributes(chunk), at_ns)


def _attributes(chunk: ChunkAccount) -> dict[str, str | int | float]:
    attributes: dict[str, str | int | float] = {
        "voicemesh.chunk_index": chunk.index,
        "voicemesh.chunk.reason": chunk.reason,
        "voicemesh.chunk.held_ms": chunk.held_us / 1000,
        "voicemesh.chunk.cache": chunk.cache,
        "voicemesh.chunk.queue_ms": chunk.queue_us / 1000,
        "voicemesh.chunk.synthesis_ms": chunk.synthesis_us / 1000,
        "voicemesh.chunk.audio_ms": chunk.audio_us / 1000,
        "voicemesh.chunk.first_frame_ms": chunk.first_frame_us / 1000,
        "voicemesh.chunk.underrun_ms": chunk.underrun_us / 1000,
    }
    if chunk.slack_us is not None:
        attributes["voicemesh.chunk.slack_ms"] = chunk.slack_us / 1000
    if chunk.underrun_cause:
        attributes["voicemesh.chunk.underrun_cause"] = chunk.underrun_cause
    return attributes
