"""`LlmService` over gRPC: one call is one `Call` of the core."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

from services.llm.core.call import Call, LlmCore
from services.llm.metrics import LlmMetrics
from services.llm.tracing import CallSpan, ChatSpans
from services.llm.translation import incoming_of, ready_of, response_of
from voicemesh.llm.v1 import llm_pb2, llm_pb2_grpc
from voicemesh.runtime.errors import MeshError
from voicemesh.runtime.retry_budget import attempt_of
from voicemesh.runtime.sessions import SessionRegistry
from voicemesh.runtime.telemetry import Telemetry

FULL_NAME: Final = "voicemesh.llm.v1.LlmService"
_GENERATE: Final = f"{FULL_NAME}/Generate"


class LlmServicer(llm_pb2_grpc.LlmServiceServicer):
    """Hands messages to the core and its events to the caller."""

    def __init__(
        self, core: LlmCore, sessions: SessionRegistry, telemetry: Telemetry, metrics: LlmMetrics
    ) -> None:
        self._core = core
        self._sessions = sessions
        self._telemetry = telemetry
        self._metrics = metrics
        self._standing_by: set[Call] = set()

    def drain(self) -> None:
        """End the calls that have not asked for anything yet."""
        for call in tuple(self._standing_by):
            call.no_more()

    async def Generate(
        self, request_iterator: AsyncIterator[llm_pb2.GenerateRequest], context: Any
    ) -> AsyncGenerator[llm_pb2.GenerateResponse, None]:
        """Answer one call. Its end, however it comes, closes the provider's stream at once."""
        span = CallSpan(self._telemetry, _GENERATE, context.invocation_metadata())
        session = self._sessions.open()
        observer = self._metrics.watch(ChatSpans(self._telemetry, span), lambda: span.span)
        call = Call(self._core, observer, session.spawn, context.time_remaining)
        error: BaseException | None = None
        self._standing_by.add(call)
        try:
            # Begun first, so that reading overlaps with writing: what it leads to still comes behind `ready`.
            attempt = attempt_of(context.invocation_metadata())
            session.spawn(self._read(request_iterator, call, span, attempt), "requests")
            yield ready_of(self._core.ready)
            async for event in call.events:
                yield response_of(call.turn_id, event)
        except (asyncio.CancelledError, GeneratorExit):
            error = asyncio.CancelledError()
            raise
        except Exception as caught:
            error = caught
            raise
        finally:
            self._standing_by.discard(call)
            session.cancel()
            # Behind the span of the generation, which ends with its task.
            call.when_over(lambda: span.end(error))

    async def _read(
        self, requests: AsyncIterator[llm_pb2.GenerateRequest], call: Call, span: CallSpan, attempt: int
    ) -> None:
        try:
            async for message in requests:
                self._standing_by.discard(call)
                span.begin(message.start.traceparent)
                if message.HasField("start"):
                    span.turn(message.start.turn_id)
                call.take(incoming_of(message, attempt))
                if call.failed:
                    return  # what a call that is refused says further is never read
        except MeshError as error:
            span.begin()
            call.fail(error)
        else:
            call.no_more()
