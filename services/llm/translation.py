"""Between the contract's messages and the core's dataclasses."""

from typing import Final

from services.llm.core.call import Cancel, Incoming, Patience, Ready, Unknown
from services.llm.core.model import (
    Delta,
    FallbackNotice,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    ImagePart,
    Message,
    Parameters,
    Part,
    ResumedNotice,
    RetryNotice,
    Role,
    TextPart,
)
from voicemesh.common.v1 import common_pb2
from voicemesh.llm.v1 import llm_pb2

_ROLES: Final = {
    common_pb2.ROLE_SYSTEM: Role.SYSTEM,
    common_pb2.ROLE_USER: Role.USER,
    common_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
}
_REASONS: Final = {
    FinishReason.STOP: llm_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: llm_pb2.FINISH_REASON_LENGTH,
    FinishReason.CONTENT_FILTER: llm_pb2.FINISH_REASON_CONTENT_FILTER,
    FinishReason.TOOL_CALLS: llm_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.CANCELLED: llm_pb2.FINISH_REASON_CANCELLED,
}

_NOTICES: Final = {
    RetryNotice: llm_pb2.GenerateNotice.KIND_RETRY,
    FallbackNotice: llm_pb2.GenerateNotice.KIND_FALLBACK,
    ResumedNotice: llm_pb2.GenerateNotice.KIND_RESUMED,
}


def incoming_of(message: llm_pb2.GenerateRequest, attempt: int = 0) -> Incoming:
    """Return what a message of the caller says; `attempt`: how often it made the call before."""
    kind = message.WhichOneof("event")
    if kind == "start":
        return _request_of(message.start, attempt)
    if kind == "patience":
        return Patience(message.patience.join_ms)
    return Cancel() if kind == "cancel" else Unknown()


def _request_of(start: llm_pb2.GenerateStart, attempt: int) -> GenerationRequest:
    given = start.parameters
    return GenerationRequest(
        turn_id=start.turn_id,
        messages=tuple(
            Message(_ROLES.get(message.role), tuple(_part_of(part) for part in message.parts))
            for message in start.messages
        ),
        model=start.model,
        parameters=Parameters(
            max_tokens=given.max_tokens if given.HasField("max_tokens") else None,
            temperature=given.temperature if given.HasField("temperature") else None,
            top_p=given.top_p if given.HasField("top_p") else None,
            stop=tuple(given.stop),
            seed=given.seed if given.HasField("seed") else None,
        ),
        session_id=start.session_id,
        tenant=start.tenant,
        said=start.said,
        attempt=attempt,
    )


def _part_of(part: common_pb2.ContentPart) -> Part | None:
    kind = part.WhichOneof("part")
    if kind == "text":
        return TextPart(part.text)
    if kind == "image":
        return ImagePart(data=part.image.data, media_type=part.image.media_type, url=part.image.url)
    return None


def ready_of(ready: Ready) -> llm_pb2.GenerateResponse:
    """Return the first message of every call."""
    return llm_pb2.GenerateResponse(
        ready=llm_pb2.GenerateReady(
            provider=ready.provider,
            model=ready.model,
            revision=ready.revision,
            context_tokens=ready.context_tokens,
            max_tokens=ready.max_tokens,
        )
    )


def response_of(turn_id: str, event: GenerationEvent) -> llm_pb2.GenerateResponse:
    """Return the message that tells `event`."""
    if isinstance(event, Delta):
        delta = llm_pb2.GenerateDelta(turn_id=turn_id, text=event.text)
        if event.timing is not None:
            delta.timing.connect_us = event.timing.connect_ns // 1000
            delta.timing.ttft_us = event.timing.ttft_ns // 1000
        return llm_pb2.GenerateResponse(delta=delta)
    if isinstance(event, Finished):
        return llm_pb2.GenerateResponse(finished=_finished_of(turn_id, event))
    notice = llm_pb2.GenerateNotice(turn_id=turn_id, kind=_NOTICES[type(event)], detail=event.detail)
    return llm_pb2.GenerateResponse(notice=notice)


def _finished_of(turn_id: str, event: Finished) -> llm_pb2.GenerateFinished:
    finished = llm_pb2.GenerateFinished(
        turn_id=turn_id,
        reason=_REASONS[event.reason],
        provider=event.provider,
        model=event.model,
        total_us=event.total_ns // 1000,
    )
    if event.usage is not None:
        finished.usage.input_tokens = event.usage.input_tokens
        finished.usage.output_tokens = event.usage.output_tokens
        finished.usage.cached_input_tokens = event.usage.cached_input_tokens
    for billed in event.also_billed:
        also = finished.also_billed.add(provider=billed.provider, model=billed.model)
        if billed.usage is not None:
            also.usage.input_tokens = billed.usage.input_tokens
            also.usage.output_tokens = billed.usage.output_tokens
            also.usage.cached_input_tokens = billed.usage.cached_input_tokens
    return finished
