"""Servers and channels of the mesh over TLS, with real certificates and real handshakes."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from tests.contract.tiny_process import SERVING
from tests.support.certificates import Authority, Pair
from voicemesh.rotating import RotatingChannel
from voicemesh.runtime import health
from voicemesh.runtime.channels import open_channel
from voicemesh.runtime.errors import InvalidFieldError
from voicemesh.runtime.health import Readiness
from voicemesh.runtime.permissions import CACHE_STATS, EXCHANGE, INVALIDATE
from voicemesh.runtime.server import make_server
from voicemesh.runtime.settings import ServerSettings
from voicemesh.runtime.tls import PeerCredentials, ProcessTls, following_context
from voicemesh.runtime.tls_files import TlsFiles
from voicemesh.runtime.tls_reload import Certificates

GUARD_S = 30.0
CODEC: Any = (StringValue.FromString, StringValue.SerializeToString)
DENIED = grpc.StatusCode.PERMISSION_DENIED


class Echo(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in stubs only
    """Answers what it is sent, as the methods of the cache are kinds of calls."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        async def whole(request: StringValue, _context: Any) -> StringValue:
            if request.value == "bad":
                raise InvalidFieldError("field", "is bad")
            return request

        async def stream(requests: Any, _context: Any) -> Any:
            async for request in requests:
                yield request

        if details.method == f"/{EXCHANGE}":
            return grpc.stream_stream_rpc_method_handler(stream, *CODEC)
        if details.method in (f"/{CACHE_STATS}", f"/{INVALIDATE}"):
            return grpc.unary_unary_rpc_method_handler(whole, *CODEC)
        return None


class Service:
    """A server of a process that is called "cache"."""

    def __init__(self, pair: Pair, authority: Authority, clients: str, listen: str) -> None:
        inside = {"tls_cert": str(pair.cert), "tls_key": str(pair.key), "tls_ca": str(authority.path)}
        self.tls = ProcessTls("cache", ServerSettings.model_validate({**inside, "tls_clients": clients}))
        self.server = make_server(interceptors=self.tls.interceptors)
        self.server.add_generic_rpc_handlers([Echo()])
        readiness = Readiness("tiny")
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(readiness), self.server)
        reflection.enable_server_reflection(("tiny",), self.server)
        self.readiness = readiness
        port = self.tls.bind(self.server, listen)
        self.address = listen if listen.startswith("unix:") else f"127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def serving(
    pair: Pair, authority: Authority, clients: str = "authorized", listen: str = "127.0.0.1:0"
) -> AsyncIterator[Service]:
    service = Service(pair, authority, clients, listen)
    await service.server.start()
    await service.readiness.set(True, "ready")
    try:
        async with asyncio.timeout(GUARD_S):
            yield service
    finally:
        await service.server.stop(None)


def held(pair: Pair | None, authority: Authority) -> Certificates:
    cert, key = (str(pair.cert), str(pair.key)) if pair is not None else ("", "")
    return Certificates("mesh", TlsFiles(cert, key, str(authority.path)))


@contextlib.asynccontextmanager
async def calling(
    address: str, pair: Pair | None, authority: Authority, name: str = ""
) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(address, credentials=PeerCredentials(held(pair, authority), name)) as channel:
        yield channel


async def asked(channel: grpc.aio.Channel, method: str = CACHE_STATS, request: str = "hello") -> str:
    call: Any = channel.unary_unary(f"/{method}", *reversed(CODEC))
    answer: StringValue = await call(StringValue(value=request), timeout=GUARD_S)
    return answer.value


