"""What a turn's span tells of its chunks."""

from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span

from gateway.core.report import ChunkAccount, TurnReport
from voicemesh.runtime import trace_names as names

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
        span.add_event(names.CHUNK, _attributes(chunk), at_ns)


def _attributes(chunk: ChunkAccount) -> dict[str, str | int | float]:
    attributes: dict[str, str | int | float] = {
        names.CHUNK_INDEX: chunk.index,
        names.CHUNK_REASON: chunk.reason,
        names.HELD_MS: chunk.held_us / 1000,
        names.CHUNK_CACHE: chunk.cache,
        names.CHUNK_QUEUE_MS: chunk.queue_us / 1000,
        names.CHUNK_SYNTHESIS_MS: chunk.synthesis_us / 1000,
        names.CHUNK_AUDIO_MS: chunk.audio_us / 1000,
        names.CHUNK_FIRST_FRAME_MS: chunk.first_frame_us / 1000,
    }
    if chunk.slack_us is not None:
        attributes[names.CHUNK_SLACK_MS] = chunk.slack_us / 1000
    if chunk.underrun_us:
        attributes[names.CHUNK_UNDERRUN_MS] = chunk.underrun_us / 1000
    if chunk.underrun_cause:
        attributes[names.CHUNK_UNDERRUN_CAUSE] = chunk.underrun_cause
    return attributes
