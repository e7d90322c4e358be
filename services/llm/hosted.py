"""The LLM service as `run()` hosts it."""

import asyncio
import contextlib
from typing import Final

import grpc

from services.llm.core.model import AttemptError, Provider
from services.llm.servicer import LlmServicer
from voicemesh.llm.v1 import llm_pb2_grpc
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.server import Hosted, Runtime

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 15.0

_log = get_logger(__name__)


class HostedLlm(Hosted):
    """SERVING once the provider was reached and took the key; calls are tried before that, too."""

    def __init__(self, servicer: LlmServicer, provider: Provider, runtime: Runtime) -> None:
        self._servicer = servicer
        self._provider = provider
        self._runtime = runtime
        self._probing: asyncio.Task[None] | None = None

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer."""
        llm_pb2_grpc.add_LlmServiceServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Begin to look for the provider; does not wait for it."""
        self._probing = asyncio.create_task(self._probe(), name="probe")

    async def _probe(self) -> None:
        pause_s = _FIRST_PAUSE_S
        told = ""
        while True:
            try:
                await self._provider.probe()
                await self._runtime.readiness.set(True, f"{self._provider.name} can be used")
                return
            except AttemptError as failure:
                reason = failure.error.message
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the looking
                reason = f"{type(error).__name__}: {error}"
            await self._runtime.readiness.set(False, reason)
            if reason != told:
                host, port = self._provider.server or ("", 0)
                _log.warning(
                    "the model's provider cannot be used yet", reason=reason, server=f"{host}:{port}"
                )
                told = reason
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def drain(self) -> None:
        """Let go of the streams that stand by."""
        self._servicer.drain()

    async def close(self) -> None:
        """Give the provider's connections back."""
        if self._probing is not None:
            self._probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probing
        await self._provider.close()
