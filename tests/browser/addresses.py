"""A mesh whose HTTP port a browser can reach, and turns to look at."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc

from tests.support.mesh import Mesh, Own, running_mesh
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceStub

GUARD_S = 30.0


@dataclass
class Served:
    """A mesh, and where its page is."""

    mesh: Mesh
    origin: str
    gateway: str = "gateway"

    @property
    def page(self) -> str:
        """Where the page is."""
        return f"{self.origin}/live"

    async def ask(self, turn_id: str, prompt: str, tenant: str = "") -> pb.TurnReport:
        """Have a prompt answered to its end."""
        parts = [common_pb2.ContentPart(text=prompt)]
        async with self._stub() as stub:
            ended = asyncio.Event()

            async def requests() -> AsyncIterator[pb.ConverseRequest]:
                yield _configure()
                yield pb.ConverseRequest(prompt=pb.Prompt(turn_id=turn_id, parts=parts))
                await ended.wait()

            report = pb.TurnReport()
            metadata = (("voicemesh-tenant", tenant),) if tenant else ()
            async with asyncio.timeout(GUARD_S):
                async for response in stub.Converse(requests(), metadata=metadata):
                    if response.WhichOneof("event") == "turn_completed":
                        report = response.turn_completed.report
                        ended.set()
            return report

    @contextlib.asynccontextmanager
    async def unfinished(self, turn_id: str) -> AsyncIterator[None]:
        """Hold a turn of one's own words open: it ends when the caller has no more to say."""
        last = asyncio.Event()

        async def requests() -> AsyncIterator[pb.ConverseRequest]:
            yield _configure()
            yield pb.ConverseRequest(text=pb.TextInput(turn_id=turn_id, text="There is more to come. "))
            await last.wait()
            yield pb.ConverseRequest(text=pb.TextInput(turn_id=turn_id, text="That was it.", last=True))

        async def read(stub: GatewayServiceStub) -> None:
            async for _ in stub.Converse(requests()):
                pass

        async with self._stub() as stub, asyncio.timeout(GUARD_S):
            reading = asyncio.create_task(read(stub))
            try:
                yield
            finally:
                last.set()
                await reading

    @contextlib.asynccontextmanager
    async def another(self) -> AsyncIterator["Served"]:
        """Run one more gateway, with a page of its own, that the test may stop and start."""
        name, port = "gateway-another", _free_port()
        shown = {"VOICEMESH_HTTP_ENABLED": "true", "VOICEMESH_HTTP_LISTEN": f"127.0.0.1:{port}"}
        self.mesh.own = {**self.mesh.own, name: Own(environment=shown)}
        await self.mesh.start(name)
        try:
            yield Served(self.mesh, f"http://localhost:{port}", name)
        finally:
            await self.mesh.processes[name].stop()

    @contextlib.asynccontextmanager
    async def _stub(self) -> AsyncIterator[GatewayServiceStub]:
        async with grpc.aio.insecure_channel(self.mesh.address(self.gateway)) as channel:
            yield GatewayServiceStub(channel)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _configure() -> pb.ConverseRequest:
    return pb.ConverseRequest(configure=pb.Configure(speech=pb.SpeechOptions(max_lead_ms=0)))


@contextlib.asynccontextmanager
async def serving(**environment: str) -> AsyncIterator[Served]:
    """Run a mesh whose page shows texts and keeps audio."""
    port = _free_port()
    shown = {
        "VOICEMESH_HTTP_LISTEN": f"127.0.0.1:{port}",
        "VOICEMESH_GATEWAY_LIVE_TEXT": "true",
        "VOICEMESH_GATEWAY_LIVE_AUDIO_BYTES": "20000000",
    }
    async with running_mesh(**{**shown, **environment}) as mesh:
        yield Served(mesh, f"http://localhost:{port}")
