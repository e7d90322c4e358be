"""Callers that say nothing, or take nothing, over real connections."""

import asyncio
import contextlib
import pathlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
import uvicorn
from google.rpc import error_details_pb2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from uvicorn.server import ServerState

from gateway.callers import Responses
from gateway.http.connections import Connections, GuardedConnection, HttpLimits
from gateway.http.edge import HttpEdge
from tests.contract.gateway_harness import GUARD_S, Gateway, Services, running_gateway
from tests.support.certificates import Authority
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.status import from_rpc_error
from voicemesh.runtime.tls import following_context
from voicemesh.runtime.tls_files import TlsFiles
from voicemesh.runtime.tls_reload import Certificates


@contextlib.asynccontextmanager
async def gateway_at(folder: pathlib.Path, **limits: Any) -> AsyncIterator[Gateway]:
    async with asyncio.timeout(GUARD_S), running_gateway(str(folder), Services(), **limits) as gateway:
        await gateway.serving()
        yield gateway


async def until(reached: Callable[[], bool]) -> None:
    """Wait for what sets no event; the guard of the gateway ends it."""
    while not reached():  # noqa: ASYNC110 - as said
        await asyncio.sleep(0.005)


async def test_a_stream_without_configure_ends_with_a_reason(socket_folder: pathlib.Path) -> None:
    async with gateway_at(socket_folder) as gateway:
        converse: Any = gateway.stub.Converse
        call = converse()
        await until(lambda: len(gateway.streams) == 1)
        gateway.services.clock.jump(31)
        gateway.streams.look()
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "no `configure` came within 30 s" in await call.details()
        assert len(gateway.streams) == 0


async def test_who_reads_nothing_loses_the_call_and_its_place(socket_folder: pathlib.Path) -> None:
    async with gateway_at(socket_folder, gateway_max_lead_ms=0, gateway_max_text_chars=1_000_000) as gateway:
        # Its turns are told with their texts: more than what a connection takes unread.
        text = "word " * 100_000
        converse: Any = gateway.stub.Converse
        call = converse()
        await call.write(pb.ConverseRequest(configure=pb.Configure()))
        for _ in range(8):
            await call.write(pb.ConverseRequest(text=pb.TextInput(text=text, last=True)))

        def carried() -> list[Responses]:
            return [stream.responses for stream in gateway.streams._open if stream.responses is not None]

        def stuck() -> bool:
            return any(responses.writing for responses in carried())

        seen = -1
        while not stuck() or seen != (taken := sum(responses.taken for responses in carried())):
            seen = sum(responses.taken for responses in carried())
            await asyncio.sleep(0.1)
        assert taken
        gateway.streams.look()
        gateway.services.clock.jump(61)
        gateway.streams.look()
        await until(lambda: not len(gateway.streams) and not len(gateway.turns))
        call.cancel()


async def test_a_callers_streams_are_so_many(socket_folder: pathlib.Path) -> None:
    async with gateway_at(socket_folder, gateway_max_caller_streams=2) as gateway:
        converse: Any = gateway.stub.Converse
        calls = [converse() for _ in range(2)]
        await until(lambda: len(gateway.streams) == 2)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in gateway.stub.Speak(pb.SpeakRequest(text="Hello.")):
                pass
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()
        await until(lambda: not len(gateway.streams))
        async for _ in gateway.stub.Speak(pb.SpeakRequest(text="Hello.")):
            pass


async def test_who_opens_streams_and_drops_them_is_refused_before_anything_is_done(
    socket_folder: pathlib.Path,
) -> None:
    async with gateway_at(socket_folder, gateway_caller_streams_per_s=0.2) as gateway:
        converse: Any = gateway.stub.Converse
        for _ in range(2):
            dropped = converse()
            await until(lambda: len(gateway.streams) == 1)
            dropped.cancel()
            await until(lambda: not len(gateway.streams))
        refused = converse()
        await refused.write(pb.ConverseRequest(configure=pb.Configure()))
        for call in (refused, gateway.stub.Speak(pb.SpeakRequest(text="Hello."))):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                async for _ in call:
                    pass
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            error = from_rpc_error(raised.value, "gateway")
            assert error.reason == "TOO_MANY_CALLS"
            info = error_details_pb2.ErrorInfo()
            assert any(detail.Unpack(info) for detail in error.status.details)
            assert info.metadata["limit"] == "streams_per_s"
            assert error.retry_after_ms
            assert 1000 <= error.retry_after_ms <= 5000
        gateway.services.clock.jump(5)
        async for _ in gateway.stub.Speak(pb.SpeakRequest(text="Hello.")):
            pass


