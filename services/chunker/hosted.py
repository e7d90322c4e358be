"""The chunker as `voicemesh.runtime.server.run` hosts it."""

import grpc

from services.chunker.servicer import ChunkerServicer
from voicemesh.chunker.v1 import chunker_pb2_grpc
from voicemesh.runtime.server import Hosted, Runtime


class HostedChunker(Hosted):
    """Ready as soon as it is bound: it depends on nothing."""

    def __init__(self, servicer: ChunkerServicer, runtime: Runtime) -> None:
        self._servicer = servicer
        self._runtime = runtime

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer to `server`."""
        chunker_pb2_grpc.add_ChunkerServiceServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Say that it can work."""
        await self._runtime.readiness.set(True, "ready")

    async def close(self) -> None:
        """Nothing was begun."""
