"""Callers that leave, go silent, or speak out of turn."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx2
import pytest
import pytest_asyncio

from tests.support.mesh import Mesh, running_mesh
from voicemesh.client import Frame, SpeechOptions, TurnEnded, VoiceMesh
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from voicemesh.runtime.status import from_rpc_error, reason_of

PLACES = 4
LONG = " ".join(f"Sentence number {n} of a text that takes a while to say." for n in range(60))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small_mesh() -> AsyncIterator[Mesh]:
    """Run a mesh with so few places for turns that a leak of them would be seen at once."""
    async with running_mesh(VOICEMESH_GATEWAY_MAX_TURNS=str(PLACES)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def stub(small_mesh: Mesh) -> AsyncIterator[GatewayServiceStub]:
    async with grpc.aio.insecure_channel(small_mesh.address("gateway")) as channel:
        yield GatewayServiceStub(channel)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def every_place_is_free_again(small_mesh: Mesh) -> AsyncIterator[None]:
    yield
    async with asyncio.timeout(20), VoiceMesh(small_mesh.address("gateway")) as client:
        while True:
            turns = [client.say(f"Place {n}.").collect() for n in range(PLACES)]
            done = await asyncio.gather(*turns, return_exceptions=True)
            if not [one for one in done if isinstance(one, BaseException)]:
                return


def said(text: str, turn_id: str = "", *, last: bool = False) -> pb.ConverseRequest:
    return pb.ConverseRequest(text=pb.TextInput(text=text, turn_id=turn_id, last=last))


class Call:
    """A Converse call, message by message."""

    def __init__(self, stub: GatewayServiceStub) -> None:
        converse: Any = stub.Converse
        self.call = converse()

    async def send(self, *requests: pb.ConverseRequest) -> None:
        for request in requests:
            await self.call.write(request)

    async def until(self, kind: str) -> pb.ConverseResponse:
        response: pb.ConverseResponse
        async for response in self.call:
            if response.WhichOneof("event") == kind:
                return response
        raise AssertionError(f"the call ended without {kind}")

    async def end(self) -> None:
        self.call.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            async for _ in self.call:
                pass


CONFIGURE = pb.ConverseRequest(configure=pb.Configure(speech=pb.SpeechOptions(max_lead_ms=0)))


@pytest.mark.asyncio(loop_scope="module")
async def test_a_batch_that_is_cancelled_gives_its_places_back(stub: GatewayServiceStub) -> None:
    for _ in range(3):
        call: Any = stub.SpeakBatch(pb.SpeakBatchRequest(texts=[f"Text number {n}." for n in range(40)]))
        await call.read()
        call.cancel()
        with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
            await call.read()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_caller_that_stops_reading_and_leaves_gives_its_place_back(stub: GatewayServiceStub) -> None:
    for _ in range(PLACES + 1):
        call = Call(stub)
        await call.send(CONFIGURE, said(LONG, last=True))
        await call.until("turn_started")
        await call.end()


@pytest.mark.asyncio(loop_scope="module")
async def test_for_who_reads_nothing_little_is_said_even_of_what_is_cached(
    small_mesh: Mesh, stub: GatewayServiceStub
) -> None:
    unpaced = pb.SpeechOptions(max_lead_ms=0)
    sentence = "So it went on, and on, and there was no end to it. "
    async for _ in stub.Speak(pb.SpeakRequest(text=4 * sentence, speech=unpaced)):
        pass
    # Twenty minutes, nearly all of which the cache has as soon as its first chunks were spoken.
    # gRPC would take megabytes of it for somebody who reads nothing.
    takes_little = [("grpc.http2.lookahead_bytes", 65_536), ("grpc.http2.bdp_probe", 0)]
    async with grpc.aio.insecure_channel(small_mesh.address("gateway"), options=takes_little) as channel:
        unread = GatewayServiceStub(channel)
        call = unread.Speak(pb.SpeakRequest(text=400 * sentence, turn_id="unread", speech=unpaced))
        await call.read()
        for number in range(3):  # what others have said meanwhile
            async for _ in stub.Speak(pb.SpeakRequest(text=f"{number}. {LONG}", speech=unpaced)):
                pass
        call.cancel()
    while not (report := await explained(stub, "unread")):  # noqa: ASYNC110 - of another process
        await asyncio.sleep(0.02)
    assert report.audio_us < 25_000_000


async def explained(stub: GatewayServiceStub, turn_id: str) -> pb.TurnReport | None:
    """Return the report of a turn; None while it has none."""
    try:
        return (await stub.ExplainTurn(pb.ExplainTurnRequest(turn_id=turn_id))).report
    except grpc.aio.AioRpcError as error:
        if from_rpc_error(error, "gateway").reason != "UNKNOWN_TURN":
            raise
        return None


@pytest.mark.asyncio(loop_scope="module")
async def test_a_message_that_is_no_protobuf_ends_the_call_with_a_typed_error(small_mesh: Mesh) -> None:
    async with grpc.aio.insecure_channel(small_mesh.address("gateway")) as channel:
        anything: Any = channel
        call = anything.stream_stream("/voicemesh.gateway.v1.GatewayService/Converse")()
        await call.write(CONFIGURE.SerializeToString())
        await call.write(b"\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.asyncio(loop_scope="module")
async def test_words_behind_an_interrupt_are_a_new_turn(stub: GatewayServiceStub) -> None:
    call = Call(stub)
    await call.send(CONFIGURE, said("The first utterance goes on and"))
    first = (await call.until("turn_started")).turn_started.turn_id
    await call.send(pb.ConverseRequest(interrupt=pb.Interrupt()), said("A new one begins.", last=True))
    assert (await call.until("turn_completed")).turn_completed.report.turn_id == first
    assert (await call.until("turn_started")).turn_started.turn_id != first
    assert (await call.until("chunk")).chunk.text == "A new one begins."
    assert (await call.until("turn_completed")).turn_completed.report.outcome == pb.TURN_OUTCOME_COMPLETED
    await call.end()


@pytest.mark.asyncio(loop_scope="module")
async def test_text_behind_the_last_of_its_turn_is_out_of_order(stub: GatewayServiceStub) -> None:
    call = Call(stub)
    await call.send(CONFIGURE, said("All of it.", "d", last=True))
    await call.until("turn_completed")
    await call.send(said("And more.", "d"))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.until("turn_started")
    assert reason_of(from_rpc_error(raised.value, "gateway").status) == "OUT_OF_ORDER"


@pytest.mark.asyncio(loop_scope="module")
async def test_the_rest_of_a_turn_over_its_limit_is_dropped_and_the_next_one_works(
    stub: GatewayServiceStub,
) -> None:
    call = Call(stub)
    await call.send(CONFIGURE, said("A beginning.", "big"), said("x" * 200_001, "big"))
    await call.send(said("the rest", "big"), said("of it", "big", last=True))
    failed = (await call.until("turn_failed")).turn_failed
    assert failed.turn_id == "big"
    assert reason_of(failed.status) == "INVALID_FIELD"
    await call.send(said("The next one.", "next", last=True))
    assert (await call.until("turn_started")).turn_started.turn_id == "next"
    await call.until("turn_completed")
    await call.end()


async def test_sigterm_lets_an_http_response_finish_and_the_process_exits() -> None:
    async with running_mesh() as mesh:
        transport = httpx2.AsyncHTTPTransport(uds=f"{mesh.folder}/http.sock")
        body = {"input": LONG[:2000], "response_format": "pcm"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://mesh", timeout=30) as client:
            whole = (await client.post("/v1/audio/speech", json=body)).content
            async with client.stream("POST", "/v1/audio/speech", json=body) as response:
                parts = response.aiter_bytes()
                audio = await anext(parts)
                stopping = asyncio.create_task(mesh.processes["gateway"].stop())
                async for part in parts:
                    audio += part
        assert audio == whole
        assert await stopping == 0


async def test_a_barge_in_behind_the_last_frame_still_shortens_the_history() -> None:
    async with (
        running_mesh() as mesh,
        VoiceMesh(mesh.address("gateway")) as client,
        client.converse(speech=SpeechOptions(max_lead_ms=0)) as conversation,
    ):
        first = await conversation.ask("Tell me about ports, please.")
        events = [event async for event in first]
        assert isinstance(events[-1], TurnEnded)
        assert any(isinstance(event, Frame) for event in events)
        await conversation.interrupt(played_ms=500)
        second = await (await conversation.ask("What did I hear?")).collect()
        third = await (await conversation.ask("And now all of it?")).collect()
    whole = second.report.output_tokens
    grown = third.report.input_tokens - second.report.input_tokens
    # Two words of the first reply are in the second turn's prompt; of the second reply, all in the third's.
    assert second.report.input_tokens < grown + whole
