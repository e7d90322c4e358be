"""The spans of chunks and of the replicas that had them, on scripted replicas."""

from collections.abc import Iterator
from functools import partial

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN

from services.tts.core.model import AudioFormat, ChunkOrder
from services.tts.core.speaker import Speaker
from services.tts.core.turn import Turn
from services.tts.tracing import ChunkSpan
from tests.unit.tts.speaking import World, rest
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.telemetry import Telemetry


class Traced:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.telemetry = Telemetry("test", self.provider)

    def turn(self, world: World) -> Turn:
        span = self.telemetry.root_span("Synthesize", "")
        turn = world.speech.open_turn(partial(ChunkSpan, self.telemetry, span))
        turn.configure("t", "", AudioFormat(), 0)
        return turn

    def spans(self, kind: str) -> list[ReadableSpan]:
        """Return the spans whose name begins so, in the order of their beginnings."""
        spans = [span for span in self.exporter.get_finished_spans() if span.name.startswith(kind)]
        return sorted(spans, key=lambda span: span.start_time or 0)


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    yield made
    made.provider.shutdown()


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


async def test_a_replica_that_had_a_chunk_alone_is_in_the_chunks_own_span(traced: Traced) -> None:
    async with World() as world:
        turn = traced.turn(world)
        turn.add(ChunkOrder(0, "Hello there"))
        turn.half_close()
        world.clock.advance_ms(3)
        world.replica().make(20)
        world.replica().finish(us=5000)
        await rest(turn)
    (chunk,) = traced.spans(names.TEXT_TO_SPEECH)
    assert attributes(chunk) == {
        names.OPERATION: names.TEXT_TO_SPEECH,
        names.OUTPUT_TYPE: "speech",
        names.PROVIDER: "scripted",
        names.REQUEST_MODEL: "voice/en-us",
        names.CHUNK_INDEX: 0,
        names.CHARACTERS: 11,
        names.TTS_REPLICA: "voice-0",
        names.TTS_QUEUE_MS: 0,
        names.TTS_SYNTHESIS_MS: 3,
        names.TTS_VOICE: "voice/en-us",
        names.AUDIO_MS: 20,
        names.ENGINE_MS: 5,
    }
    assert not traced.spans(names.LEASE_SPAN)


async def test_of_a_replica_that_was_lost_and_the_next_one_each_is_a_span(traced: Traced) -> None:
    async with World(replicas=2) as world:
        turn = traced.turn(world)
        turn.add(ChunkOrder(0, "one two three"))
        turn.half_close()
        world.replica(0).make(200)
        world.replica(0).die()
        world.replica(1).make(100)
        world.replica(1).finish()
        await rest(turn)
    (chunk,) = traced.spans(names.TEXT_TO_SPEECH)
    lost, next_one = traced.spans(names.LEASE_SPAN)
    for lease, replica in ((lost, "voice-0"), (next_one, "voice-1")):
        assert lease.name == "lease scripted"
        assert lease.parent is not None
        assert lease.parent.span_id == chunk.context.span_id
        assert attributes(lease)[names.TTS_REPLICA] == replica
    assert attributes(lost)[names.ERROR_TYPE] == "REPLICA_LOST"
    assert attributes(lost)[names.REASON] == "its process ended"
    assert not next_one.events
    assert None not in (lost.end_time, next_one.start_time)


async def test_a_lease_that_ended_before_there_was_another_is_a_span_from_then_to_then(
    traced: Traced,
) -> None:
    async with World() as world:
        speaker = Speaker("voice/en-us", *world.speech.find(""), "r1", 1000)
        span = traced.telemetry.root_span("Synthesize", "")
        chunk = ChunkSpan(traced.telemetry, span, ChunkOrder(0, "one"), speaker)
        chunk.watch(speaker, "voice-0").end()
        assert not traced.spans(names.LEASE_SPAN)
        second = chunk.watch(speaker, "voice-1")
        (first,) = traced.spans(names.LEASE_SPAN)
        second.end()
    _, last = traced.spans(names.LEASE_SPAN)
    times = [time for lease in (first, last) for time in (lease.start_time, lease.end_time)]
    assert times == sorted(times, key=lambda time: time or 0)


async def test_a_voice_that_stands_in_has_a_span_for_its_lease(traced: Traced) -> None:
    async with World() as world:
        speaker = Speaker("voice/en-us", *world.speech.find(""), "r1", 1000)
        span = traced.telemetry.root_span("Synthesize", "")
        chunk = ChunkSpan(traced.telemetry, span, ChunkOrder(0, "one"), speaker)
        chunk.fell_back("voice/de", "CIRCUIT_OPEN")
        chunk.watch(speaker, "voice-0").end()
    assert [lease.name for lease in traced.spans(names.LEASE_SPAN)] == ["lease scripted"]


async def test_what_nobody_sees_is_no_span(traced: Traced) -> None:
    async with World(replicas=2) as world:
        turn = world.speech.open_turn(partial(ChunkSpan, traced.telemetry, INVALID_SPAN))
        turn.configure("t", "", AudioFormat(), 0)
        turn.add(ChunkOrder(0, "one two three"))
        turn.half_close()
        world.replica(0).make(200)
        world.replica(0).die()
        world.replica(1).make(100)
        world.replica(1).finish()
        await rest(turn)
    assert not traced.exporter.get_finished_spans()
