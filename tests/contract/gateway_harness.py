"""The gateway in this process, with scripted services behind it, over real gRPC."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.access.guard import Access
from gateway.access.interceptor import AccessInterceptor
from gateway.flags import open_flags
from gateway.live.live import Live
from gateway.peers import Peers
from gateway.recorder import Recorder
from gateway.servicer import GatewayServicer
from gateway.settings import GatewaySettings
from gateway.streams import Streams
from gateway.turns import Turns
from voicemesh.cache.v1 import cache_pb2, cache_pb2_grpc
from voicemesh.chunker.v1 import chunker_pb2, chunker_pb2_grpc
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceStub, add_GatewayServiceServicer_to_server
from voicemesh.llm.v1 import llm_pb2, llm_pb2_grpc
from voicemesh.runtime.channels import open_channel
from voicemesh.runtime.clock import SystemClock
from voicemesh.runtime.health import HealthServicer, Readiness
from voicemesh.runtime.server import make_server
from voicemesh.runtime.sessions import SessionRegistry
from voicemesh.runtime.telemetry import Telemetry
from voicemesh.tts.v1 import tts_pb2, tts_pb2_grpc

GUARD_S = 30.0
"""Ends a test that hangs."""

FORMAT = common_pb2.AudioFormat(
    encoding=common_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=22050, channels=1
)
VOICE = common_pb2.Voice(
    name="scripted/en", engine="scripted", language="en", native_format=FORMAT, is_default=True
)
REPLY = "A short reply."
LOST = (grpc.StatusCode.UNAVAILABLE, "lost")


def _refuse(*_: object) -> Any:
    raise NotImplementedError("no turn asks for this")


_unused: Any = _refuse


class JumpyClock(SystemClock):
    """The machine's clock, which can be put forward."""

    def __init__(self) -> None:
        self._ahead_ns = 0

    def now_ns(self) -> int:
        """Return the time."""
        return super().now_ns() + self._ahead_ns

    def jump(self, seconds: float) -> None:
        """Put it forward."""
        self._ahead_ns += round(seconds * 1e9)