# ---------------------------------------------------------------- HTTP


@contextlib.asynccontextmanager
async def edge_at(
    folder: pathlib.Path, limits: HttpLimits, tls: Callable[[], ssl.SSLContext] | None = None
) -> AsyncIterator[tuple[HttpEdge, int]]:
    async with gateway_at(folder) as gateway:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        edge = HttpEdge(
            gateway.turns,
            gateway.sessions,
            gateway.readiness,
            f"127.0.0.1:{port}",
            lambda *_: None,
            limits=limits,
            tls=tls,
        )
        edge.start()
        try:
            yield edge, port
        finally:
            await edge.close()


def answers(edge: HttpEdge) -> bool:
    """Say whether a request, or the head of one, is being answered."""
    return any(getattr(each, "cycle", None) is not None for each in edge._server.server_state.connections)


async def closed(reader: asyncio.StreamReader) -> bytes:
    """Return what comes before the end of a connection, however it ends."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


REQUESTS = {
    "nothing": b"",
    "half a line": b"GET /heal",
    "half a header": b"GET /healthz HTTP/1.1\r\nHost: local",
    "half a body": b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{",
}
_ASK = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_a_request_that_does_not_arrive_is_cut_off(
    socket_folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with edge_at(socket_folder, HttpLimits(request_s=0.2)) as (edge, port):
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in REQUESTS]
        for (_, writer), sent in zip(pairs, REQUESTS.values(), strict=True):
            writer.write(sent)
        assert [await closed(reader) for reader, _ in pairs] == [b""] * len(REQUESTS)
        for _, writer in pairs:
            writer.close()
        assert edge._connections.cut == {"slow requests": len(REQUESTS)}
        assert edge._connections.total == 0
        assert not edge._connections.by_address
    assert f"slow_requests={len(REQUESTS)}" in capsys.readouterr().out


async def test_a_connection_that_asks_again_is_kept(socket_folder: pathlib.Path) -> None:
    async with edge_at(socket_folder, HttpLimits(request_s=GUARD_S)) as (edge, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(_ASK)
            assert (await reader.readline()).startswith(b"HTTP/1.1 ")
            await reader.readuntil(b"}")
            (connection,) = edge._server.server_state.connections
            assert getattr(connection, "_arrival") is None  # noqa: B009 - of our subclass
        writer.close()


async def test_connections_are_so_many_in_all_and_of_one_address(socket_folder: pathlib.Path) -> None:
    for limits in (HttpLimits(connections=2), HttpLimits(address_connections=2)):
        async with edge_at(socket_folder, limits) as (edge, port):
            kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            await until(lambda: edge._connections.total == 2)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await closed(reader) == b""
            writer.close()
            kept[0][1].write(_ASK)
            assert (await kept[0][0].readline()).startswith(b"HTTP/1.1 ")
            kept.pop()[1].close()
            await until(lambda: edge._connections.total < 2)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_ASK)
            assert (await reader.readline()).startswith(b"HTTP/1.1 ")
            for _, other in (*kept, (reader, writer)):
                other.close()


@pytest.fixture(name="authority")
def _authority(tmp_path: pathlib.Path) -> Authority:
    return Authority(tmp_path)


def spoken_by(authority: Authority) -> Callable[[], ssl.SSLContext]:
    pair = authority.issue("edge")
    return following_context(
        Certificates("edge", TlsFiles(str(pair.cert), str(pair.key))), ssl.TLSVersion.TLSv1_2
    )


async def test_a_handshake_takes_a_place_and_is_cut_off_as_a_request_is(
    socket_folder: pathlib.Path, authority: Authority
) -> None:
    tls = spoken_by(authority)
    async with edge_at(socket_folder, HttpLimits(connections=2), tls) as (edge, port):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await until(lambda: edge._connections.total == 2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await closed(reader) == b""
        # Ends with the edge, as those do that say nothing.
        for _, other in (*silent, (reader, writer)):
            other.close()
    async with edge_at(socket_folder, HttpLimits(request_s=0.2), tls) as (edge, port):
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        pairs[1][1].write(b"\x16\x03\x01")  # a hello has begun
        assert [await closed(reader) for reader, _ in pairs] == [b""] * 2
        assert edge._connections.cut == {"slow requests": 2}
        assert edge._connections.total == 0
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"no TLS at all\r\n\r\n")
        await closed(reader)
        await until(lambda: edge._connections.total == 0)
        for _, other in (*pairs, (reader, writer)):
            other.close()


async def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(
    socket_folder: pathlib.Path, authority: Authority
) -> None:
    tls = spoken_by(authority)
    async with edge_at(socket_folder, HttpLimits(request_s=GUARD_S), tls) as (edge, port):
        caller = ssl.create_default_context(cafile=str(authority.path))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        spoken = caller.wrap_bio(incoming, outgoing, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            try:
                spoken.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65_536))
        spoken.write(_ASK)
        writer.write(outgoing.read())  # the last part of the handshake, and the request
        answer = b""
        while b"}" not in answer:
            try:
                answer += spoken.read(65_536)
            except ssl.SSLWantReadError:
                incoming.write(await reader.read(65_536))
        assert answer.startswith(b"HTTP/1.1 ")
        (connection,) = edge._server.server_state.connections
        assert getattr(connection, "scheme") == "https"  # noqa: B009 - of uvicorn's protocol
        writer.close()
        await until(lambda: edge._connections.total == 0)


async def test_a_handshake_that_would_end_during_the_drain_does_not_hold_it_up(
    socket_folder: pathlib.Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.connections._LATE_S", 3600)
    caller = ssl.create_default_context(cafile=str(authority.path))
    async with edge_at(socket_folder, HttpLimits(request_s=3600), spoken_by(authority)) as (edge, port):
        # One that is answered during the drain, so that it lasts.
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=caller, server_hostname="localhost"
        )
        writer.write(REQUESTS["half a body"])
        await until(lambda: answers(edge))
        late, late_writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: edge._connections.total == 2)
        draining = asyncio.ensure_future(edge.drain())
        await until(lambda: edge._socket.fileno() == -1)
        with contextlib.suppress(OSError):
            await late_writer.start_tls(caller, server_hostname="localhost")
        writer.write(b" " * 49)
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        await draining
        assert edge._connections.total == 0
        assert await closed(late) == b""
        for each in (writer, late_writer):
            each.close()


async def test_the_drain_does_not_wait_long_for_what_does_not_arrive(
    socket_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.connections._LATE_S", 0.05)
    async with edge_at(socket_folder, HttpLimits(request_s=3600)) as (edge, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUESTS["half a body"])
        await until(lambda: answers(edge))
        await edge.drain()
        assert await closed(reader) == b""
        assert edge._connections.cut == {"slow requests": 1}
        writer.close()


async def test_a_reader_that_stops_to_read_over_http_is_cut_off() -> None:
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                await asyncio.sleep(0)
                yield b"audio" * 10_000
        finally:
            ended.set()

    async def answer(_request: Request) -> Response:
        return StreamingResponse(endless())

    connections = Connections(HttpLimits(reader_s=0.2))
    app = Starlette(routes=[Route("/", answer)])
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
    config.load()

    def made() -> GuardedConnection:
        return GuardedConnection(config, ServerState(), {}, connections=connections)

    async with (
        asyncio.timeout(GUARD_S),
        await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0) as server,
    ):
        with socket.create_connection(server.sockets[0].getsockname()) as caller:
            caller.sendall(_ASK.replace(b"/healthz", b"/"))
            await ended.wait()
            assert connections.cut == {"slow readers": 1}
            assert connections.total == 0
        connections.tell()
