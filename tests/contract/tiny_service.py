"""A service of the mesh that does what it is told: for tests of what `run()` adds around any service.

The first message of a stream is `configure`; its `turn_id` is the command. The file named by
`VOICEMESH_TINY_EVENTS` gets a line for everything that the hosted object lives through.
"""

import asyncio
import pathlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

import grpc
from pydantic import Field, SecretStr

from voicemesh.chunker.v1 import chunker_pb2, chunker_pb2_grpc
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.errors import (
    InvalidFieldError,
    LlmUnavailableError,
    QueueFullError,
    SettingsError,
    TooManyTurnsError,
)
from voicemesh.runtime.server import Hosted, Runtime, run
from voicemesh.runtime.settings import ListenAddress, MetricsAddress, ServerSettings


class TinySettings(ServerSettings):
    """What the tests set."""

    tiny_listen: ListenAddress = "127.0.0.1:0"
    tiny_events: pathlib.Path
    tiny_limit: Annotated[int, Field(ge=1, le=9)] = 3
    tiny_key: SecretStr | None = None
    tiny_redis_url: str = ""
    tiny_metrics_listen: MetricsAddress = ""
    tiny_start: str = "ready"


class Tiny(Hosted, chunker_pb2_grpc.ChunkerServiceServicer):
    """Hosted and servicer in one."""

    def __init__(self, settings: TinySettings, runtime: Runtime) -> None:
        self._settings = settings
        self._runtime = runtime
        if settings.tiny_start == "refuse-settings":
            raise SettingsError("VOICEMESH_TINY_START: not in the mood")

    def _event(self, text: str) -> None:
        with self._settings.tiny_events.open("a") as events:
            events.write(f"{text}\n")

    def register(self, server: grpc.aio.Server) -> None:
        chunker_pb2_grpc.add_ChunkerServiceServicer_to_server(self, server)

    async def start(self) -> None:
        match self._settings.tiny_start:
            case "fail":
                raise LlmUnavailableError("no model to be had")
            case "crash":
                raise ZeroDivisionError("hidden detail")
            case "forever":
                try:
                    await asyncio.Event().wait()
                finally:
                    self._event("start cancelled")
        await self._runtime.readiness.set(True, "started")

    async def drain(self) -> None:
        self._event("drain")
        if self._settings.tiny_start == "bad-drain":
            raise ZeroDivisionError("hidden detail")
        if self._settings.tiny_start == "long-drain":
            await asyncio.Event().wait()

    async def close(self) -> None:
        self._event("close")

    async def Chunk(
        self, request_iterator: AsyncIterator[chunker_pb2.ChunkRequest], context: Any
    ) -> AsyncGenerator[chunker_pb2.ChunkResponse]:
        command = (await anext(request_iterator)).configure.turn_id
        session = self._runtime.sessions.open()
        try:
            match command:
                case "hold":
                    session.spawn(self._held_task(), "held")
                    yield _answer("holding")
                    # The caller's next message lets go. The end of its messages may be that of the call.
                    async for _ in request_iterator:
                        break
                    else:
                        await asyncio.Event().wait()
                    yield _answer("let go")
                case "crash":
                    raise ZeroDivisionError("hidden detail")
                case "crash-later":
                    yield _answer("first")
                    raise ZeroDivisionError("hidden detail")
                case "invalid":
                    raise InvalidFieldError("configure.turn_id", "must be at most 3 characters, is 7")
                case "full":
                    raise TooManyTurnsError("all 2 places are taken", retry_after_ms=1500)
                case "queue":
                    raise QueueFullError("the queue is full")
                case "abort":
                    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "by hand")
                case "flood":
                    while True:
                        yield _answer("x" * 10_000)
                case "fail":
                    self._runtime.fail("a limb", ZeroDivisionError("gone"))
                    await anext(request_iterator)
                    yield _answer("let go")
                case "time":
                    yield _answer(str(context.time_remaining()))
                case _:
                    yield _answer(command)
        finally:
            session.cancel()
            self._event(f"handler of {command} ended")

    async def _held_task(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self._event("held task ended")


def _answer(text: str) -> chunker_pb2.ChunkResponse:
    return chunker_pb2.ChunkResponse(chunk=common_pb2.Chunk(text=text))


if __name__ == "__main__":
    sys.exit(
        run(
            "tiny",
            "voicemesh.chunker.v1.ChunkerService",
            TinySettings,
            lambda s: s.tiny_listen,
            Tiny,
            lambda s: s.tiny_metrics_listen,
        )
    )
