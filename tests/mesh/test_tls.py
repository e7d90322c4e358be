"""A mesh that speaks mutual TLS inside, and TLS at its edge."""

import asyncio
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.certificates import Authority
from tests.support.mesh import SERVICES, Mesh, Own, running_mesh_with
from voicemesh.client import SpeechOptions, Tls, Turn, VoiceMesh, VoiceMeshError
from voicemesh.tts.v1 import tts_pb2, tts_pb2_grpc

pytestmark = pytest.mark.asyncio(loop_scope="module")
GUARD_S = 60.0


@dataclass(frozen=True)
class Guarded:
    """A mesh with certificates, and who signs them."""

    mesh: Mesh
    inside: Authority
    edge: Authority

    def client(self, tls: Tls | None) -> VoiceMesh:
        return VoiceMesh(self.mesh.address("gateway"), tls=tls)

    @property
    def caller(self) -> Tls:
        return Tls(ca=str(self.edge.path))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded() -> AsyncIterator[Guarded]:
    folder = Path(tempfile.mkdtemp(prefix="vm-tls-"))
    inside, edge = Authority(folder), Authority(folder, "edge-ca")
    pairs = {name: inside.issue(name, dns=(f"{name}.voicemesh", "localhost")) for name in SERVICES}
    operator, outside = inside.issue("operator"), edge.issue("edge")
    own = {
        name: Own(
            environment={"VOICEMESH_TLS_CERT": str(pair.cert), "VOICEMESH_TLS_KEY": str(pair.key)},
        )
        for name, pair in pairs.items()
    }
    environment = {
        "VOICEMESH_TLS_CA": str(inside.path),
        "VOICEMESH_TLS_SERVER_NAME": "{service}.voicemesh",
        "VOICEMESH_TLS_RELOAD_S": "0.1",
        "VOICEMESH_GATEWAY_TLS_CERT": str(outside.cert),
        "VOICEMESH_GATEWAY_TLS_KEY": str(outside.key),
    }
    person = Tls(ca=str(inside.path), cert=str(operator.cert), key=str(operator.key))
    tls = {**dict.fromkeys(SERVICES, person), "gateway": Tls(ca=str(edge.path))}
    try:
        async with running_mesh_with(environment, own=own, tls=tls) as mesh:
            yield Guarded(mesh, inside, edge)
    finally:
        shutil.rmtree(folder)


async def test_a_turn_is_spoken_over_tls(guarded: Guarded) -> None:
    async with asyncio.timeout(GUARD_S), guarded.client(guarded.caller) as client:
        heard = await client.ask("What is a lighthouse for?").collect()
    assert heard.report.outcome == "completed"
    assert heard.report.audio_ms > 0
    assert not heard.report.degraded


async def test_a_caller_in_plain_text_is_told_what_is_wrong(guarded: Guarded) -> None:
    async with asyncio.timeout(GUARD_S), guarded.client(None) as client:
        with pytest.raises(VoiceMeshError) as failed:
            await client.connect()
    assert failed.value.tls
    assert failed.value.message.endswith(": it speaks TLS, and the caller does not")


async def test_a_caller_who_believes_another_authority_is_told(guarded: Guarded) -> None:
    async with asyncio.timeout(GUARD_S), guarded.client(Tls(ca=str(guarded.inside.path))) as client:
        with pytest.raises(VoiceMeshError) as failed:
            await client.connect()
        assert ": its certificate is not believed: " in failed.value.message
        with pytest.raises(VoiceMeshError) as failed:
            await client.voices()
        assert failed.value.message.endswith(": its certificate is not believed")


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "gateway"])
async def test_no_service_is_reached_without_a_certificate(guarded: Guarded, service: str) -> None:
    address = guarded.mesh.address(service)
    bare = Tls(ca=str(guarded.inside.path))
    for opened in (
        grpc.aio.insecure_channel(address),
        grpc.aio.secure_channel(address, bare.credentials(), options=bare.options(address)),
    ):
        async with opened as channel:
            check: Any = health_pb2_grpc.HealthStub(channel).Check
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await check(health_pb2.HealthCheckRequest(), timeout=GUARD_S)
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_operator_looks_at_the_pools_and_speaks_to_nobody(guarded: Guarded) -> None:
    async with guarded.mesh.channel("tts") as channel:
        stub: Any = tts_pb2_grpc.TtsServiceStub(channel)
        assert (await stub.GetPoolStats(tts_pb2.GetPoolStatsRequest(), timeout=GUARD_S)).pools
        call = stub.Synthesize(timeout=GUARD_S)
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "voicemesh/operator" in await call.details()


async def test_http_is_spoken_over_tls(guarded: Guarded) -> None:
    path = guarded.mesh.address("http").removeprefix("unix:")
    context = ssl.create_default_context(cafile=str(guarded.edge.path))
    reader, writer = await asyncio.open_unix_connection(path, ssl=context, server_hostname="localhost")
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    async with asyncio.timeout(GUARD_S):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_every_certificate_is_replaced_while_turns_go_on(guarded: Guarded) -> None:
    """Authority and certificates, in the three steps of docs/tls.md; the last test, as it leaves them so."""
    mesh, inside = guarded.mesh, guarded.inside
    new = Authority(inside.folder, "new-ca")

    async def spoken(turn: Turn) -> None:
        report = (await turn.collect()).report
        assert (report.outcome, report.degraded) == ("completed", ())

    async def words(change: Callable[[], None], times: int) -> AsyncIterator[str]:
        """Begin, have certificates changed in the middle, go on."""
        yield "One and two, "
        change()
        await _reloaded(mesh, times)
        yield "three and four."

    def issue() -> None:
        for name in SERVICES:
            new.issue(name, dns=(f"{name}.voicemesh", "localhost"))

    def forget() -> None:
        inside.path.write_bytes(new.path.read_bytes())

    def add() -> None:
        inside.path.write_bytes(inside.path.read_bytes() + new.path.read_bytes())

    async with (
        asyncio.timeout(GUARD_S),
        guarded.client(guarded.caller) as client,
        client.converse(reply_cache=False, speech=SpeechOptions(max_lead_ms=0)) as conversation,
    ):
        for times, change in enumerate((add, issue, forget), 1):
            await spoken(await conversation.say(words(change, times)))
        await spoken(await conversation.ask("Who keeps a lighthouse?"))
    # The connections were replaced, and the gateway served all the time.
    assert not [
        line for line in mesh.processes["gateway"].logs if line["event"] in ("not serving", "peer lost")
    ]


async def _reloaded(mesh: Mesh, times: int) -> None:
    """Wait until every process has taken other certificates of the mesh's inside so many times."""
    for process in (mesh.processes[name] for name in SERVICES):
        while sum(line["event"] == "certificates reloaded" for line in process.logs) < times:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
