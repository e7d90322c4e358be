"""What the client says where the two sides do not agree about TLS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from tests.support.certificates import Authority
from voicemesh.client import Tls, VoiceMesh, VoiceMeshError

GUARD_S = 30.0


@contextlib.asynccontextmanager
async def listening(
    credentials: grpc.ServerCredentials | None, *, unix: Path | None = None
) -> AsyncIterator[str]:
    """Run a server that has no service: it is connected to, and no more."""
    server = grpc.aio.server()
    address = f"unix:{unix}/s" if unix is not None else "127.0.0.1:0"
    bound = (
        server.add_insecure_port(address)
        if credentials is None
        else server.add_secure_port(address, credentials)
    )
    await server.start()
    try:
        async with asyncio.timeout(GUARD_S):
            yield address if unix is not None else f"127.0.0.1:{bound}"
    finally:
        await server.stop(None)


def shown(authority: Authority, *, asks: bool = False) -> grpc.ServerCredentials:
    pair = authority.issue("edge", uris=())
    believed = authority.path.read_bytes() if asks else None
    return grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.cert.read_bytes())], believed, require_client_auth=asks
    )


async def said(address: str, tls: Tls | None) -> str:
    async with VoiceMesh(address, tls=tls) as mesh:
        with pytest.raises(VoiceMeshError) as failed:
            await mesh.connect(1.0)
    assert not failed.value.reached
    assert failed.value.message.startswith(f"cannot reach the mesh at {address}")
    assert failed.value.tls is (": " in failed.value.message)
    assert (failed.value.retry_after_ms is None) is failed.value.tls
    return failed.value.message.removeprefix(f"cannot reach the mesh at {address}").removeprefix(": ")


async def test_one_speaks_tls_and_the_other_does_not(tmp_path: Path, socket_folder: Path) -> None:
    authority = Authority(tmp_path)
    for unix in (None, socket_folder):
        async with listening(shown(authority), unix=unix) as address:
            assert await said(address, None) == "it speaks TLS, and the caller does not"
        async with listening(None, unix=unix) as address:
            assert (
                await said(address, Tls(ca=str(authority.path))) == "it speaks plain text, and the caller TLS"
            )
    async with listening(shown(authority, asks=True)) as address:
        assert await said(address, None) == "it speaks TLS, and the caller does not"


async def test_a_certificate_is_not_believed(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    async with listening(shown(authority)) as address:
        assert (await said(address, Tls(ca=str(other.path)))).startswith("its certificate is not believed: ")
        wrong = Tls(ca=str(authority.path), server_name="voice.example.org")
        assert "voice.example.org" in await said(address, wrong)


async def test_a_callers_certificate_is_asked_for(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    stranger = other.issue("operator")
    async with listening(shown(authority, asks=True)) as address:
        none = await said(address, Tls(ca=str(authority.path)))
        assert none == "it asks callers for a certificate, and none was shown"
        known = Tls(ca=str(authority.path), cert=str(stranger.cert), key=str(stranger.key))
        assert await said(address, known) == "it does not believe the caller's certificate"
        mine = authority.issue("operator", file="mine")
        async with VoiceMesh(
            address, tls=Tls(ca=str(authority.path), cert=str(mine.cert), key=str(mine.key))
        ) as mesh:
            await mesh.connect()


async def test_nobody_is_there(tmp_path: Path, unused_tcp_port: int) -> None:
    authority = Authority(tmp_path)
    assert await said(f"127.0.0.1:{unused_tcp_port}", None) == ""
    assert await said(f"127.0.0.1:{unused_tcp_port}", Tls(ca=str(authority.path))) == ""


async def test_calls_without_connect_say_why_too(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")

    async def spoken(mesh: VoiceMesh) -> None:
        await mesh.say("Hello.").collect()

    async def asked(mesh: VoiceMesh) -> None:
        await mesh.ask("Hello?").collect()

    async def batched(mesh: VoiceMesh) -> None:
        await anext(mesh.speak_batch(["Hello."]))

    async def warmed(mesh: VoiceMesh) -> None:
        await anext(mesh.warm(["Hello."]))

    async def listed(mesh: VoiceMesh) -> None:
        await anext(aiter(mesh.turns()))

    async def unary(mesh: VoiceMesh) -> None:
        await mesh.voices()

    async def why(address: str, tls: Tls | None, call: Callable[[VoiceMesh], Awaitable[None]]) -> str:
        async with VoiceMesh(address, tls=tls) as mesh:
            with pytest.raises(VoiceMeshError) as failed:
                await call(mesh)
        assert not failed.value.reached
        return failed.value.message.removeprefix(f"cannot reach the mesh at {address}").removeprefix(": ")

    async with listening(shown(authority)) as address:
        for call in (spoken, asked, batched, warmed, listed, unary):
            assert await why(address, None, call) == "it speaks TLS, and the caller does not"
            unknown = await why(address, Tls(ca=str(other.path)), call)
            assert unknown.startswith("its certificate is not believed")
    async with listening(None) as address:
        for call in (spoken, asked, batched, warmed, listed, unary):
            plain = await why(address, Tls(ca=str(authority.path)), call)
            assert plain == "it speaks plain text, and the caller TLS"


async def test_tls_or_credentials() -> None:
    with pytest.raises(ValueError, match="tls, credentials: give one of them"):
        VoiceMesh(tls=Tls(), credentials=grpc.ssl_channel_credentials())
