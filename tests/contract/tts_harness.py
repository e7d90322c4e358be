"""The TTS service over gRPC with real worker processes behind it, and callers of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.tts.core.model import Limits, VoiceSpec
from services.tts.core.service import Speech
from services.tts.metrics import TtsMetrics
from services.tts.process import launch_worker
from services.tts.servicer import TtsServicer
from tests.support.measured import Measured
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.channels import open_channel
from voicemesh.runtime.clock import SystemClock
from voicemesh.runtime.server import make_server
from voicemesh.runtime.sessions import SessionRegistry
from voicemesh.runtime.telemetry import Telemetry
from voicemesh.tts.v1 import tts_pb2, tts_pb2_grpc

GUARD_S = 30
RPC_STATUS: Any = rpc_status  # its stubs do not know its module for asyncio
EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined] # missing in the stubs
TEXT = "The quick brown fox doesn't jump over 12,345 lazy dogs, today."
LONG = " ".join([TEXT] * 8)

ESPEAK = VoiceSpec("espeak", "espeak", 1, "en-us", {})


def sim(replicas: int = 1, **options: Any) -> VoiceSpec:
    return VoiceSpec("sim", "simulated", replicas, "en", options)


@dataclass
class Service:
    stub: tts_pb2_grpc.TtsServiceStub
    speech: Speech
    exporter: InMemorySpanExporter
    sessions: SessionRegistry
    health: list[bool]
    pids: set[int]
    measured: Measured

    async def stats(self) -> tts_pb2.PoolStats:
        response = await self.stub.GetPoolStats(tts_pb2.GetPoolStatsRequest())
        self.pids |= set(response.pools[0].worker_pids)
        return response.pools[0]

    async def until(self, predicate: Callable[[tts_pb2.PoolStats], bool]) -> tts_pb2.PoolStats:
        async def matches() -> tts_pb2.PoolStats | None:
            stats = await self.stats()
            return stats if predicate(stats) else None

        found: tts_pb2.PoolStats = await eventually(matches)
        return found

    def healthy(self) -> bool:
        return self.health[-1]

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


async def eventually(attempt: Callable[[], Awaitable[Any]]) -> Any:
    """Ask another process until it has an answer."""
    async with asyncio.timeout(GUARD_S):
        while not (answer := await attempt()):  # noqa: ASYNC110 - another process sets no event here
            await asyncio.sleep(0.01)
    return answer


@asynccontextmanager
async def serving(tmp_path: Path, *voices: VoiceSpec, **limits: Any) -> AsyncIterator[Service]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    health: list[bool] = []
    sessions = SessionRegistry()
    speech = Speech(
        voices or (ESPEAK,), "", launch_worker, SystemClock(), replace(Limits(), **limits), health.append
    )
    server = make_server()
    measured = Measured()
    tts_pb2_grpc.add_TtsServiceServicer_to_server(
        TtsServicer(speech, Telemetry("tts", provider), sessions, TtsMetrics(measured.metrics, speech)),
        server,
    )
    address = f"unix:{tmp_path}/tts.sock"
    server.add_insecure_port(address)
    await server.start()
    channel = open_channel(address)
    pids: set[int] = set()
    try:
        await speech.start()
        service = Service(
            tts_pb2_grpc.TtsServiceStub(channel), speech, exporter, sessions, health, pids, measured
        )
        await service.stats()
        yield service
    finally:
        for stats in speech.stats():
            pids |= set(stats.worker_pids)
        await channel.close(None)
        await server.stop(0)
        await sessions.join(timeout_s=1)
        await speech.close()
        measured.close()
        assert not [pid for pid in pids if psutil.pid_exists(pid)]


@dataclass
class Heard:
    """What a caller got of one chunk."""

    frames: list[tts_pb2.SynthesizedFrame] = field(default_factory=list)
    words: list[common_pb2.WordTiming] = field(default_factory=list)
    finished: tts_pb2.ChunkFinished | None = None
    failed: tts_pb2.ChunkFailed | None = None

    @property
    def pcm(self) -> bytes:
        return b"".join(frame.frame.audio for frame in self.frames)

    @property
    def end(self) -> tts_pb2.ChunkFinished:
        assert self.finished is not None, self.failed
        return self.finished


def failure(heard: Heard) -> status_pb2.Status:
    assert heard.failed is not None, heard.finished
    return heard.failed.status


class Caller:
    """One Synthesize stream."""

    def __init__(self, service: Service, metadata: Any = None) -> None:
        stub: Any = service.stub  # the stubs do not know that requests may be written later
        self.call = stub.Synthesize(metadata=metadata)
        self.chunks: dict[int, Heard] = {}
        self.order: list[int] = []

    async def __aenter__(self) -> "Caller":  # noqa: PYI034 - tests need no Self
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()

    async def configure(self, **values: Any) -> "Caller":
        values.setdefault("turn_id", "turn-1")
        await self.send(configure=tts_pb2.SynthesizeConfigure(**values))
        return self

    async def send(self, **event: Any) -> None:
        await self.call.write(tts_pb2.SynthesizeRequest(**event))

    async def ask(self, index: int, text: str, **values: Any) -> None:
        await self.send(chunk=tts_pb2.SynthesizeChunk(chunk_index=index, text=text, **values))

    async def next(self) -> tts_pb2.SynthesizeResponse | None:
        async with asyncio.timeout(GUARD_S):
            response: tts_pb2.SynthesizeResponse = await self.call.read()
        if response is EOF:
            return None
        self._take(response)
        return response

    def _take(self, response: tts_pb2.SynthesizeResponse) -> None:
        kind = response.WhichOneof("event")
        if kind == "frame":
            frame = response.frame.frame
            heard = self._chunk(frame.chunk_index)
            assert frame.turn_id == "turn-1"
            assert frame.sequence == len(heard.frames)
            if heard.frames:
                before = heard.frames[-1].frame
                assert frame.offset_samples == before.offset_samples + len(before.audio) // 2
            assert response.frame.HasField("start") or heard.frames
            heard.frames.append(response.frame)
            heard.words.extend(response.frame.words)
        elif kind == "words":
            self._chunk(response.words.chunk_index).words.extend(response.words.words)
        elif kind == "finished":
            self._chunk(response.finished.chunk_index).finished = response.finished
            self.order.append(response.finished.chunk_index)
        else:
            self._chunk(response.failed.chunk_index).failed = response.failed
            self.order.append(response.failed.chunk_index)

    def _chunk(self, index: int) -> Heard:
        heard = self.chunks.setdefault(index, Heard())
        assert heard.finished is None
        assert heard.failed is None
        return heard

    async def frames(self, count: int, index: int = 0) -> Heard:
        while len(self.chunks.get(index, Heard()).frames) < count:
            assert await self.next() is not None
        return self.chunks[index]

    async def chunk(self, index: int = 0) -> Heard:
        """Read until a chunk has its end."""
        while index not in self.order:
            assert await self.next() is not None
        return self.chunks[index]

    async def to_the_end(self) -> None:
        while await self.next() is not None:
            pass

    async def rest(self) -> dict[int, Heard]:
        """Half-close and read to the end."""
        await self.call.done_writing()
        await self.to_the_end()
        assert await self.call.code() is grpc.StatusCode.OK
        return self.chunks

    async def error(self) -> status_pb2.Status:
        """Read until the stream fails."""
        with pytest.raises(grpc.aio.AioRpcError):
            await self.to_the_end()
        status = await RPC_STATUS.aio.from_call(self.call)
        assert isinstance(status, status_pb2.Status)
        return status


async def say(service: Service, text: str, **values: Any) -> Heard:
    async with Caller(service) as caller:
        await caller.configure(**values)
        await caller.ask(0, text)
        return (await caller.rest())[0]


def field_of(status: status_pb2.Status) -> str:
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(bad):
            return str(bad.field_violations[0].field)
    return ""


def chunk_event(index: int = 0, text: str = "x") -> dict[str, Any]:
    return {"chunk": tts_pb2.SynthesizeChunk(chunk_index=index, text=text)}


CONFIGURE: dict[str, Any] = {"configure": tts_pb2.SynthesizeConfigure(turn_id="turn-1")}
