"""A status that meets a message which its caller is about to send is seen by the caller all the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from gateway.links import Link
from voicemesh.call_end import CallEnd
from voicemesh.client import VoiceMesh, VoiceMeshError
from voicemesh.runtime.channels import open_channel
from voicemesh.runtime.errors import TooManyTurnsError
from voicemesh.runtime.sessions import SessionRegistry
from voicemesh.runtime.status import RemoteError, to_status
from voicemesh.runtime.telemetry import Telemetry

CALLS = 40
"""Of as many, grpc.aio replaces the status of about thirty."""
GUARD_S = 60.0
SERVICE, METHOD = "voicemesh.gateway.v1.GatewayService", "Converse"
FULL = TooManyTurnsError("no more turns", retry_after_ms=70)


async def refuse(_: Any, context: Any) -> None:
    await context.abort_with_status(rpc_status.to_status(to_status(FULL)))


async def finish(_: Any, context: Any) -> None:
    """End the call with OK."""


@asynccontextmanager
async def serving(address: str, behaviour: Any) -> AsyncIterator[grpc.aio.Channel]:
    handler = grpc.stream_stream_rpc_method_handler(behaviour)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    server.add_insecure_port(address)
    await server.start()
    try:
        async with asyncio.timeout(GUARD_S), open_channel(address) as channel:
            yield channel
    finally:
        await server.stop(None)


async def words() -> AsyncIterator[str]:
    while True:
        await asyncio.sleep(0)
        yield "word "


async def write_on(call: Any) -> None:
    while True:
        await call.write(b"message")


async def read_on(call: Any, responses: list[bytes]) -> None:
    async for response in call:
        responses.append(response)  # noqa: PERF401 - it raises behind the last


@pytest.mark.parametrize("behaviour", [refuse, finish])
async def test_a_link_sees_the_status_that_the_service_gave(socket_folder: Any, behaviour: Any) -> None:
    ends: list[RemoteError | None] = []

    async def take(_: object) -> None:
        raise AssertionError

    async with serving(f"unix:{socket_folder}/s", behaviour) as channel:
        make: Any = channel.stream_stream  # the stubs ask for serialisers
        open_call = make(f"/{SERVICE}/{METHOD}")
        for _ in range(CALLS):
            link: Link[bytes, bytes] = Link("llm", METHOD, open_call, Telemetry("test"), None, None)
            link.listen(take, ends.append)
            session = SessionRegistry().open()
            link.start(session, "reading")
            assert link.reader is not None
            while not link.reader.done():
                await asyncio.sleep(0)
                link.send(b"message")
                await link.room()
    assert len(ends) == CALLS
    told = {(error.reason, error.message, error.retry_after_ms) if error else None for error in ends}
    assert told == {(FULL.reason, FULL.message, FULL.retry_after_ms) if behaviour is refuse else None}


async def test_a_conversation_sees_the_status_that_the_gateway_gave(socket_folder: Any) -> None:
    address = f"unix:{socket_folder}/s"
    async with serving(address, refuse), VoiceMesh(address) as client:
        for _ in range(CALLS):
            async with client.converse() as conversation:
                with pytest.raises(VoiceMeshError) as failed:
                    await (await conversation.say(words())).collect()
            assert (failed.value.code, failed.value.reason) == ("RESOURCE_EXHAUSTED", FULL.reason)
            assert failed.value.retry_after_ms == FULL.retry_after_ms


async def test_what_nothing_stands_behind_is_kept(socket_folder: Any) -> None:
    async with serving(f"unix:{socket_folder}/s", refuse) as channel:
        make: Any = channel.stream_stream
        call = make("/no/such")()
        end = CallEnd(call)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            async for _ in call:
                pass
        assert await end.why(failed.value) is failed.value
        assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_status_behind_responses_that_lie_unread_is_seen(socket_folder: Any) -> None:
    async def speak(_: Any, context: Any) -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"response"
        await refuse(_, context)

    async with serving(f"unix:{socket_folder}/s", speak) as channel:
        make: Any = channel.stream_stream
        call = make(f"/{SERVICE}/{METHOD}")()
        end = CallEnd(call)
        with pytest.raises(grpc.aio.AioRpcError) as unwritten:
            await write_on(call)
        assert await call.code() is grpc.StatusCode.INTERNAL
        responses: list[bytes] = []
        with pytest.raises(grpc.aio.AioRpcError):
            await read_on(call, responses)
        why = await end.why(unwritten.value)
    assert len(responses) == 5
    assert why is not None
    assert why.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
