"""Between the contract's messages and the core's dataclasses. No decisions."""

from collections.abc import Iterable, Mapping

from google.protobuf.message import Message as ProtoMessage

from gateway.core import actions as do
from gateway.core.report import ChunkAccount, ChunkPath, TurnReport
from gateway.core.values import Chunk, Image, Message, TextRun, Usage, Word
from gateway.prices import Cost
from voicemesh.common.v1 import common_pb2 as common
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.frames import BYTES_PER_SAMPLE
from voicemesh.runtime.status import to_status
from voicemesh.stages import STAGES, Stage

_ROLES = {"system": common.ROLE_SYSTEM, "user": common.ROLE_USER, "assistant": common.ROLE_ASSISTANT}
_ROLE_NAMES = {number: name for name, number in _ROLES.items()}
_REASONS = {
    value.number: value.name.removeprefix("CHUNK_REASON_").lower()
    for value in common.ChunkReason.DESCRIPTOR.values
}
_REASON_NUMBERS = {
    name: common.ChunkReason.Value(f"CHUNK_REASON_{name.upper()}") for name in _REASONS.values()
}
_STAGES = {stage: common.Stage.Value(f"STAGE_{stage.upper()}") for stage in STAGES}
_OUTCOMES = {
    "completed": pb.TURN_OUTCOME_COMPLETED,
    "interrupted": pb.TURN_OUTCOME_INTERRUPTED,
    "failed": pb.TURN_OUTCOME_FAILED,
}
_CACHE = {
    "off": pb.CACHE_OUTCOME_UNSPECIFIED,
    "miss": pb.CACHE_OUTCOME_MISS,
    "memory": pb.CACHE_OUTCOME_MEMORY,
    "redis": pb.CACHE_OUTCOME_REDIS,
    "shared": pb.CACHE_OUTCOME_SHARED,
    "similar": pb.CACHE_OUTCOME_SIMILAR,
}
_NO_PATH = ChunkPath(began_us=0, length_us=0, stages={}, hops={})
_DEGRADATIONS = {name.removeprefix("DEGRADATION_").lower(): number for name, number in pb.Degradation.items()}


def parts_from(parts: Iterable[common.ContentPart]) -> tuple[str | Image, ...]:
    """Turn the parts of a message into the core's."""
    return tuple(
        part.text
        if part.WhichOneof("part") == "text"
        else Image(part.image.data, part.image.url, part.image.media_type)
        for part in parts
    )


def message_from(message: common.Message) -> Message:
    """Turn a message of a conversation into the core's."""
    return Message(_ROLE_NAMES.get(message.role, "user"), parts_from(message.parts))


def message_to(message: Message) -> common.Message:
    """Turn a message of a conversation into the contract's."""
    parts = []
    for part in message.parts:
        if isinstance(part, str):
            parts.append(common.ContentPart(text=part))
        elif part.url:
            parts.append(common.ContentPart(image=common.Image(url=part.url)))
        else:
            image = common.Image(data=part.data, media_type=part.media_type)
            parts.append(common.ContentPart(image=image))
    return common.Message(role=_ROLES[message.role], parts=parts)


def chunk_from(chunk: common.Chunk) -> Chunk:
    """Turn a chunk into the core's."""
    return Chunk(
        chunk.index,
        chunk.text,
        chunk.text_offset,
        chunk.text_length,
        _REASONS.get(chunk.reason, "unspecified"),  # a later version may know more
        chunk.held_us,
        tuple(
            TextRun(run.spoken_offset, run.spoken_length, run.source_offset, run.source_length)
            for run in chunk.alignment
        ),
    )


def chunk_to(turn_id: str, chunk: Chunk) -> common.Chunk:
    """Turn a chunk into the contract's."""
    return common.Chunk(
        turn_id=turn_id,
        index=chunk.index,
        text=chunk.text,
        text_offset=chunk.text_offset,
        text_length=chunk.text_length,
        reason=_REASON_NUMBERS[chunk.reason],
        held_us=chunk.held_us,
        alignment=[
            common.TextRun(
                spoken_offset=run.spoken_offset,
                spoken_length=run.spoken_length,
                source_offset=run.source_offset,
                source_length=run.source_length,
            )
            for run in chunk.alignment
        ],
    )


def words_from(words: Iterable[common.WordTiming]) -> tuple[Word, ...]:
    """Turn word timings into the core's."""
    return tuple(
        Word(word.word, word.text_offset, word.text_length, word.offset_samples, word.estimated)
        for word in words
    )


def words_to(words: Iterable[Word]) -> list[common.WordTiming]:
    """Turn word timings into the contract's."""
    return [
        common.WordTiming(
            word=word.word,
            text_offset=word.text_offset,
            text_length=word.text_length,
            offset_samples=word.offset_samples,
            estimated=word.estimated,
            source_offset=word.source_offset,
            source_length=word.source_length,
        )
        for word in words
    ]


def timings_to(turn_id: str, chunk_index: int, words: Iterable[Word]) -> common.WordTimings:
    """Turn the word timings of a chunk into the contract's."""
    return common.WordTimings(turn_id=turn_id, chunk_index=chunk_index, words=words_to(words))


def usage_from(usage: common.TokenUsage, provider: str, model: str) -> Usage:
    """Turn token counts into the core's, with who counted them."""
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        provider=provider,
        model=model,
        estimated=usage.estimated,
    )


def usage_to(usage: Usage | None) -> common.TokenUsage | None:
    """Turn token counts into the contract's."""
    if usage is None:
        return None
    return common.TokenUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        estimated=usage.estimated,
    )


