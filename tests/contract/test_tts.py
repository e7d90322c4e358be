"""The TTS service over gRPC, with real worker processes behind it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.tts.core.model import Limits, VoiceSpec
from services.tts.core.service import Speech
from services.tts.process import launch_worker
from services.tts.servicer import SERVICE, TtsServicer
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.channels import open_channel
from voicemesh.runtime.clock import SystemClock
from voicemesh.runtime.server import make_server
from voicemesh.runtime.sessions import SessionRegistry
from voicemesh.runtime.status import reason_of
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
    tts_pb2_grpc.add_TtsServiceServicer_to_server(
        TtsServicer(speech, Telemetry("tts", provider), sessions), server
    )
    address = f"unix:{tmp_path}/tts.sock"
    server.add_insecure_port(address)
    await server.start()
    channel = open_channel(address)
    pids: set[int] = set()
    try:
        await speech.start()
        service = Service(tts_pb2_grpc.TtsServiceStub(channel), speech, exporter, sessions, health, pids)
        await service.stats()
        yield service
    finally:
        for stats in speech.stats():
            pids |= set(stats.worker_pids)
        await channel.close(None)
        await server.stop(0)
        await sessions.join(timeout_s=1)
        await speech.close()
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
            assert response.frame.HasField("start") == (not heard.frames)
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


# ---- speech


async def test_chunks_are_spoken_in_order_with_words_and_figures(tmp_path):
    async with serving(tmp_path) as service, Caller(service) as caller:
        await caller.configure()
        for index, text in ((0, TEXT), (1, "Second."), (5, "..."), (6, "Last one here.")):
            await caller.ask(index, text, deadline_ms=index * 500)
        heard = await caller.rest()
        assert caller.order == [0, 1, 5, 6]
        assert len(heard[0].pcm) == 2 * heard[0].end.total_samples > 100_000
        assert [word.word for word in heard[0].words][:2] == ["The", "quick"]
        assert [word.word for word in heard[6].words] == ["Last", "one", "here"]
        assert all(word.offset_samples < heard[0].end.total_samples for word in heard[0].words)
        assert heard[5].frames == []
        assert heard[5].end.total_samples == 0
        start = heard[0].frames[0].start
        assert (start.format.sample_rate_hz, start.format.channels) == (22050, 1)
        assert start.format.encoding == common_pb2.AUDIO_ENCODING_PCM_S16LE
        assert start.replica == "espeak-0"
        assert 0 < start.synthesis_us <= heard[0].end.synthesis_us
        voices = await service.stub.ListVoices(tts_pb2.ListVoicesRequest())
        assert start.model_revision == next(v.model_revision for v in voices.voices if v.is_default)
        stats = await service.stats()
        assert (stats.completed_chunks, stats.failed_chunks, stats.active_leases) == (4, 0, 0)
        total = sum(chunk.end.total_samples for chunk in heard.values())
        assert abs(stats.audio_us - total * 1_000_000 / 22050) < 10
        assert stats.synthesis_us > 0
        assert all(psutil.Process(pid).ppid() == os.getpid() for pid in stats.worker_pids)


async def test_variants_formats_and_speeds(tmp_path):
    async with serving(tmp_path) as service:
        default = await say(service, TEXT)
        named = await say(service, TEXT, voice="espeak/EN-US", speed=1.0)
        german = await say(service, TEXT, voice="espeak/de")
        french = await say(service, TEXT, voice="espeak/fr")
        fast = await say(service, TEXT, speed=2.0)
        native = common_pb2.AudioFormat(
            encoding=common_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=22050, channels=1
        )
        same = await say(service, TEXT, format=native)
        assert default.pcm == named.pcm == same.pcm
        assert len({default.pcm, german.pcm, french.pcm, fast.pcm}) == 4
        assert german.frames[0].start.model_revision != default.frames[0].start.model_revision
        assert len(fast.pcm) < 0.7 * len(default.pcm)


async def test_a_caller_can_resume_at_a_sample(tmp_path):
    async with serving(tmp_path) as service:
        whole = await say(service, TEXT)
        async with Caller(service) as caller:
            await caller.configure()
            await caller.ask(0, TEXT, start_offset_samples=50_001)
            rest = (await caller.rest())[0]
        assert rest.pcm == whole.pcm[100_002:]
        assert rest.frames[0].frame.offset_samples == 50_001
        assert rest.end.total_samples == whole.end.total_samples
        assert [w.word for w in rest.words] == [w.word for w in whole.words if w.offset_samples >= 50_001]


async def test_voices_are_listed_with_languages_and_revisions(tmp_path):
    async with serving(tmp_path, ESPEAK, sim()) as service:
        voices = (await service.stub.ListVoices(tts_pb2.ListVoicesRequest())).voices
        by_name = {voice.name: voice for voice in voices}
        assert [voice.name for voice in voices] == sorted(by_name)
        assert len(voices) > 100
        assert by_name["espeak"].is_default
        assert by_name["espeak"].language == by_name["espeak/en-us"].language == "en-US"
        assert by_name["espeak"].has_word_timings
        assert by_name["espeak"].ready_replicas == 1
        assert by_name["espeak"].native_format.sample_rate_hz == 22050
        assert by_name["sim"].native_format.sample_rate_hz == 24000
        assert len({by_name[name].model_revision for name in ("espeak", "espeak/de", "sim")}) == 3
        english = (await service.stub.ListVoices(tts_pb2.ListVoicesRequest(language="en"))).voices
        assert {"espeak", "espeak/en-us", "espeak/en-gb", "sim"} <= {voice.name for voice in english}
        assert all(voice.language.split("-")[0] == "en" for voice in english)


async def test_a_batch_answers_every_text_and_speaks_identical_ones_once(tmp_path):
    async with serving(tmp_path, sim()) as service:
        texts = ["One.", "Two two.", "One.", "", "x" * 3000]
        request = tts_pb2.SynthesizeBatchRequest(texts=texts)
        audio: dict[tuple[int, ...], bytes] = {}
        ends: dict[tuple[int, ...], str | None] = {}
        async for part in service.stub.SynthesizeBatch(request):
            key = tuple(part.text_indexes)
            assert key not in ends
            kind = part.WhichOneof("event")
            if kind == "frame":
                audio[key] = audio.get(key, b"") + part.frame.frame.audio
            else:
                ends[key] = reason_of(part.failed.status) if kind == "failed" else kind
        assert ends == {
            (0, 2): "finished",
            (1,): "finished",
            (3,): "INVALID_FIELD",
            (4,): "INVALID_FIELD",
        }
        assert set(audio) == {(0, 2), (1,)}
        assert (await service.stats()).completed_chunks == 2
        empty = service.stub.SynthesizeBatch(tts_pb2.SynthesizeBatchRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await empty.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# ---- cancels


async def test_no_frame_follows_a_cancel_and_the_next_chunk_is_spoken(tmp_path):
    async with serving(tmp_path, sim(first_frame_ms=1, rtf=0.5), chunks_ahead=0) as service:
        async with Caller(service) as caller:
            await caller.configure()
            await caller.ask(0, LONG)
            await caller.ask(1, "Well.")
            await caller.frames(3)
            await caller.send(cancel_chunk=tts_pb2.CancelChunk(chunk_index=0))
            heard = await caller.rest()
        assert heard[0].end.cancelled
        assert heard[0].end.total_samples == len(heard[0].pcm) // 2
        assert not heard[1].end.cancelled
        stats = await service.stats()
        assert (stats.cancelled_chunks, stats.completed_chunks) == (1, 1)


async def test_cancel_turn_ends_the_stream(tmp_path):
    async with serving(tmp_path, sim(rtf=0.5)) as service, Caller(service) as caller:
        await caller.configure()
        for index in range(6):
            await caller.ask(index, LONG)
        await caller.frames(2)
        await caller.send(cancel_turn=tts_pb2.CancelTurn())
        await caller.to_the_end()
        assert await caller.call.code() is grpc.StatusCode.OK
        assert [caller.chunks[index].end.cancelled for index in range(6)] == [True] * 6
        stats = await service.stats()
        assert (stats.active_leases, stats.queued_chunks, stats.cancelled_chunks) == (0, 0, 6)
        assert stats.wasted_us <= stats.synthesis_us


async def test_a_client_that_goes_away_leaves_an_idle_engine(tmp_path):
    async with serving(tmp_path, ESPEAK, buffer_s=1) as service:
        caller = Caller(service)
        await caller.configure()
        for index in range(3):
            await caller.ask(index, LONG)
        await caller.frames(2)
        assert (await service.stats()).active_leases == 1
        caller.call.cancel()
        stats = await service.until(lambda stats: stats.cancelled_chunks == 3)
        assert (stats.active_leases, stats.queued_chunks) == (0, 0)
        assert stats.wasted_us > 0
        await service.sessions.join(timeout_s=5)
        assert (await say(service, TEXT)).end.total_samples > 0


async def test_a_slow_reader_does_not_hold_the_engine(tmp_path):
    async with serving(tmp_path, ESPEAK, buffer_s=2) as service, Caller(service) as slow:
        text = " ".join([TEXT] * 30)  # more audio than gRPC holds between two processes
        alone = await say(service, text, speed=0.5)
        await slow.configure(speed=0.5)
        await slow.ask(0, text)
        await slow.frames(1)
        assert (await say(service, TEXT)).end.total_samples > 0
        stats = await service.stats()
        assert (stats.completed_chunks, stats.active_leases) == (2, 0)
        heard = (await slow.rest())[0]
        assert heard.pcm == alone.pcm
        assert heard.end.resumed == 0
        assert heard.end.wasted_us > 0
        assert [word.word for word in heard.words] == [word.word for word in alone.words]


# ---- trouble


async def test_a_worker_killed_in_mid_sentence_is_not_heard(tmp_path):
    voice = sim(2, audio="espeak", slots=1, rtf=0.02)
    async with serving(tmp_path, voice) as service:
        undisturbed = await say(service, LONG)
        async with Caller(service) as victim, Caller(service) as other:
            await victim.configure()
            await victim.ask(0, LONG)
            await victim.frames(4)
            await other.configure()
            await other.ask(0, LONG)
            await other.frames(1)
            names = [caller.chunks[0].frames[0].start.replica for caller in (victim, other)]
            assert set(names) == {"sim-0", "sim-1"}
            pids = (await service.stats()).worker_pids
            os.kill(pids[int(names[0][-1])], signal.SIGKILL)
            heard, theirs = (await victim.rest())[0], (await other.rest())[0]
        assert heard.pcm == undisturbed.pcm
        assert [w.offset_samples for w in heard.words] == [w.offset_samples for w in undisturbed.words]
        assert heard.end.resumed == 1
        assert heard.end.wasted_us > 0
        assert theirs.pcm == undisturbed.pcm
        assert theirs.end.resumed == 0
        stats = await service.until(lambda stats: stats.ready_replicas == 2)
        assert stats.replaced_replicas == 1
        assert len(set(stats.worker_pids) | set(pids)) == 3
        assert all(service.health)


async def test_espeak_killed_in_mid_sentence_goes_on_in_its_replacement(tmp_path):
    # One replica: the chunk waits for the new process. The window keeps the engine in mid-sentence.
    async with serving(tmp_path, ESPEAK, buffer_s=1) as service:
        undisturbed = await say(service, LONG)
        async with Caller(service) as caller:
            await caller.configure()
            await caller.ask(0, LONG)
            await caller.frames(3)
            os.kill((await service.stats()).worker_pids[0], signal.SIGKILL)
            heard = (await caller.rest())[0]
        assert heard.pcm == undisturbed.pcm
        assert heard.end.resumed == 1


async def test_a_stopped_worker_is_killed_and_its_chunk_goes_on(tmp_path):
    voice = sim(2, slots=1, rtf=0.02)
    async with serving(tmp_path, voice, stall_timeout_s=0.3) as service:
        undisturbed = await say(service, LONG)
        async with Caller(service) as caller:
            await caller.configure()
            await caller.ask(0, LONG)
            heard = await caller.frames(3)
            stopped = (await service.stats()).worker_pids[int(heard.frames[0].start.replica[-1])]
            os.kill(stopped, signal.SIGSTOP)
            heard = (await caller.rest())[0]
        assert heard.pcm == undisturbed.pcm
        assert heard.end.resumed == 1

        async def gone() -> bool:
            return not psutil.pid_exists(stopped)

        await eventually(gone)


@pytest.mark.parametrize(
    "trouble", [{"zero_audio_rate": 0.4}, {"failure_rate": 0.4}, {"crash_rate": 0.4}], ids=str
)
async def test_troubles_of_engines_are_not_heard(tmp_path, trouble):
    texts = [f"Sentence number {number} is here." for number in range(8)]
    async with serving(tmp_path, sim(2)) as service:
        wanted = [(await say(service, text)).pcm for text in texts]
    async with serving(tmp_path, sim(2, **trouble), max_attempts=10) as service:
        resumed = 0
        for text, pcm in zip(texts, wanted, strict=True):
            await service.until(lambda stats: stats.ready_replicas == 2)
            heard = await say(service, text)
            assert heard.pcm == pcm
            resumed += heard.end.resumed
        assert resumed > 0
        assert (await service.stats()).replaced_replicas == resumed


@pytest.mark.parametrize("trouble", ["failure_rate", "zero_audio_rate", "crash_rate"])
async def test_a_chunk_that_no_replica_can_speak_fails_with_a_reason_and_the_stream_goes_on(
    tmp_path, trouble
):
    async with serving(tmp_path, sim(2, **{trouble: 1})) as service, Caller(service) as caller:
        await caller.configure()
        await caller.ask(0, TEXT)
        await caller.ask(1, "...")
        await caller.chunk(0)
        heard = await caller.rest()
        status = failure(heard[0])
        assert reason_of(status) == "NO_ENGINE"
        assert status.code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert heard[0].failed is not None
        assert heard[0].failed.sent_samples == len(heard[0].pcm) // 2
        stats = await service.stats()
        assert stats.failed_chunks >= 1
        assert stats.replaced_replicas >= 2


async def test_readiness_ends_when_a_voice_has_no_replica_left_and_comes_back(tmp_path):
    async with serving(tmp_path, sim(1, crash_rate=1), max_attempts=5) as service:
        assert service.healthy()
        assert reason_of(failure(await say(service, TEXT))) == "NO_ENGINE"
        assert not service.healthy()
        stats = await service.until(lambda stats: stats.ready_replicas == 1)
        assert service.healthy()
        assert stats.starting_replicas == 0


async def test_a_full_queue_refuses_a_chunk_and_says_when_to_come_back(tmp_path):
    voice = sim(1, slots=1, first_frame_ms=60_000)
    async with serving(tmp_path, voice, max_queued_chunks=1, stall_timeout_s=60.0) as service:
        async with Caller(service) as busy, Caller(service) as caller:
            await busy.configure()
            await busy.ask(0, TEXT)
            await busy.ask(1, TEXT)
            await service.until(lambda stats: stats.queued_chunks == 1)
            await caller.configure()
            await caller.ask(0, TEXT)
            status = failure(await caller.chunk(0))
            assert reason_of(status) == "QUEUE_FULL"
            retry = error_details_pb2.RetryInfo()
            assert any(detail.Unpack(retry) for detail in status.details)
            assert retry.retry_delay.ToMilliseconds() > 0
            await busy.send(cancel_turn=tts_pb2.CancelTurn())
            await busy.to_the_end()
        assert (await service.stats()).active_leases == 0


# ---- bad input


def chunk_event(index: int = 0, text: str = "x") -> dict[str, Any]:
    return {"chunk": tts_pb2.SynthesizeChunk(chunk_index=index, text=text)}


CONFIGURE: dict[str, Any] = {"configure": tts_pb2.SynthesizeConfigure(turn_id="turn-1")}

BAD = {
    "chunk first": ([chunk_event()], "OUT_OF_ORDER", ""),
    "configure twice": ([CONFIGURE, CONFIGURE], "OUT_OF_ORDER", ""),
    "no event": ([CONFIGURE, {}], "OUT_OF_ORDER", ""),
    "index falls": ([CONFIGURE, chunk_event(2), chunk_event(1)], "OUT_OF_ORDER", ""),
    "index again": ([CONFIGURE, chunk_event(2), chunk_event(2)], "OUT_OF_ORDER", ""),
    "chunk after cancel": (
        [CONFIGURE, chunk_event(0, LONG), {"cancel_turn": tts_pb2.CancelTurn()}, chunk_event(3)],
        "OUT_OF_ORDER",
        "",
    ),
    "empty text": ([CONFIGURE, chunk_event(0, "")], "INVALID_FIELD", "chunk.text"),
    "1 MB": ([CONFIGURE, chunk_event(0, "word " * 200_000)], "INVALID_FIELD", "chunk.text"),
    "unknown cancel": (
        [CONFIGURE, {"cancel_chunk": tts_pb2.CancelChunk(chunk_index=1)}],
        "INVALID_FIELD",
        "cancel_chunk.chunk_index",
    ),
    "speed": (
        [{"configure": tts_pb2.SynthesizeConfigure(speed=9)}],
        "INVALID_FIELD",
        "configure.speed",
    ),
    "encoding": (
        [
            {
                "configure": tts_pb2.SynthesizeConfigure(
                    format=common_pb2.AudioFormat(encoding=common_pb2.AUDIO_ENCODING_FLAC)
                )
            }
        ],
        "INVALID_FIELD",
        "configure.format.encoding",
    ),
    "encoding that is not there": (
        [{"configure": tts_pb2.SynthesizeConfigure(format=common_pb2.AudioFormat(encoding=cast(Any, 77)))}],
        "INVALID_FIELD",
        "configure.format.encoding",
    ),
    "rate": (
        [{"configure": tts_pb2.SynthesizeConfigure(format=common_pb2.AudioFormat(sample_rate_hz=8000))}],
        "INVALID_FIELD",
        "configure.format.sample_rate_hz",
    ),
    "channels": (
        [{"configure": tts_pb2.SynthesizeConfigure(format=common_pb2.AudioFormat(channels=2))}],
        "INVALID_FIELD",
        "configure.format.channels",
    ),
    "voice": ([{"configure": tts_pb2.SynthesizeConfigure(voice="espeak/fr-ca")}], "UNKNOWN_VOICE", ""),
}


async def test_wrong_messages_end_their_stream_with_a_reason_and_no_other(tmp_path):
    async with serving(tmp_path, sim()) as service, Caller(service) as bystander:
        await bystander.configure()
        await bystander.ask(0, TEXT)
        await bystander.frames(1)
        for name, (events, reason, at_fault) in BAD.items():
            async with Caller(service) as caller:
                for event in events:
                    try:
                        await caller.send(**event)
                    except (asyncio.InvalidStateError, grpc.aio.AioRpcError, grpc.aio.UsageError):
                        break  # it has failed already
                status = await caller.error()
                assert reason_of(status) == reason, name
                assert field_of(status) == at_fault, name
                if reason == "UNKNOWN_VOICE":
                    assert "ListVoices" in status.message
        assert (await bystander.rest())[0].end.total_samples > 0
        await service.until(lambda stats: stats.active_leases == 0)


async def test_text_that_engines_might_obey_is_only_spoken(tmp_path):
    async with serving(tmp_path, ESPEAK) as service:
        plain = await say(service, "fast   now")
        for text in ("fast \x01\x02 now", "fast \x00\x9b now"):
            heard = await say(service, text)
            assert len(heard.pcm) == len(plain.pcm)
        assert (await service.stats()).replaced_replicas == 0


# ---- traces


async def test_a_turn_has_one_span_and_each_chunk_one_below_it(tmp_path):
    async with serving(tmp_path, sim(2, slots=1, failure_rate=1), ESPEAK, max_attempts=1) as service:
        trace_id, parent_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        metadata = (("traceparent", f"00-{trace_id}-{parent_id}-01"),)
        async with Caller(service, metadata) as caller:
            await caller.configure(voice="espeak/de")
            await caller.ask(0, TEXT)
            await caller.ask(1, "Zwei.")
            await caller.rest()
        async with Caller(service, metadata) as caller:
            await caller.configure(voice="sim")
            await caller.ask(4, TEXT)
            await caller.rest()

        async def ended() -> bool:
            return len(service.spans()) == 5

        await eventually(ended)
        calls = [span for span in service.spans() if span.name == f"{SERVICE}/Synthesize"]
        assert [telemetry_parent(span) for span in calls] == [parent_id, parent_id]
        assert attributes(calls[0])["voicemesh.turn_id"] == "turn-1"
        assert attributes(calls[0])["voicemesh.voice"] == "espeak/de"
        chunks = [span for span in service.spans() if span.name == "text_to_speech espeak"]
        assert [attributes(span)["voicemesh.chunk_index"] for span in chunks] == [0, 1]
        for span in chunks:
            found = attributes(span)
            assert telemetry_parent(span) == f"{calls[0].context.span_id:016x}"
            assert found["gen_ai.operation.name"] == "text_to_speech"
            assert found["gen_ai.output.type"] == "speech"
            assert found["gen_ai.request.model"] == "espeak/de"
            assert found["voicemesh.tts.replica"] == "espeak-0"
            assert found["voicemesh.tts.queue_ms"] >= 0
            assert found["voicemesh.tts.synthesis_ms"] > 0
            assert found["voicemesh.audio_ms"] > 100
            assert span.status.is_ok or span.status.is_unset
        (failed,) = [span for span in service.spans() if span.name == "text_to_speech simulated"]
        assert not failed.status.is_ok
        assert attributes(failed)["error.type"] == "NO_ENGINE"
        assert [event.name for event in failed.events] == ["replica_lost", "resumed", "replica_lost"]
        assert all(f"{span.context.trace_id:032x}" == trace_id for span in service.spans())
        assert not any("fox" in str(span.to_json()) for span in service.spans())


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def telemetry_parent(span: ReadableSpan) -> str:
    return f"{span.parent.span_id:016x}" if span.parent is not None else ""


# ---- the process


@asynccontextmanager
async def process(
    tmp_path: Path, **environment: str
) -> AsyncIterator[tuple[psutil.Process, Any, grpc.aio.Channel]]:
    address = f"unix:{tmp_path}/tts.sock"
    with (tmp_path / "log").open("w") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.tts",
            env={**os.environ, "VOICEMESH_TTS_LISTEN": address, **environment},
            stderr=log,
        )
    channel = open_channel(address)
    try:
        yield psutil.Process(child.pid), child, channel
    finally:
        await channel.close(None)
        if child.returncode is None:
            child.kill()
        await child.wait()


async def serving_now(channel: grpc.aio.Channel) -> bool:
    try:
        response = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=SERVICE), wait_for_ready=True, timeout=GUARD_S
        )
    except grpc.aio.AioRpcError:
        return False
    return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


async def test_the_process_serves_drains_and_leaves_no_worker(tmp_path):
    voices = '[{"name": "sim", "engine": "simulated", "replicas": 2, "options": {"rtf": 0.01}}]'
    async with process(tmp_path, VOICEMESH_TTS_VOICES=voices) as (parent, child, channel):
        await eventually(lambda: serving_now(channel))
        workers = parent.children()
        assert len(workers) == 2
        stub: Any = tts_pb2_grpc.TtsServiceStub(channel)
        call = stub.Synthesize(timeout=GUARD_S)
        await call.write(tts_pb2.SynthesizeRequest(**CONFIGURE))
        await call.write(tts_pb2.SynthesizeRequest(**chunk_event(0, LONG)))
        await call.read()
        # To the whole group, as a terminal does it: workers leave signals to the service.
        for member in (parent, *workers):
            member.send_signal(signal.SIGINT)
        await call.done_writing()
        last = None
        while (response := await call.read()) is not EOF:
            last = response
        assert last is not None
        assert last.finished.total_samples > 0
        assert not last.finished.resumed
        assert await child.wait() == 0
        assert not any(worker.is_running() for worker in workers)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends stopped orphans on Linux only")
async def test_workers_do_not_outlive_a_killed_service_even_when_stopped(tmp_path):
    async with process(tmp_path) as (parent, child, channel):
        await eventually(lambda: serving_now(channel))
        workers = parent.children()
        workers[0].send_signal(signal.SIGSTOP)
        child.kill()
        await child.wait()

        async def gone() -> bool:
            return not any(w.is_running() and w.status() != psutil.STATUS_ZOMBIE for w in workers)

        await eventually(gone)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        (
            "VOICEMESH_TTS_VOICES",
            '[{"name": "e", "engine": "espeak", "language": "xx"}]',
            "espeak has no 'xx'",
        ),
        ("VOICEMESH_TTS_DEFAULT_VOICE", "espeak/xx", "VOICEMESH_TTS_DEFAULT_VOICE"),
    ],
)
async def test_a_declaration_that_only_the_engine_can_judge_ends_the_process(tmp_path, variable, value, says):
    async with process(tmp_path, **{variable: value}) as (_, child, _):
        assert await asyncio.wait_for(child.wait(), GUARD_S) == 2
        assert says in (tmp_path / "log").read_text()
