"""Health alone, on a port of its own and in plain text.

kubelet's probes by gRPC know no TLS, and a probe that runs a command in the container starts an interpreter
each time. So a process can tell its health, and nothing else, beside the port that callers use: the same
answers, from the same event loop, whatever that port asks its callers for.
"""

from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2_grpc

from voicemesh.runtime.health import HealthServicer, Readiness

_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.so_reuseport", 0),
    # A question has the name of a service in it, and nothing else.
    ("grpc.max_receive_message_length", 4096),
    # Whoever reaches the port may ask; nobody may keep its places from who looks after the process. A probe
    # connects, asks once and goes.
    ("grpc.max_allowed_incoming_connections", 256),
    ("grpc.max_concurrent_streams", 16),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_idle_ms", 10_000),
    ("grpc.max_connection_age_ms", 60_000),
    ("grpc.max_connection_age_grace_ms", 5_000),
)


class HealthPort:
    """Tells what a `Readiness` holds, from `start` to `stop`.

    Args:
        readiness: The process's.
        listen: `HOST:PORT` or `unix:PATH`.

    Attributes:
        port: The one that was taken, for port 0.

    Raises RuntimeError where the address cannot be bound.

    """

    def __init__(self, readiness: Readiness, listen: str) -> None:
        self._server = grpc.aio.server(options=_OPTIONS)
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(readiness), self._server)
        self.port = self._server.add_insecure_port(listen)

    async def start(self) -> None:
        """Answer from now on."""
        await self._server.start()

    async def stop(self) -> None:
        """Answer no more. Call it last: whoever asks is to be told of the drain up to its end."""
        await self._server.stop(None)
