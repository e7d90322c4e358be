"""`LlmService` over gRPC: one call is one `Call` of the core."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
from opentelemetry.trace import Span

from services.llm.core.call import Call, Incoming, LlmCore
from services.llm.spans import ChatSpan
from services.llm.translation import incoming_of, ready_of, response_of
from voicemesh.llm.v1 import llm_pb2, llm_pb2_grpc
from voicemesh.runtime.sessions import SessionRegistry
from voicemesh.runtime.telemetry import RPC_STATUS_ATTRIBUTE, Telemetry, end_span

FULL_NAME: Final = "voicemesh.llm.v1.LlmService"
_GENERATE: Final = f"{FULL_NAME}/Generate"


class LlmServicer(llm_pb2_grpc.LlmServiceServicer):
    """Hands messages to the core and its events to the caller."""

    def __init__(self, core: LlmCore, sessions: SessionRegistry, telemetry: Telemetry) -> None:
        self._core = core
        self._sessions = sessions
        self._telemetry = telemetry

    async def Generate(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[llm_pb2.GenerateRequest], context: Any
    ) -> AsyncIterator[llm_pb2.GenerateResponse]:
        """Answer one call. Its end, however it comes, closes the provider's stream at once."""
        span = self._telemetry.server_span(_GENERATE, context.invocation_metadata())
        session = self._sessions.open()
        call = Call(self._core, ChatSpan(self._telemetry, span), session.spawn, context.time_remaining)
        # A call that ends while a message is being sent leaves this generator suspended, so that its
        # `finally` comes late; the context's own callback does not.
        context.add_done_callback(lambda _: session.cancel())
        error: BaseException | None = None
        turn_id = ""

        async def incoming() -> AsyncIterator[Incoming]:
            nonlocal turn_id
            async for message in request_iterator:
                turn_id = message.start.turn_id or turn_id
                yield incoming_of(message)

        try:
            yield ready_of(self._core.ready)
            session.spawn(call.read(incoming()), "requests")
            async for event in call.events:
                yield response_of(turn_id, event)
        except BaseException as caught:
            error = caught
            raise
        finally:
            session.cancel()
            call.when_over(_ending(span, error))


def _ending(span: Span, error: BaseException | None) -> Callable[[], None]:
    def end() -> None:
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            span.set_attribute(RPC_STATUS_ATTRIBUTE, grpc.StatusCode.CANCELLED.value[0])
            span.end()
        else:
            end_span(span, error)

    return end
