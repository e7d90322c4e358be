"""A process of `tiny_service`, and calls to it."""

import asyncio
import contextlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any, Final, Self

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from voicemesh.chunker.v1 import chunker_pb2, chunker_pb2_grpc
from voicemesh.runtime.channels import open_channel

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAME = "voicemesh.chunker.v1.ChunkerService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EOF: Final[Any] = vars(grpc.aio)["EOF"]  # the stubs lack it
HANG_S: Final = 30.0
"""A test that waits this long for anything fails."""

Call = Any


class Tiny:
    """A process of `tiny_service`."""

    def __init__(self, folder: pathlib.Path, **variables: str) -> None:
        self.address = variables.setdefault("VOICEMESH_TINY_LISTEN", f"unix:{folder}/tiny.sock")
        self._events = folder / "events"
        self._log = folder / "log"
        self._events.touch()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.contract.tiny_service"],
                cwd=ROOT,
                env={**os.environ, "VOICEMESH_TINY_EVENTS": str(self._events), **variables},
                stdin=subprocess.PIPE,
                stderr=log,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def exit_status(self) -> int:
        """Wait for the end of the process."""
        return await asyncio.to_thread(self.process.wait, HANG_S)

    def text(self) -> str:
        """Return what was written to standard error."""
        return self._log.read_text()

    def logged(self) -> list[dict[str, Any]]:
        """Return the lines that are JSON, which all are but those for people."""
        return [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]

    def events(self) -> list[str]:
        """Return what the hosted object lived through."""
        return self._events.read_text().splitlines()

    async def event(self, text: str, times: int = 1) -> None:
        """Wait until something has happened so many times."""
        async with asyncio.timeout(HANG_S):
            while self.events().count(text) < times:  # noqa: ASYNC110 - what is waited for is in another process
                await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """Open a channel to it."""
        async with open_channel(self.address) as channel:
            yield channel


async def serving(channel: grpc.aio.Channel) -> None:
    """Wait until the service says that it works."""
    watching = watch(channel)
    async with asyncio.timeout(HANG_S):
        while (await watching.read()).status != SERVING:
            pass
    await end(watching)


def watch(channel: grpc.aio.Channel) -> Call:
    """Watch its health."""
    stub = health_pb2_grpc.HealthStub(channel)
    return stub.Watch(health_pb2.HealthCheckRequest(service=NAME), wait_for_ready=True)


async def begin(channel: grpc.aio.Channel, command: str, **options: Any) -> Call:
    """Begin a stream with a command."""
    call = chunker_pb2_grpc.ChunkerServiceStub(channel).Chunk(**options)
    await call.write(
        chunker_pb2.ChunkRequest(configure=chunker_pb2.ChunkConfigure(turn_id=command)),
    )
    return call


async def answer(call: Call) -> str:
    """Read the text of the next answer."""
    async with asyncio.timeout(HANG_S):
        return str((await call.read()).chunk.text)


async def let_go(call: Call) -> str:
    """Let a held call go on; return its last answer."""
    await call.write(chunker_pb2.ChunkRequest(flush=chunker_pb2.ChunkFlush()))
    return await answer(call)


async def failure(call: Call) -> status_pb2.Status:
    """Read to the failure of a call; return its status with details."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(_read_all(call), HANG_S)
    trailers: Any = caught.value.trailing_metadata() or ()
    for key, value in trailers:
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    return status_pb2.Status(code=caught.value.code().value[0], message=caught.value.details() or "")


async def _read_all(call: Call) -> None:
    while await call.read() is not EOF:
        pass


async def end(call: Call) -> None:
    """Cancel a call and wait for its end."""
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
        await call.code()


def detail(status: status_pb2.Status, message: Message) -> Any:
    """Return the detail of one type."""
    assert any(packed.Unpack(message) for packed in status.details), status
    return message
