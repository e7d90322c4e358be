"""What a gateway that has to end tells of what it cannot wait for, over real gRPC."""

import asyncio
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from tests.contract.gateway_harness import GUARD_S, Services, running_gateway
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.errors import DrainingError
from voicemesh.runtime.status import from_rpc_error, reason_of
from voicemesh.tts.v1 import tts_pb2

TEXTS = [f"Text number {number}." for number in range(20)]
BEGUN = 3
"""Turns that run: one of each sort, and of the batch at least one."""


class Silent(Services):
    """Services whose voices never say a word."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0
        self.news = asyncio.Event()

    async def Synthesize(
        self, request_iterator: AsyncIterator[tts_pb2.SynthesizeRequest], context: Any
    ) -> AsyncIterator[tts_pb2.SynthesizeResponse]:
        async for request in request_iterator:
            if request.WhichOneof("event") == "chunk":
                self.waiting += 1
                self.news.set()
                await asyncio.Event().wait()
                yield tts_pb2.SynthesizeResponse()


async def everything(call: Any) -> tuple[list[Any], str]:
    """Return what a call says, and the reason of its end; "" for OK."""
    messages = []
    try:
        async for message in call:
            messages.append(message)  # noqa: PERF401 - they are kept where it fails
    except grpc.aio.AioRpcError as error:
        return messages, from_rpc_error(error, "gateway").reason
    return messages, ""


async def test_every_turn_and_text_is_told_that_the_grace_was_too_short(socket_folder: pathlib.Path) -> None:
    services = Silent()
    async with asyncio.timeout(GUARD_S), running_gateway(str(socket_folder), services) as gateway:
        await gateway.serving()
        talk: Any = gateway.stub.Converse()  # type: ignore[call-arg]  # it is written to
        await talk.write(pb.ConverseRequest(configure=pb.Configure()))
        await talk.write(pb.ConverseRequest(prompt=pb.Prompt(parts=[common_pb2.ContentPart(text="Hello?")])))
        batch = gateway.stub.SpeakBatch(pb.SpeakBatchRequest(texts=TEXTS))
        speak = gateway.stub.Speak(pb.SpeakRequest(text="One sentence."))
        while services.waiting < BEGUN:
            services.news.clear()
            await services.news.wait()
        gateway.turns.draining.set()
        gateway.turns.cut(DrainingError("the grace was too short", retry_after_ms=0))
        told, end = await everything(talk)
        failed = [message.turn_failed for message in told if message.HasField("turn_failed")]
        assert [reason_of(each.status) for each in failed] == [end] == ["DRAINING"]
        assert failed[0].report.outcome == pb.TURN_OUTCOME_FAILED
        texts, end = await everything(batch)
        missed = [message for message in texts if message.HasField("failed")]
        assert sorted(index for message in missed for index in message.text_indexes) == list(range(20))
        assert {reason_of(message.failed.status) for message in missed} == {"DRAINING"}
        assert end == ""
        assert (await everything(speak))[1] == "DRAINING"
        assert len(gateway.turns) == 0
