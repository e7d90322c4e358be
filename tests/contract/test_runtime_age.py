"""Connections that are told to end because of their age: no call notices."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from voicemesh.chunker.v1 import chunker_pb2, chunker_pb2_grpc
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.channels import open_channel
from voicemesh.runtime.server import make_server

GUARD_S = 60.0
CONNECTIONS = 4
"""So many are seen one after another, each ended by its age."""


class Peers(chunker_pb2_grpc.ChunkerServiceServicer):
    """Notes over which connection each call came, and answers every message of it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def Chunk(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        if not self.seen or self.seen[-1] != context.peer():
            self.seen.append(context.peer())
        async for _ in request_iterator:
            yield chunker_pb2.ChunkResponse(chunk=common_pb2.Chunk(text="heard"))


async def _serve(service: Peers) -> tuple[grpc.aio.Server, int]:
    server = make_server(max_age_s=0.3)
    chunker_pb2_grpc.add_ChunkerServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


async def test_no_call_fails_by_the_age_of_its_connection_and_one_that_lasts_outlives_it() -> None:
    service = Peers()
    server, port = await _serve(service)
    calls = 0
    async with asyncio.timeout(GUARD_S), open_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = chunker_pb2_grpc.ChunkerServiceStub(channel)

        async def ask(call: Any) -> None:
            await call.write(chunker_pb2.ChunkRequest())
            assert (await call.read()).chunk.text == "heard"

        lasting = stub.Chunk()
        await ask(lasting)
        while len(service.seen) < CONNECTIONS:
            call = stub.Chunk()
            await ask(call)
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK
            calls += 1
        await ask(lasting)  # its connection was sent away long ago
        await lasting.done_writing()
        assert await lasting.code() is grpc.StatusCode.OK
    await server.stop(None)
    assert calls >= CONNECTIONS
