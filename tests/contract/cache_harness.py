"""The cache service over in-process gRPC, and a client that keeps answers apart by request id."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr

from services.cache.hosted import CacheService, build
from services.cache.keys import stored_key
from services.cache.servicer import FULL_NAME
from services.cache.settings import CacheSettings
from services.cache.translation import _key
from tests.support.measured import Measured
from voicemesh.cache.v1 import cache_pb2, cache_pb2_grpc
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.channels import open_channel
from voicemesh.runtime.clock import SystemClock
from voicemesh.runtime.health import Readiness
from voicemesh.runtime.server import Runtime, make_server
from voicemesh.runtime.telemetry import Telemetry

FORMAT = common_pb2.AudioFormat(
    encoding=common_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=22050, channels=1
)
GUARD_S = 30.0
"""Ends a test that hangs."""

LEASE = cache_pb2.Get.ON_MISS_LEASE_OR_FOLLOW


def audio_key(text: str = "Hello.", *, voice: str = "espeak/en", tenant: str = "") -> cache_pb2.CacheKey:
    return cache_pb2.CacheKey(
        audio=cache_pb2.AudioKey(
            engine="espeak",
            model_revision="r1",
            voice=voice,
            language="en",
            speed_permille=1000,
            format=FORMAT,
            text=text,
            tenant=tenant,
        )
    )


def reply_key(prompt: str = "What is rain?") -> cache_pb2.CacheKey:
    message = common_pb2.Message(role=common_pb2.ROLE_USER, parts=[common_pb2.ContentPart(text=prompt)])
    return cache_pb2.CacheKey(reply=cache_pb2.ReplyKey(llm_revision="r1", messages=[message]))


def history_key(session: str = "s", tenant: str = "") -> cache_pb2.CacheKey:
    return cache_pb2.CacheKey(history=cache_pb2.HistoryKey(tenant=tenant, session_id=session))


def sound(samples: int = 100, word: str = "") -> cache_pb2.AudioValue:
    words = [common_pb2.WordTiming(word=word, text_length=len(word))] if word else []
    return cache_pb2.AudioValue(format=FORMAT, audio=b"\x01\x02" * samples, words=words)


def speech(seconds: float) -> cache_pb2.CacheValue:
    """Audio in which no two places are the same, with a word every 100 ms."""
    samples = int(seconds * FORMAT.sample_rate_hz)
    sound = b"".join((number % 65_521).to_bytes(2, "little") for number in range(samples))
    words = [
        common_pb2.WordTiming(word=f"w{at}", text_offset=at, text_length=1, offset_samples=at)
        for at in range(0, samples, FORMAT.sample_rate_hz // 10)
    ]
    return cache_pb2.CacheValue(audio=cache_pb2.AudioValue(format=FORMAT, audio=sound, words=words))


def joined(answers: list[cache_pb2.ExchangeResponse]) -> cache_pb2.CacheValue:
    """Return what a head and its parts are together."""
    assert answers[-1].HasField("sealed")
    whole = cache_pb2.AudioValue()
    for answer in answers[:-1]:
        piece = answer.hit.value.audio if answer.HasField("hit") else answer.part
        samples = len(whole.audio) // 2, (len(whole.audio) + len(piece.audio)) // 2
        assert all(samples[0] <= word.offset_samples < samples[1] for word in piece.words)
        whole.format.CopyFrom(piece.format)
        whole.audio += piece.audio
        whole.words.extend(piece.words)
    return cache_pb2.CacheValue(audio=whole)


def audio(samples: int = 100) -> cache_pb2.CacheValue:
    return cache_pb2.CacheValue(audio=sound(samples, "Hello."))


def reply(text: str = "Water that falls.") -> cache_pb2.CacheValue:
    usage = common_pb2.TokenUsage(input_tokens=3, output_tokens=4, cached_input_tokens=1)
    return cache_pb2.CacheValue(reply=cache_pb2.ReplyValue(text=text, usage=usage))


def history(*texts: str) -> cache_pb2.CacheValue:
    messages = [
        common_pb2.Message(role=common_pb2.ROLE_USER, parts=[common_pb2.ContentPart(text=text)])
        for text in texts
    ]
    return cache_pb2.CacheValue(history=cache_pb2.HistoryValue(messages=messages))


def name_of(key: cache_pb2.CacheKey) -> str:
    return stored_key(_key(key, "key"), "key", max_text_chars=1000).name


async def until(condition: Callable[[], Awaitable[object] | object]) -> None:
    """Wait for something that a background task does."""
    async with asyncio.timeout(GUARD_S):
        while True:
            met = condition()
            if await met if isinstance(met, Awaitable) else met:
                return
            await asyncio.sleep(0.005)  # another process, or a background task: neither has an event


class Asked:
    """One request; its answers come from `next`."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[cache_pb2.ExchangeResponse] = asyncio.Queue()

    async def next(self) -> cache_pb2.ExchangeResponse:
        async with asyncio.timeout(GUARD_S):
            return await self.answers.get()


