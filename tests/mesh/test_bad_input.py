"""What callers do wrong, and what they are told; other turns go on."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest
import pytest_asyncio

from tests.support.mesh import Mesh
from voicemesh.client import SpeechOptions, VoiceMesh, VoiceMeshError
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from voicemesh.runtime.status import from_rpc_error, reason_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNPACED = SpeechOptions(max_lead_ms=0)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def others_go_on(client: VoiceMesh) -> AsyncIterator[None]:
    """Whatever a test did: other turns go on."""
    yield
    recording = await client.say("Still here.").collect()
    assert recording.report.outcome == "completed"


@pytest_asyncio.fixture(loop_scope="module")
async def stub(mesh: Mesh) -> AsyncIterator[GatewayServiceStub]:
    async with grpc.aio.insecure_channel(mesh.address("gateway")) as channel:
        yield GatewayServiceStub(channel)


async def refused(stub: GatewayServiceStub, *requests: pb.ConverseRequest) -> tuple[str, str, str]:
    async def stream() -> AsyncIterator[pb.ConverseRequest]:
        for request in requests:
            yield request
        await asyncio.Event().wait()

    call = stub.Converse(stream())
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for _ in call:
            pass
    call.cancel()
    status = from_rpc_error(raised.value, "gateway").status
    return raised.value.code().name, reason_of(status), status.message


async def test_a_message_before_configure(stub: GatewayServiceStub) -> None:
    prompt = pb.ConverseRequest(prompt=pb.Prompt(parts=[common_pb2.ContentPart(text="Hi")]))
    code, reason, message = await refused(stub, prompt)
    assert (code, reason) == ("INVALID_ARGUMENT", "OUT_OF_ORDER")
    assert "configure" in message


async def test_configure_twice(stub: GatewayServiceStub) -> None:
    configure = pb.ConverseRequest(configure=pb.Configure())
    code, reason, _ = await refused(stub, configure, configure)
    assert (code, reason) == ("INVALID_ARGUMENT", "OUT_OF_ORDER")


async def test_a_message_with_nothing_in_it(stub: GatewayServiceStub) -> None:
    code, reason, message = await refused(stub, pb.ConverseRequest())
    assert (code, reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert "event" in message


async def test_an_unknown_voice(client: VoiceMesh) -> None:
    with pytest.raises(VoiceMeshError) as raised:
        await client.say("Hello.", voice="nobody").collect()
    assert (raised.value.code, raised.value.reason) == ("NOT_FOUND", "UNKNOWN_VOICE")
    assert "ListVoices" in raised.value.message


@pytest.mark.parametrize("prompt", ["", "  \n "])
async def test_an_empty_prompt_fails_its_turn_and_the_stream_goes_on(client: VoiceMesh, prompt: str) -> None:
    async with client.converse(speech=UNPACED) as conversation:
        turn = await conversation.ask(prompt)
        with pytest.raises(VoiceMeshError) as raised:
            await turn.collect()
        assert (raised.value.code, raised.value.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
        assert raised.value.field == "prompt.parts"
        following = await conversation.ask("Are you there?")
        assert (await following.collect()).report.outcome == "completed"


async def test_a_megabyte_of_text(client: VoiceMesh) -> None:
    text = "word " * 200_000
    with pytest.raises(VoiceMeshError) as asked:
        await client.ask(text).collect()
    assert asked.value.reason == "INVALID_FIELD"
    assert "32768" in asked.value.message
    with pytest.raises(VoiceMeshError) as said:
        await client.say(text).collect()
    assert said.value.reason == "INVALID_FIELD"
    assert "200000" in said.value.message


async def test_a_message_over_the_size_limit(client: VoiceMesh) -> None:
    with pytest.raises(VoiceMeshError) as raised:
        await client.say("x" * 5_000_000).collect()
    assert raised.value.code == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"speed": 9.0}, "speed"),
        ({"format": common_pb2.AudioFormat(sample_rate_hz=8001)}, "format.sample_rate_hz"),
        ({"format": common_pb2.AudioFormat(channels=2)}, "format.channels"),
        ({"format": common_pb2.AudioFormat(encoding=cast(Any, 77))}, "format.encoding"),
        (
            {"format": common_pb2.AudioFormat(encoding=common_pb2.AUDIO_ENCODING_OPUS, sample_rate_hz=22050)},
            "format.sample_rate_hz",
        ),
        ({"chunk_policy": common_pb2.ChunkPolicy(words=3)}, "chunk_policy.words"),
        ({"voice": "v" * 300}, "voice"),
    ],
)
async def test_a_field_that_is_wrong_is_named(
    client: VoiceMesh, stub: GatewayServiceStub, options: dict[str, object], field: str
) -> None:
    speech = pb.SpeechOptions(**options)  # type: ignore[arg-type] # fields under test
    configure = pb.ConverseRequest(configure=pb.Configure(speech=speech))
    code, reason, message = await refused(stub, configure)
    assert (code, reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert f"configure.speech.{field}" in message


async def test_callers_who_write_on_behind_a_refused_configure_learn_why(client: VoiceMesh) -> None:
    asked = [client.ask("Hello?", voice="nobody").collect() for _ in range(40)]
    refused = await asyncio.gather(*asked, return_exceptions=True)
    assert {getattr(error, "reason", repr(error)) for error in refused} == {"UNKNOWN_VOICE"}
