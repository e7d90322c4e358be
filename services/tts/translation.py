"""Between the contract's messages and the core's data. No decisions."""

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from services.tts.core.batch import BatchEvent
from services.tts.core.figures import PoolStats, ReplicaStats
from services.tts.core.model import (
    AudioFormat,
    ChunkEvent,
    ChunkOrder,
    FailedEvent,
    FinishedEvent,
    FrameEvent,
    VoiceInfo,
    Word,
    WordsEvent,
)
from services.tts.core.turn import Turn
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.errors import OutOfOrderError
from voicemesh.runtime.status import to_status
from voicemesh.tts.v1 import tts_pb2

WordTimingList = RepeatedCompositeFieldContainer[common_pb2.WordTiming]


def wanted_format(message: common_pb2.AudioFormat) -> AudioFormat:
    """Return what a caller wants to hear."""
    known = message.encoding in common_pb2.AudioEncoding.values()
    name = common_pb2.AudioEncoding.Name(message.encoding) if known else str(message.encoding)
    return AudioFormat(name.removeprefix("AUDIO_ENCODING_"), message.sample_rate_hz, message.channels)


def take(request: tts_pb2.SynthesizeRequest, turn: Turn) -> None:
    """Hand a request to its turn, which raises where it is wrong."""
    match request.WhichOneof("event"):
        case "chunk":
            turn.add(chunk_order(request.chunk))
        case "cancel_chunk":
            turn.cancel_chunk(request.cancel_chunk.chunk_index)
        case "cancel_turn":
            turn.cancel_turn()
        case "configure":
            message = request.configure
            turn.configure(message.turn_id, message.voice, wanted_format(message.format), message.speed)
        case _:
            raise OutOfOrderError("a message without an event")


def chunk_order(message: tts_pb2.SynthesizeChunk) -> ChunkOrder:
    """Return the chunk that a caller wants to be spoken."""
    return ChunkOrder(message.chunk_index, message.text, message.deadline_ms, message.start_offset_samples)


def native_format(sample_rate_hz: int) -> common_pb2.AudioFormat:
    """Return the form of a voice's own audio."""
    return common_pb2.AudioFormat(
        encoding=common_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=sample_rate_hz, channels=1
    )


def synthesize_response(event: ChunkEvent, turn_id: str, trace_id: str) -> tts_pb2.SynthesizeResponse:
    """Return the message for an event of a turn."""
    if isinstance(event, FrameEvent):
        response = tts_pb2.SynthesizeResponse()
        _fill_frame(response.frame, event, turn_id)
        return response
    if isinstance(event, WordsEvent):
        response = tts_pb2.SynthesizeResponse()
        response.words.turn_id = turn_id
        response.words.chunk_index = event.index
        _add_words(response.words.words, event.words)
        return response
    if isinstance(event, FinishedEvent):
        return tts_pb2.SynthesizeResponse(finished=_finished(event, turn_id))
    return tts_pb2.SynthesizeResponse(failed=_failed(event, turn_id, trace_id))


def batch_response(part: BatchEvent, trace_id: str) -> tts_pb2.SynthesizeBatchResponse | None:
    """Return the message for a part of a batch; None for what a batch does not tell (words)."""
    message = tts_pb2.SynthesizeBatchResponse(text_indexes=part.text_indexes)
    if isinstance(part.event, FrameEvent):
        _fill_frame(message.frame, part.event, "")
    elif isinstance(part.event, FinishedEvent):
        message.finished.CopyFrom(_finished(part.event, ""))
    elif isinstance(part.event, FailedEvent):
        message.failed.CopyFrom(_failed(part.event, "", trace_id))
    else:
        return None
    return message


def _fill_frame(message: tts_pb2.SynthesizedFrame, event: FrameEvent, turn_id: str) -> None:
    # In its place: a message that is given to another's constructor is copied, audio and all.
    frame = message.frame
    frame.turn_id = turn_id
    frame.chunk_index = event.index
    frame.sequence = event.sequence
    frame.offset_samples = event.offset_samples
    frame.audio = event.pcm
    if event.words:
        _add_words(message.words, event.words)
    if event.start is not None:
        start = message.start
        start.format.CopyFrom(native_format(event.start.sample_rate_hz))
        start.queue_us = event.start.queue_us
        start.synthesis_us = event.start.synthesis_us
        start.replica = event.start.replica
        start.model_revision = event.start.model_revision
        start.voice = event.start.voice
        start.is_fallback = event.start.is_fallback


