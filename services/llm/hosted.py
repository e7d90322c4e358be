"""The LLM service as `run()` hosts it."""

import asyncio
from collections.abc import Sequence
from typing import Final

import grpc

from services.llm.core.candidates import ListedProvider
from services.llm.core.figures import Figures
from services.llm.core.model import AttemptError
from services.llm.servicer import LlmServicer
from voicemesh.llm.v1 import llm_pb2_grpc
from voicemesh.runtime.errors import DeadlineError, LlmUnavailableError
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.server import Hosted, Runtime

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 15.0

_log = get_logger(__name__)


class HostedLlm(Hosted):
    """SERVING once one provider was reached and took its key; calls are tried before that, too.

    Args:
        servicer: Answers calls.
        providers: The list.
        figures: Logged at the end.
        runtime: The process.
        keep_warm_s: How long a provider may be asked nothing before a connection to it is used for nothing
            but to stay open; 0: for ever.

    """

    def __init__(
        self,
        servicer: LlmServicer,
        providers: Sequence[ListedProvider],
        figures: Figures,
        runtime: Runtime,
        *,
        keep_warm_s: float,
    ) -> None:
        self._servicer = servicer
        self._providers = providers
        self._figures = figures
        self._runtime = runtime
        self._keep_warm_s = keep_warm_s
        self._tasks: list[asyncio.Task[None]] = []

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer."""
        llm_pb2_grpc.add_LlmServiceServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Begin to look for the providers; does not wait for them."""
        told = [
            {"name": listed.name, "model": listed.provider.model, "server": _server_of(listed)}
            for listed in self._providers
        ]
        _log.info("providers", providers=told)
        for listed in self._providers:
            self._tasks.append(asyncio.create_task(self._look_after(listed), name=f"probe {listed.name}"))

    @property
    def unreachable(self) -> list[str]:
        """The names of providers that were looked for and not reached yet."""
        return [listed.name for listed in self._providers if listed.unreachable]

    async def _look_after(self, listed: ListedProvider) -> None:
        await self._reach(listed)
        # What rehearses has no connection.
        if self._keep_warm_s and listed.provider.server is not None:
            await self._keep_warm(listed)

    async def _reach(self, listed: ListedProvider) -> None:
        """Probe until it can be used."""
        pause_s = _FIRST_PAUSE_S
        told = ""
        while True:
            reason, unreachable = await _trouble(listed)
            # A refused key may yet do for questions: not every key may list models.
            listed.unreachable = reason if unreachable else ""
            if not reason:
                break
            if not self._runtime.readiness.serving:
                await self._runtime.readiness.set(False, reason)
            if reason != told:
                _log.warning(
                    "the model's provider cannot be used yet",
                    provider=listed.name,
                    reason=reason,
                    server=_server_of(listed),
                )
                told = reason
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        await self._runtime.readiness.set(True, f"{listed.name} can be used")

    async def _keep_warm(self, listed: ListedProvider) -> None:
        """Use a connection from time to time, so that no turn waits for TCP and TLS."""
        while True:
            idle_s = listed.idle_ns / 1e9
            if idle_s < self._keep_warm_s:
                await asyncio.sleep(self._keep_warm_s - idle_s)
                continue
            # A turn finds out what is wrong with it, and says so; here it costs nobody anything.
            reason, _ = await _trouble(listed)
            _log.debug("kept warm", provider=listed.name, reason=reason)
            await asyncio.sleep(self._keep_warm_s)

    async def drain(self) -> None:
        """Let go of the streams that stand by."""
        self._servicer.drain()

    async def close(self) -> None:
        """Give the providers' connections back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        _log.info("providers were asked", **self._figures.told())
        for listed in self._providers:
            await listed.provider.close()


async def _trouble(listed: ListedProvider) -> tuple[str, bool]:
    """Return why a provider cannot be used, "" where it can; and whether that is as nobody answers there."""
    try:
        await listed.provider.probe()
    except AttemptError as failure:
        return failure.error.message, isinstance(failure.error, (LlmUnavailableError, DeadlineError))
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the looking
        return f"{type(error).__name__}: {error}", False
    return "", False


def _server_of(listed: ListedProvider) -> str:
    host, port = listed.provider.server or ("", 0)
    return f"{host}:{port}" if host else ""