class Stream:
    """A stream of words."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        begin: Any = channel.stream_stream(f"/{EXCHANGE}", *reversed(CODEC))
        self.call = begin()

    async def says(self, word: str) -> str:
        await self.call.write(StringValue(value=word))
        answer: StringValue = await self.call.read()
        return answer.value


async def failure(channel: grpc.aio.Channel, method: str = CACHE_STATS) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await asked(channel, method)
    return failed.value


@pytest.fixture(name="authority")
def _authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture(name="pair")
def _pair(authority: Authority) -> Pair:
    return authority.issue("cache")


async def test_both_sides_are_believed_by_their_authority(authority: Authority, pair: Pair) -> None:
    async with (
        serving(pair, authority) as service,
        calling(service.address, authority.issue("gateway"), authority) as channel,
    ):
        assert await asked(channel) == "hello"


async def test_over_a_socket_in_a_folder_the_name_is_localhost(
    authority: Authority, pair: Pair, socket_folder: Path
) -> None:
    async with (
        serving(pair, authority, listen=f"unix:{socket_folder}/tls") as service,
        calling(service.address, authority.issue("gateway"), authority) as channel,
    ):
        assert await asked(channel) == "hello"


async def test_who_does_not_belong_is_not_let_in(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    gateway = authority.issue("gateway")
    old = authority.issue("gateway", file="old", ends=-dt.timedelta(minutes=1))
    files = (authority.path, old.key, old.cert)
    expired = grpc.ssl_channel_credentials(*(path.read_bytes() for path in files))
    async with serving(pair, authority) as service:
        refused: dict[str, contextlib.AbstractAsyncContextManager[grpc.aio.Channel]] = {
            "plain text": open_channel(service.address),
            "no certificate": calling(service.address, None, authority),
            "another authority": calling(service.address, stranger.issue("gateway", file="s"), authority),
            "service not believed": calling(service.address, gateway, stranger),
            "another name": calling(service.address, gateway, authority, "tts.voicemesh"),
            "expired": grpc.aio.secure_channel(service.address, expired),
        }
        for why, opening in refused.items():
            async with opening as channel:
                assert (await failure(channel)).code() is grpc.StatusCode.UNAVAILABLE, why
        async with calling(service.address, gateway, authority) as channel:
            assert await asked(channel) == "hello"


async def test_a_role_calls_what_the_table_has_and_nothing_else(authority: Authority, pair: Pair) -> None:
    async with serving(pair, authority) as service:
        async with calling(service.address, authority.issue("gateway"), authority) as channel:
            assert await asked(channel) == "hello"
            error = await failure(channel, INVALIDATE)
            assert error.code() is DENIED
            assert error.details() == (
                "spiffe://cluster.local/voicemesh/gateway, localhost may not call "
                "voicemesh.cache.v1.CacheService/Invalidate: it is for operator"
            )
            stream = Stream(channel)
            assert await stream.says("one") == "one"
            stream.call.cancel()
        async with calling(service.address, authority.issue("operator"), authority) as channel:
            assert await asked(channel, INVALIDATE) == "hello"
            assert await Stream(channel).call.code() is DENIED
        with capture_logs() as logs:
            async with calling(service.address, authority.issue("chunker"), authority) as channel:
                for _ in range(2):
                    assert (await failure(channel)).code() is DENIED
        assert [each["event"] for each in logs if each["log_level"] == "warning"] == ["call refused"]
        nobody = authority.issue("nobody", uris=(), dns=())
        async with calling(service.address, nobody, authority) as channel:
            assert "names nobody" in str((await failure(channel)).details())


async def test_errors_keep_their_table_behind_the_permissions(authority: Authority, pair: Pair) -> None:
    async with (
        serving(pair, authority) as service,
        calling(service.address, authority.issue("gateway"), authority) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await asked(channel, request="bad")
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_health_is_open_and_reflection_is_for_operators(authority: Authority, pair: Pair) -> None:
    async def services(channel: grpc.aio.Channel) -> int:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call: Any = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
        return len([response async for response in call])

    async with serving(pair, authority) as service:
        async with calling(service.address, authority.issue("llm"), authority) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            assert (await check(health_pb2.HealthCheckRequest())).status == SERVING
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await services(channel)
            assert failed.value.code() is DENIED
        async with calling(service.address, authority.issue("operator"), authority) as channel:
            assert await services(channel) == 1


@pytest.mark.parametrize("clients", ["any", "off"])
async def test_the_table_can_be_left_out(authority: Authority, pair: Pair, clients: str) -> None:
    certificate = authority.issue("chunker") if clients == "any" else None
    async with (
        serving(pair, authority, clients) as service,
        calling(service.address, certificate, authority) as channel,
    ):
        assert await asked(channel, INVALIDATE) == "hello"


async def until(true: Callable[[], bool]) -> None:
    """Wait for what another task, or gRPC, does; the guard around the server ends it."""
    while not true():  # noqa: ASYNC110 - above
        await asyncio.sleep(0.005)


async def test_new_certificates_of_a_new_authority_while_a_stream_runs(
    authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    gateway = authority.issue("gateway")
    mine = held(gateway, authority)
    async with (
        serving(pair, authority) as service,
        open_channel(service.address, credentials=PeerCredentials(mine, "")) as channel,
    ):
        stream = Stream(channel)
        assert await stream.says("before") == "before"
        assert isinstance(channel, RotatingChannel)
        before = channel.version
        old = Pair(tmp_path / "old.pem", tmp_path / "old.key")
        old.cert.write_bytes(gateway.cert.read_bytes())
        old.key.write_bytes(gateway.key.read_bytes())
        new = Authority(tmp_path)
        new.issue("cache")
        new.issue("gateway")
        assert service.tls.mesh is not None
        assert await service.tls.mesh.look()
        assert await mine.look()
        await until(lambda: channel.version is not before)
        # A new call is on a new connection; the stream goes on where it was.
        assert await asked(channel, request="new") == "new"
        assert await stream.says("after") == "after"
        assert before.in_flight == 1
        await stream.call.done_writing()
        assert await stream.call.code() is grpc.StatusCode.OK
        # Its channel is closed behind it: no call can be begun on it any more.
        await until(lambda: before.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN)
        # What the old authority signed is not let in any more.
        async with calling(service.address, old, new) as stale:
            assert (await failure(stale)).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_bad_reload_leaves_both_sides_as_they_were(authority: Authority, pair: Pair) -> None:
    gateway = authority.issue("gateway")
    mine = held(gateway, authority)
    async with (
        serving(pair, authority) as service,
        open_channel(service.address, credentials=PeerCredentials(mine, "")) as channel,
    ):
        assert await asked(channel) == "hello"
        for each in (pair, gateway):
            each.key.write_bytes(b"half of a k")
        assert service.tls.mesh is not None
        assert not await service.tls.mesh.look()
        assert not await mine.look()
        async with open_channel(service.address, credentials=PeerCredentials(mine, "")) as another:
            assert await asked(another) == "hello"
        assert await asked(channel) == "hello"


async def test_what_cannot_connect_yet_does_not_replace_what_works(
    authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    gateway = authority.issue("gateway")
    files = TlsFiles(str(gateway.cert), str(gateway.key), str(authority.path))
    mine = Certificates("mesh", files)
    async with (
        serving(pair, authority) as service,
        open_channel(service.address, credentials=PeerCredentials(mine, "")) as channel,
    ):
        assert isinstance(channel, RotatingChannel)
        assert await asked(channel) == "hello"
        before = channel.version
        kept = authority.path.read_bytes()
        # The gateway's certificate comes from an authority that the service does not know yet.
        new = Authority(tmp_path, "new")
        new.issue("gateway")
        with capture_logs() as logs:
            assert await mine.look()
            await until(lambda: any("cannot connect" in each["event"] for each in logs))
        assert channel.version is before
        assert await asked(channel) == "hello"
        # Then it does.
        authority.path.write_bytes(kept + new.path.read_bytes())
        assert service.tls.mesh is not None
        assert await service.tls.mesh.look()
        await until(lambda: channel.version is not before)
        assert await asked(channel) == "hello"


async def test_who_watches_health_is_told_that_the_connection_was_replaced(
    authority: Authority, pair: Pair
) -> None:
    mine = held(authority.issue("gateway"), authority)
    async with (
        serving(pair, authority) as service,
        open_channel(service.address, credentials=PeerCredentials(mine, "")) as channel,
    ):
        watching: Any = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == SERVING
        authority.issue("gateway")
        assert await mine.look()
        assert await watching.code() is grpc.StatusCode.CANCELLED
        again: Any = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await again.read()).status == SERVING
        again.cancel()


async def test_http_follows_the_files(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("edge")
    certificates = Certificates("edge", TlsFiles(str(pair.cert), str(pair.key)))
    context = following_context(certificates, ssl.TLSVersion.TLSv1_3)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await writer.start_tls(context())
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def peer(believed: Path, *, old: bool = False) -> tuple[Any, Any, Callable[[str], Any]]:
        caller = ssl.create_default_context(cafile=str(believed))
        if old:
            caller.maximum_version = ssl.TLSVersion.TLSv1_2
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=caller, server_hostname="localhost"
        )
        return reader, writer, writer.get_extra_info

    async with (
        asyncio.timeout(GUARD_S),
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
    ):
        port = server.sockets[0].getsockname()[1]
        reader, writer, info = await peer(authority.path)
        assert info("ssl_object").version() == "TLSv1.3"
        with pytest.raises(OSError):  # noqa: PT011 - an alert, or the end of the connection
            await peer(authority.path, old=True)
        other = Authority(tmp_path, "other")
        other.issue("edge")
        assert await certificates.look()
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        with pytest.raises(ssl.SSLCertVerificationError):
            await peer(authority.path)
        new_reader, new_writer, _ = await peer(other.path)
        new_writer.write(b"new\n")
        assert await new_reader.readline() == b"new\n"
        for each in (writer, new_writer):
            each.close()
            await each.wait_closed()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_of_http_does_not_outlive_the_belief_in_its_authority(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    edge, client = authority.issue("edge"), authority.issue("client")
    believed = tmp_path / "believed.pem"
    believed.write_bytes(authority.path.read_bytes())
    certificates = Certificates("edge", TlsFiles(str(edge.cert), str(edge.key), str(believed)))
    context = following_context(certificates, ssl.TLSVersion.TLSv1_2)
    caller = ssl.create_default_context(cafile=str(authority.path))
    caller.load_cert_chain(client.cert, client.key)
    caller.maximum_version = version

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await writer.start_tls(context())
            writer.write(await reader.readline())
        writer.close()

    def said(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None]:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=GUARD_S) as plain,
            caller.wrap_socket(plain, server_hostname="localhost", session=session) as wrapped,
        ):
            wrapped.sendall(b"hello\n")
            return wrapped.recv(100), wrapped.session

    async with (
        asyncio.timeout(GUARD_S),
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
    ):
        port = server.sockets[0].getsockname()[1]
        heard, session = await asyncio.to_thread(said, None)
        assert heard == b"hello\n"
        believed.write_bytes(Authority(tmp_path, "other").path.read_bytes())
        assert await certificates.look()
        with contextlib.suppress(OSError):  # an alert, or the end of the connection
            assert (await asyncio.to_thread(said, session))[0] == b""
