"""Peers that vanish without a word, and peers that are idle and well."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

import voicemesh.client.mesh
import voicemesh.runtime.channels
from gateway.settings import GatewaySettings
from voicemesh.chunker.v1 import chunker_pb2, chunker_pb2_grpc
from voicemesh.runtime.channels import Pings
from voicemesh.runtime.server import LEAST_PING_INTERVAL_MS, make_server

GUARD_S = 30.0
PEERS = GatewaySettings()


class Waiting(chunker_pb2_grpc.ChunkerServiceServicer):
    """Answers once, and notes the end of the call."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def Chunk(
        self, request_iterator: AsyncIterator[chunker_pb2.ChunkRequest], context: Any
    ) -> AsyncIterator[chunker_pb2.ChunkResponse]:
        try:
            yield chunker_pb2.ChunkResponse()
            async for _ in request_iterator:
                pass
        finally:
            self.ended.set()


@asynccontextmanager
async def swallowing_proxy(port: int) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """Forward connections to `port`; once the event is set, take what comes and pass nothing on.

    So does a process that hangs: its machine acknowledges, it does not.
    """
    swallowing = asyncio.Event()
    pumps: set[asyncio.Task[Any]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if not swallowing.is_set():
                target.write(data)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        if (connecting := asyncio.current_task()) is not None:
            pumps.add(connecting)  # whoever comes back at the very end is not left behind, either
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(far_writer)
        for source, target in ((reader, far_writer), (far_reader, writer)):
            pumps.add(asyncio.create_task(pump(source, target)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], swallowing
    finally:
        server.close()
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()  # what nobody reads is not waited for
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def test_calls_of_a_peer_that_hangs_end() -> None:
    server, service = make_server(ping_after_ms=1000, ping_timeout_ms=200), Waiting()
    chunker_pb2_grpc.add_ChunkerServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with (
        swallowing_proxy(port) as (proxied, swallowing),
        grpc.aio.insecure_channel(f"127.0.0.1:{proxied}") as channel,
    ):
        stub: Any = chunker_pb2_grpc.ChunkerServiceStub(channel)
        call = stub.Chunk()
        await call.read()
        swallowing.set()
        await asyncio.wait_for(service.ended.wait(), GUARD_S)
        call.cancel()
    await server.stop(None)


@pytest.mark.parametrize("borne", [True, False])
async def test_a_caller_that_is_idle_and_pings_is_kept(*, borne: bool) -> None:
    server = make_server(least_ping_interval_ms=100 if borne else 60_000)
    chunker_pb2_grpc.add_ChunkerServiceServicer_to_server(Waiting(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        stub: Any = chunker_pb2_grpc.ChunkerServiceStub(channel)
        call = stub.Chunk()
        await call.read()
        ended = asyncio.ensure_future(call.code())
        # The third ping that comes too soon ends the connection: a caller that is kept has to outlive it.
        await asyncio.wait({ended}, timeout=6 if borne else GUARD_S)
        assert ended.done() is not borne
        call.cancel()
        await ended
    await server.stop(None)


@pytest.mark.parametrize(
    "options",
    [
        voicemesh.client.connecting.channel_options(voicemesh.client.mesh.LEAST_STALL_S),
        voicemesh.runtime.channels.options_of(
            Pings(PEERS.gateway_peer_ping_ms, PEERS.gateway_peer_ping_timeout_ms)
        ),
    ],
)
def test_the_meshs_own_clients_ping_no_more_often_than_its_servers_bear(options: Any) -> None:
    pings = dict(options)
    assert pings["grpc.keepalive_time_ms"] >= LEAST_PING_INTERVAL_MS * 1.2
    assert pings["grpc.http2.ping_timeout_ms"] == pings["grpc.keepalive_timeout_ms"]
