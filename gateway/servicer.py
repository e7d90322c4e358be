"""The gRPC edge: streams of requests to conversations, and their responses back."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from gateway import limits, tenancy
from gateway.callers import Responses
from gateway.channels import Channels
from gateway.conversation import LINGER_S, Conversation
from gateway.listing import list_turns
from gateway.metering import totals_to
from gateway.recorder import Recorder
from gateway.speaking import Speaker
from gateway.streams import Streams
from gateway.turns import Turns
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceServicer
from voicemesh.runtime.errors import MeshError
from voicemesh.runtime.sessions import SessionRegistry
from voicemesh.runtime.streams import one_more_said


class GatewayServicer(GatewayServiceServicer):
    """`voicemesh.gateway.v1.GatewayService`."""

    def __init__(
        self, turns: Turns, recorder: Recorder, sessions: SessionRegistry, streams: Streams | None = None
    ) -> None:
        self._turns = turns
        self._recorder = recorder
        self._sessions = sessions
        self._channels = Channels(turns, sessions)
        # An empty one is False.
        self._streams = streams if streams is not None else Streams(turns.settings, turns.clock)

    async def Converse(  # the contract's name
        self, request_iterator: AsyncIterator[pb.ConverseRequest], context: Any
    ) -> AsyncIterator[pb.ConverseResponse]:
        """Carry any number of turns, one after another."""
        with contextlib.ExitStack() as held:
            try:
                stream = held.enter_context(self._streams.place(context))
                session = self._sessions.open()
                conversation = Conversation(self._turns, self._channels, session, context)
            except MeshError:
                await one_more_said(request_iterator, LINGER_S)
                raise
            responses = Responses(conversation.caller.outbox)
            stream.carry(responses, conversation)
            reader = session.spawn(conversation.read(request_iterator), name="converse")
            drainer = session.spawn(conversation.drain(), name="drain converse")
            try:
                async for response in responses:
                    yield response
            finally:
                # The first await here may be cancelled (see voicemesh.runtime.sessions): do nothing but tell.
                reader.cancel()
                drainer.cancel()
                conversation.abandon()

    async def Speak(self, request: pb.SpeakRequest, context: Any) -> AsyncIterator[pb.SpeakResponse]:
        """Speak one text."""
        received_ns = self._turns.clock.now_ns()
        with self._streams.place(context) as stream:
            limits.check(request)
            tenant = tenancy.caller_of(context).tenant
            speaker = Speaker(self._turns, self._sessions.open(), tenant, context.time_remaining())
            responses = Responses(speaker.outbox)
            stream.carry(responses)
            try:
                await speaker.speak(request, received_ns)
                async for response in responses:
                    yield response
            finally:
                speaker.abandon()

    async def SpeakBatch(
        self, request: pb.SpeakBatchRequest, context: Any
    ) -> AsyncIterator[pb.SpeakBatchResponse]:
        """Speak many texts."""
        with self._streams.place(context) as stream:
            tenant = tenancy.caller_of(context).tenant
            speaker = Speaker(self._turns, self._sessions.open(), tenant, context.time_remaining())
            responses = Responses(speaker.outbox)
            stream.carry(responses)
            try:
                await self._turns.peers.known(context.time_remaining())
                speaker.speak_batch(request)
                async for response in responses:
                    yield response
            finally:
                speaker.abandon()

    async def ListVoices(self, request: pb.ListVoicesRequest, context: Any) -> pb.ListVoicesResponse:  # noqa: ARG002
        """Say what can speak."""
        limits.check(request)
        return pb.ListVoicesResponse(
            voices=self._turns.peers.list_voices(
                request.language, include_not_ready=request.include_not_ready
            )
        )

    async def ExplainTurn(self, request: pb.ExplainTurnRequest, context: Any) -> pb.ExplainTurnResponse:
        """Return the report of a turn of the caller's tenant."""
        limits.check(request)
        report = self._recorder.find(tenancy.caller_of(context).tenant, request.turn_id)
        return pb.ExplainTurnResponse(report=report)

    async def ListTurns(
        self, request: pb.ListTurnsRequest, context: Any
    ) -> AsyncIterator[pb.ListTurnsResponse]:
        """Give the reports of the turns of the caller's tenant that ended lately."""
        limits.check(request)
        tenant = tenancy.asked_for(context, all_tenants=request.all_tenants)
        for page in list_turns(self._recorder.record, tenant, request, self._recorder.now_us()):
            yield page

    async def GetUsage(self, request: pb.GetUsageRequest, context: Any) -> pb.GetUsageResponse:
        """Return what the caller's tenant consumed; to a caller without one, what every tenant did."""
        tenant = tenancy.asked_for(context, all_tenants=request.all_tenants)
        rows = self._recorder.usage.rows(tenant)
        return pb.GetUsageResponse(totals=[totals_to(*row) for row in rows])
