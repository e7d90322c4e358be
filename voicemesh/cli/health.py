"""Asks a process whether it is SERVING (grpc.health.v1), without the health package of gRPC."""

import asyncio
from typing import Any, Final, Self

import grpc

from voicemesh.cli.connection import open_channel
from voicemesh.cli.restarts import Answer
from voicemesh.tls import Tls

_CHECK: Final = "/grpc.health.v1.Health/Check"
_STATES: Final = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_http_proxy", 0),
)
UNREACHABLE: Final = "UNREACHABLE"
SERVING: Final = "SERVING"


class HealthClient:
    """A connection to one process, over `tls` where one is given. Use it with `async with`."""

    def __init__(self, address: str, tls: Tls | None = None) -> None:
        self._channel = open_channel(address, _OPTIONS, over=tls)
        # Requests and responses of two bytes need no generated code.
        self._check: Any = self._channel.unary_unary(
            _CHECK, request_serializer=bytes, response_deserializer=bytes
        )

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        await self._channel.close(None)

    async def state(self, timeout_s: float = 1.0) -> str:
        """Return "SERVING", "NOT_SERVING", "UNKNOWN", "SERVICE_UNKNOWN" or "UNREACHABLE"."""
        try:
            return await self._ask(timeout_s)
        except grpc.aio.AioRpcError:
            return UNREACHABLE

    async def answer(self, timeout_s: float) -> Answer:
        """Ask once, for whoever keeps the process: one that is silent is told from one that is closed."""
        try:
            state = await self._ask(timeout_s)
        except grpc.aio.AioRpcError as error:
            silent = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            return Answer.SILENT if silent else Answer.CLOSED
        return Answer.SERVING if state == SERVING else Answer.WAITING

    async def _ask(self, timeout_s: float) -> str:
        answer: bytes = await self._check(b"", timeout=timeout_s)
        # HealthCheckResponse: field 1, a varint; its zero is not sent.
        number = answer[1] if len(answer) == 2 and answer[0] == 0x08 else 0
        return _STATES.get(number, "UNKNOWN")

    async def wait_serving(self) -> None:
        """Return once the process is SERVING. Waits for ever: put a time limit around it."""
        pause_s = 0.02
        while await self.state() != SERVING:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.2)