@dataclass
class Services(
    llm_pb2_grpc.LlmServiceServicer,
    chunker_pb2_grpc.ChunkerServiceServicer,
    tts_pb2_grpc.TtsServiceServicer,
    cache_pb2_grpc.CacheServiceServicer,
):
    """The four services behind a gateway: one reply, one chunk, one frame, an empty cache."""

    clock: JumpyClock = field(default_factory=JumpyClock)
    voices: list[common_pb2.Voice] = field(default_factory=lambda: [VOICE])
    time_left: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds that each stream had left when it was opened, by service; -1 where it had no end."""
    listings: int = 0
    """How often the voices were listed."""
    broken_listings: int = 0
    """So many listings fail first."""
    broken_openings: int = 0
    """So many streams to the LLM fail as soon as they are opened."""
    broken_questions: int = 0
    """So many streams to the LLM fail when they are asked, without a word."""
    brief_lookups: int = 0
    """So many streams to the cache end behind their first answer."""
    asked: list[cache_pb2.CacheKey] = field(default_factory=list)
    """The keys that the cache was asked for, or given."""
    puts: list[cache_pb2.Put] = field(default_factory=list)
    stats_asked: int = 0
    """How often pools and cache were asked for their counts."""
    pools: list[tts_pb2.PoolStats] = field(default_factory=list)
    reply_takes_s: float = 0.0
    """Seconds that pass, on the clock of the gateway, while the LLM thinks."""

    def _opened(self, service: str, context: Any) -> int:
        left = context.time_remaining()
        self.time_left[service].append(-1.0 if left is None else left)
        return len(self.time_left[service])

    async def Generate(
        self, request_iterator: AsyncIterator[llm_pb2.GenerateRequest], context: Any
    ) -> AsyncIterator[llm_pb2.GenerateResponse]:
        if self._opened("llm", context) <= self.broken_openings:
            await context.abort(*LOST)
        if not self.broken_questions:
            yield llm_pb2.GenerateResponse(ready=llm_pb2.GenerateReady(revision="r1"))
        async for request in request_iterator:
            if request.WhichOneof("event") != "start":
                return
            self.clock.jump(self.reply_takes_s)
            if self.broken_questions:
                self.broken_questions -= 1
                await context.abort(*LOST)
            turn_id = request.start.turn_id
            yield llm_pb2.GenerateResponse(delta=llm_pb2.GenerateDelta(turn_id=turn_id, text=REPLY))
            finished = llm_pb2.GenerateFinished(turn_id=turn_id, reason=llm_pb2.FINISH_REASON_STOP)
            yield llm_pb2.GenerateResponse(finished=finished)
            return

    async def Chunk(
        self, request_iterator: AsyncIterator[chunker_pb2.ChunkRequest], context: Any
    ) -> AsyncIterator[chunker_pb2.ChunkResponse]:
        self._opened("chunker", context)
        text = ""
        async for request in request_iterator:
            text += request.text.text
        chunk = common_pb2.Chunk(text=text, text_length=len(text), reason=common_pb2.CHUNK_REASON_SENTENCE)
        yield chunker_pb2.ChunkResponse(chunk=chunk)
        yield chunker_pb2.ChunkResponse(done=chunker_pb2.ChunkDone(chunk_count=1, text_length=len(text)))

    async def ListVoices(
        self, request: tts_pb2.ListVoicesRequest, context: Any
    ) -> tts_pb2.ListVoicesResponse:
        self.listings += 1
        if self.listings <= self.broken_listings:
            await context.abort(*LOST)
        return tts_pb2.ListVoicesResponse(voices=self.voices)

    async def GetPoolStats(
        self, request: tts_pb2.GetPoolStatsRequest, context: Any
    ) -> tts_pb2.GetPoolStatsResponse:
        self.stats_asked += 1
        return tts_pb2.GetPoolStatsResponse(pools=self.pools)

    async def GetStats(self, request: cache_pb2.GetStatsRequest, context: Any) -> cache_pb2.GetStatsResponse:
        self.stats_asked += 1
        return cache_pb2.GetStatsResponse(kinds=[cache_pb2.KindStats(kind="audio", misses=len(self.asked))])

    Invalidate = SynthesizeBatch = _unused

    async def Synthesize(
        self, request_iterator: AsyncIterator[tts_pb2.SynthesizeRequest], context: Any
    ) -> AsyncIterator[tts_pb2.SynthesizeResponse]:
        self._opened("tts", context)
        turn_id = ""
        async for request in request_iterator:
            turn_id = request.configure.turn_id or turn_id
            if request.WhichOneof("event") != "chunk":
                continue
            index = request.chunk.chunk_index
            frame = common_pb2.Frame(turn_id=turn_id, chunk_index=index, audio=b"\1\0" * 441)
            start = tts_pb2.SynthesisStart(format=FORMAT)
            yield tts_pb2.SynthesizeResponse(frame=tts_pb2.SynthesizedFrame(frame=frame, start=start))
            finished = tts_pb2.ChunkFinished(turn_id=turn_id, chunk_index=index, total_samples=441)
            yield tts_pb2.SynthesizeResponse(finished=finished)

    async def Exchange(
        self, request_iterator: AsyncIterator[cache_pb2.ExchangeRequest], context: Any
    ) -> AsyncIterator[cache_pb2.ExchangeResponse]:
        brief = self._opened("cache", context) <= self.brief_lookups
        async for request in request_iterator:
            answer = cache_pb2.ExchangeResponse(request_id=request.request_id)
            if request.WhichOneof("operation") == "get":
                self.asked.append(request.get.key)
                answer.miss.SetInParent()
            else:
                self.asked.append(request.put.key)
                self.puts.append(request.put)
                answer.done.SetInParent()
            yield answer
            if brief:
                return


@dataclass
class Gateway:
    """A gateway that runs here."""

    services: Services
    peers: Peers
    turns: Turns
    recorder: Recorder
    readiness: Readiness
    sessions: SessionRegistry
    live: Live
    access: Access
    streams: Streams
    stub: GatewayServiceStub
    _spans: InMemorySpanExporter

    def spans(self, name: str) -> list[ReadableSpan]:
        """Return the spans of that name that have ended."""
        return [span for span in self._spans.get_finished_spans() if span.name == name]

    async def serving(self) -> None:
        """Wait until it can work."""
        async with asyncio.timeout(GUARD_S):
            while not self.readiness.serving:
                await self.readiness.changed()


@asynccontextmanager
async def running_gateway(folder: str, services: Services, **limits: Any) -> AsyncIterator[Gateway]:
    """Run a gateway, its services and a channel to it; `limits` are its settings."""
    behind, front = f"unix:{folder}/services", f"unix:{folder}/gateway"
    addresses = dict.fromkeys(("llm_addr", "chunker_addr", "tts_addr", "cache_addr"), behind)
    # A busy machine must not make lookups late.
    quiet = {
        "gateway_cache_timeout_ms": 2000,
        "gateway_history_timeout_ms": 2000,
        "gateway_voices_poll_s": 3600,
    }
    settings = GatewaySettings(**{**quiet, **addresses, **limits})
    access = Access(settings, services.clock)
    asked = (AccessInterceptor(access),) if access.on else ()
    peer_server, server = make_server(), make_server(interceptors=asked)
    llm_pb2_grpc.add_LlmServiceServicer_to_server(services, peer_server)
    chunker_pb2_grpc.add_ChunkerServiceServicer_to_server(services, peer_server)
    tts_pb2_grpc.add_TtsServiceServicer_to_server(services, peer_server)
    cache_pb2_grpc.add_CacheServiceServicer_to_server(services, peer_server)
    healthy = Readiness("services")
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(healthy), peer_server)
    peer_server.add_insecure_port(behind)
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry("gateway", provider)
    readiness, sessions = Readiness("gateway"), SessionRegistry()
    peers = Peers(settings, readiness, services.clock)
    recorder = Recorder(settings, telemetry)
    flags = open_flags(settings, services.clock)
    live = Live(settings, recorder.record, peers, services.clock, "tested")
    turns = Turns(settings, peers, recorder, telemetry, services.clock, flags, live.overhear)
    streams = Streams(settings, services.clock)
    add_GatewayServiceServicer_to_server(GatewayServicer(turns, recorder, sessions, streams), server)
    server.add_insecure_port(front)
    await peer_server.start()
    await server.start()
    await healthy.set(True, "scripted")
    peers.start()
    flags.start()
    live.start()
    try:
        async with open_channel(front) as channel:
            stub = GatewayServiceStub(channel)
            yield Gateway(
                services, peers, turns, recorder, readiness, sessions, live, access, streams, stub, exporter
            )
    finally:
        await server.stop(None)
        await sessions.join(timeout_s=1)
        await healthy.drain()
        await live.close()
        await flags.close()
        await peers.close()
        await peer_server.stop(None)