class Stream:
    """One Exchange stream, ended with `async with`."""

    def __init__(self, stub: Any, metadata: Any = None) -> None:
        self.call = stub.Exchange(metadata=metadata)
        self._asked: dict[int, Asked] = {}
        self._last_id = 0
        self._writing = asyncio.Lock()  # grpc takes one write at a time
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.call.cancel()
        assert self._reading is not None
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        while answer := await self.call.read():  # grpc.aio.EOF is false
            assert isinstance(answer, cache_pb2.ExchangeResponse)
            self._asked.setdefault(answer.request_id, Asked()).answers.put_nowait(answer)

    async def finish(self) -> None:
        """Say that nothing more will be sent, and read to the end."""
        await self.call.done_writing()
        assert self._reading is not None
        async with asyncio.timeout(GUARD_S):
            await self._reading

    async def send(self, request_id: int | None = None, **operation: Any) -> Asked:
        if request_id is None:
            self._last_id += 1
            request_id = self._last_id
        asked = self._asked.setdefault(request_id, Asked())
        async with self._writing:
            await self.call.write(cache_pb2.ExchangeRequest(request_id=request_id, **operation))
        return asked

    async def ask(self, **operation: Any) -> cache_pb2.ExchangeResponse:
        return await (await self.send(**operation)).next()

    async def get(self, key: cache_pb2.CacheKey, on_miss: Any = 0) -> cache_pb2.ExchangeResponse:
        return await self.ask(get=cache_pb2.Get(key=key, on_miss=on_miss))

    async def get_head(
        self, key: cache_pb2.CacheKey, head_ms: int = 200, on_miss: Any = 0
    ) -> list[cache_pb2.ExchangeResponse]:
        """Ask for a head; return all that came: the head, parts, and the end."""
        asked = await self.send(get=cache_pb2.Get(key=key, on_miss=on_miss, head_ms=head_ms))
        answers = [await asked.next()]
        while answers[-1].hit.more or answers[-1].HasField("part"):
            answers.append(await asked.next())
        return answers

    async def put(
        self, key: cache_pb2.CacheKey, value: cache_pb2.CacheValue, expected: int | None = None
    ) -> cache_pb2.ExchangeResponse:
        return await self.ask(put=cache_pb2.Put(key=key, value=value, expected_version=expected))

    async def append(self, lease_id: str, part: cache_pb2.AudioValue) -> cache_pb2.ExchangeResponse:
        return await self.ask(append=cache_pb2.Append(lease_id=lease_id, part=part))

    async def seal(self, lease_id: str) -> cache_pb2.ExchangeResponse:
        return await self.ask(seal=cache_pb2.Seal(lease_id=lease_id))

    async def release(self, lease_id: str) -> cache_pb2.ExchangeResponse:
        return await self.ask(release=cache_pb2.Release(lease_id=lease_id))


@dataclass
class Cache:
    """A running service and a stub to it."""

    service: CacheService
    runtime: Runtime
    stub: Any
    exporter: InMemorySpanExporter
    measured: Measured

    def stream(self, metadata: Any = None) -> Stream:
        return Stream(self.stub, metadata)

    async def stats(self) -> cache_pb2.GetStatsResponse:
        stats = await self.stub.GetStats(cache_pb2.GetStatsRequest(), timeout=GUARD_S)
        assert isinstance(stats, cache_pb2.GetStatsResponse)
        return stats

    async def invalidate(self, **target: Any) -> cache_pb2.InvalidateResponse:
        removed = await self.stub.Invalidate(cache_pb2.InvalidateRequest(**target), timeout=GUARD_S)
        assert isinstance(removed, cache_pb2.InvalidateResponse)
        return removed

    def spans(self, name: str = "") -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if not name or span.name == name]


@asynccontextmanager
async def running_cache(
    address: str, *, redis_url: str | None = None, **settings: Any
) -> AsyncIterator[Cache]:
    """Run the service as its process would, but in this one.

    Redis may take long to answer here, and is tried again soon: a busy machine is not what is tested. It is
    given everything at once: what is worth keeping has tests of its own.
    """
    defaults: dict[str, Any] = {
        "cache_redis_timeout_ms": 10_000,
        "cache_redis_retry_min_ms": 10,
        "cache_redis_retry_max_ms": 50,
        "cache_admit_requests": 1,
    }
    loaded = CacheSettings(
        cache_listen=address,
        redis_url=SecretStr(redis_url) if redis_url else None,
        **(defaults | settings),
    )
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    readiness = Readiness(FULL_NAME)
    measured = Measured()
    runtime = Runtime("cache", readiness, Telemetry("cache", provider), SystemClock(), measured.metrics)
    service = build(loaded, runtime)
    server = make_server()
    service.register(server)
    server.add_insecure_port(address)
    await server.start()
    try:
        async with open_channel(address) as channel:
            await service.start()
            yield Cache(service, runtime, cache_pb2_grpc.CacheServiceStub(channel), exporter, measured)
    finally:
        await server.stop(None)
        await runtime.sessions.join(timeout_s=5)
        await service.close()
        assert len(runtime.sessions) == 0
        provider.shutdown()
        measured.close()