def _add_words(timings: WordTimingList, words: tuple[tuple[str, Word], ...]) -> None:
    for text, word in words:
        timings.add(
            word=text,
            text_offset=word.text_offset,
            text_length=word.text_length,
            offset_samples=word.offset_samples,
            estimated=word.estimated,
        )


def _finished(event: FinishedEvent, turn_id: str) -> tts_pb2.ChunkFinished:
    return tts_pb2.ChunkFinished(
        turn_id=turn_id,
        chunk_index=event.index,
        total_samples=event.total_samples,
        synthesis_us=event.synthesis_us,
        cancelled=event.cancelled,
        resumed=event.resumed,
        wasted_us=event.wasted_us,
        engine_us=event.engine_us,
    )


def _failed(event: FailedEvent, turn_id: str, trace_id: str) -> tts_pb2.ChunkFailed:
    return tts_pb2.ChunkFailed(
        turn_id=turn_id,
        chunk_index=event.index,
        status=to_status(event.error, trace_id),
        sent_samples=event.sent_samples,
        engine_us=event.engine_us,
    )


def voice(info: VoiceInfo) -> common_pb2.Voice:
    """Return a voice as ListVoices has it."""
    return common_pb2.Voice(
        name=info.name,
        engine=info.engine,
        language=info.language,
        model_revision=info.model_revision,
        native_format=native_format(info.sample_rate_hz),
        has_word_timings=info.has_word_timings,
        ready_replicas=info.ready_replicas,
        is_default=info.is_default,
        state=_voice_state(info.state),
        declared_replicas=info.declared_replicas,
        max_chars=info.max_chars,
        repeats=info.repeats,
    )


def pool_stats(stats: PoolStats) -> tts_pb2.PoolStats:
    """Return the figures of a pool."""
    return tts_pb2.PoolStats(
        voice=stats.voice,
        ready_replicas=stats.ready_replicas,
        starting_replicas=stats.starting_replicas,
        active_leases=stats.active_leases,
        queued_chunks=stats.queued_chunks,
        completed_chunks=stats.completed_chunks,
        cancelled_chunks=stats.cancelled_chunks,
        failed_chunks=stats.failed_chunks,
        replaced_replicas=stats.replaced_replicas,
        audio_us=stats.audio_us,
        synthesis_us=stats.synthesis_us,
        wasted_us=stats.wasted_us,
        worker_pids=stats.worker_pids,
        state=_voice_state(stats.state),
        fault=stats.fault,
        declared_replicas=stats.declared_replicas,
        stalled_replicas=stats.stalled_replicas,
        recycled_replicas=stats.recycled_replicas,
        slots=stats.slots,
        occupancy=stats.occupancy,
        rtf=stats.rtf,
        replicas=map(_replica_stats, stats.replicas),
        breaker=tts_pb2.BreakerState.Value(f"BREAKER_STATE_{stats.breaker}"),
        breaker_opened=stats.breaker_opened,
        fallback_chunks=stats.fallback_chunks,
        hedged_chunks=stats.hedged_chunks,
        hedges_won=stats.hedges_won,
        hedge_us=stats.hedge_us,
    )


def _replica_stats(stats: ReplicaStats) -> tts_pb2.ReplicaStats:
    # What an engine's scheduler counts comes as it told it; an engine without one tells nothing.
    figures = stats.figures
    return tts_pb2.ReplicaStats(
        name=stats.name,
        state=tts_pb2.ReplicaState.Value(f"REPLICA_STATE_{stats.state}"),
        pid=stats.pid,
        active_leases=stats.active_leases,
        slots=stats.slots,
        resident_bytes=stats.resident_bytes,
        device_bytes=stats.device_bytes,
        heartbeat_age_ms=stats.heartbeat_age_ms,
        steps_done=stats.steps_done,
        steps_total=stats.steps_total,
        busy_us=figures.get("busy_ns", 0) // 1000,
        batches=figures.get("batches", 0),
        batched_steps=figures.get("steps", 0),
        batch_counts=[
            tts_pb2.BatchCount(chunks=size, batches=count) for size, count in figures.get("sizes", ())
        ],
    )


def _voice_state(name: str) -> common_pb2.VoiceState.ValueType:
    return common_pb2.VoiceState.Value(f"VOICE_STATE_{name or 'UNSPECIFIED'}")