def frame_to(turn_id: str, frame: do.EmitFrame) -> common.Frame:
    """Turn a frame into the contract's."""
    return common.Frame(
        turn_id=turn_id,
        chunk_index=frame.index,
        sequence=frame.sequence,
        offset_samples=frame.offset_samples,
        turn_offset_samples=frame.turn_offset_samples,
        audio=frame.audio,
        samples=len(frame.audio) // BYTES_PER_SAMPLE,
    )


Told = (
    do.EmitFrame | do.EmitText | do.EmitChunk | do.EmitWords | do.EmitSpeakLocally | do.EmitDegraded
)  # fmt: skip


def told_to(turn_id: str, language: str, action: Told) -> tuple[str, ProtoMessage]:
    """Turn what a caller is to be told into the contract's: the event's field, and its message."""
    match action:
        case do.EmitFrame():
            return "frame", frame_to(turn_id, action)
        case do.EmitText(text):
            return "text_delta", pb.TextDelta(turn_id=turn_id, text=text)
        case do.EmitChunk(chunk):
            return "chunk", chunk_to(turn_id, chunk)
        case do.EmitWords(index, words):
            return "words", timings_to(turn_id, index, words)
        case do.EmitSpeakLocally(index, text):
            local = pb.SpeakLocally(turn_id=turn_id, chunk_index=index, text=text, language=language)
            return "speak_locally", local
        case do.EmitDegraded(what, detail):
            return "degraded", pb.Degraded(turn_id=turn_id, what=degradation_to(what), detail=detail)


def degradation_to(what: str) -> pb.Degradation.ValueType:
    """Turn the name of what was given up into the contract's."""
    return _DEGRADATIONS[what]


def cost_to(cost: Cost) -> pb.Cost:
    """Turn what something cost into the contract's."""
    return pb.Cost(
        llm_usd=cost.llm_usd,
        speech_usd=cost.speech_usd,
        saved_usd=cost.saved_usd,
        prompt_cache_saved_usd=cost.prompt_cache_saved_usd,
        unpriced=cost.unpriced,
        estimated=cost.estimated,
    )


def report_to(report: TurnReport, trace_id: str, cost: Cost) -> pb.TurnReport:
    """Turn a report, and what the turn cost, into the contract's."""
    attribution = report.attribution
    answered = report.usage or report.cached_usage
    return pb.TurnReport(
        turn_id=report.turn_id,
        session_id=report.session_id,
        trace_id=trace_id,
        outcome=_OUTCOMES[report.outcome],
        ttft_us=report.ttft_us,
        ttfa_us=attribution.ttfa_us,
        leading_silence_us=report.leading_silence_us,
        total_us=report.total_us,
        audio_us=report.audio_us,
        underruns=report.underruns,
        underrun_us=report.underrun_us,
        degraded=[_DEGRADATIONS[what] for what in report.degraded],
        degraded_why=report.degraded_why,
        failovers=[
            pb.Failover(service=failover.service, at_us=failover.at_us, why=failover.why)
            for failover in report.failovers
        ],
        stages=[
            common.StageDuration(stage=_STAGES[stage], duration_us=attribution.stages.get(stage, 0))
            for stage in STAGES
        ],
        unattributed_us=attribution.unattributed_us,
        hops=_hops_to(attribution.hops),
        chunks=[_account_to(account) for account in report.chunks],
        reply_cache=_CACHE[report.reply_cache],
        usage=usage_to(report.usage),
        characters=report.characters,
        cost_usd=cost.total_usd,
        cost=cost_to(cost),
        provider=answered.provider if answered is not None else "",
        model=answered.model if answered is not None else "",
        prompt_variant=report.prompt_variant,
        priority=report.priority,  # type: ignore[arg-type] # as the contract numbers them
        engine_us=report.engine_us,
        text=report.text,
        error=to_status(report.error, trace_id) if report.error is not None else None,
        head_start_us=report.head_start_us,
        variants=dict(report.variants),
        underrun_stages=_durations_to(report.underrun_stages),
        excess_us=attribution.excess_us,
    )


def _durations_to(stages: Mapping[str, int]) -> list[common.StageDuration]:
    return [
        common.StageDuration(stage=_STAGES[stage], duration_us=stages[stage])
        for stage in STAGES
        if stage in stages
    ]


def _hops_to(hops: Mapping[str, int]) -> list[pb.HopDuration]:
    return [pb.HopDuration(hop=hop, duration_us=duration_us) for hop, duration_us in hops.items()]


def _account_to(account: ChunkAccount) -> pb.ChunkReport:
    path = account.path or _NO_PATH
    return pb.ChunkReport(
        index=account.index,
        text=account.text,
        reason=_REASON_NUMBERS[account.reason],
        held_us=account.held_us,
        cache=_CACHE[account.cache],
        first_frame_us=account.first_frame_us,
        audio_us=account.audio_us,
        queue_us=account.queue_us,
        synthesis_us=account.synthesis_us,
        stages=_durations_to(path.stages),
        paced_us=path.paced_us,
        unattributed_us=path.unattributed_us,
        hops=_hops_to(path.hops),
        path_began_us=path.began_us,
        path_us=path.length_us,
        slack_us=account.slack_us,
        underruns=account.underruns,
        underrun_us=account.underrun_us,
        underrun_cause=_stage_to(account.underrun_cause),
        underrun_list=[
            pb.Underrun(
                at_us=underrun.at_us, duration_us=underrun.duration_us, cause=_stage_to(underrun.cause)
            )
            for underrun in account.underrun_list
        ],
    )


def _stage_to(stage: str) -> common.Stage.ValueType:
    return _STAGES[Stage(stage)] if stage else common.STAGE_UNSPECIFIED
