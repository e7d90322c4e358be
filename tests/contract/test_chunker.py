"""The chunker service, over gRPC: what the contract promises."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator
from typing import Any, Self

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from services.chunker import instruments
from services.chunker.__main__ import build
from services.chunker.revision import revision_of
from services.chunker.servicer import FULL_NAME
from services.chunker.settings import ChunkerSettings
from tests.support.measured import Measured
from voicemesh.chunker.v1 import chunker_pb2, chunker_pb2_grpc
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.clock import SystemClock
from voicemesh.runtime.health import Readiness
from voicemesh.runtime.server import Runtime, make_server
from voicemesh.runtime.telemetry import Telemetry
from voicemesh.runtime.trace_names import RPC_STATUS

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
METADATA = (("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"),)
GUARD_S = 30.0
"""Only a test that fails waits as long."""
Kind = common_pb2.ChunkPolicy.Kind
_STATUS: Any = rpc_status
"""Untyped: its stubs do not know its `aio`."""


class Caller:
    """One call of Chunk."""

    def __init__(self, stub: chunker_pb2_grpc.ChunkerServiceStub) -> None:
        chunk: Any = stub.Chunk
        self.call = chunk(metadata=METADATA)

    async def say(self, **event: Any) -> None:
        await self.call.write(chunker_pb2.ChunkRequest(**event))

    async def configure(self, kind: Any = Kind.KIND_SENTENCE, language: str = "", **policy: int) -> None:
        configure = chunker_pb2.ChunkConfigure(
            turn_id="turn-1", policy=common_pb2.ChunkPolicy(kind=kind, **policy), language=language
        )
        await self.say(configure=configure)

    async def text(self, *texts: str) -> None:
        for text in texts:
            await self.say(text=chunker_pb2.ChunkText(text=text))

    async def end(self) -> None:
        await self.say(end=chunker_pb2.ChunkEnd())

    async def next(self) -> chunker_pb2.ChunkResponse:
        async with asyncio.timeout(GUARD_S):
            response = await self.call.read()
        assert isinstance(response, chunker_pb2.ChunkResponse), "the call ended"
        return response

    async def to_the_end(self) -> list[chunker_pb2.ChunkResponse]:
        responses = []
        async with asyncio.timeout(GUARD_S):
            while isinstance(response := await self.call.read(), chunker_pb2.ChunkResponse):
                responses.append(response)
        assert await self.call.code() is grpc.StatusCode.OK
        return responses

    async def failure(self) -> tuple[grpc.StatusCode, str, list[str]]:
        """Read to the end, which must be a failure; return its code, reason and fields."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.to_the_end()
        status = await _STATUS.aio.from_call(self.call)
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        fields: list[str] = []
        for detail in status.details:
            if detail.Unpack(bad):
                fields = [violation.field for violation in bad.field_violations]
            else:
                detail.Unpack(info)
        return caught.value.code(), info.reason, fields


class House:
    """The service, its channel, and the spans that it made."""

    def __init__(self, target: str, **settings: Any) -> None:
        self.exporter = InMemorySpanExporter()
        tracing = TracerProvider(shutdown_on_exit=False)
        tracing.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.readiness = Readiness(FULL_NAME)
        self.measured = Measured()
        self.runtime = Runtime(
            "chunker", self.readiness, Telemetry("chunker", tracing), SystemClock(), self.measured.metrics
        )
        self.hosted = build(ChunkerSettings(**settings), self.runtime)
        self._server = make_server()
        self.hosted.register(self._server)
        self._server.add_insecure_port(target)
        self._channel = grpc.aio.insecure_channel(target)
        self._stub = chunker_pb2_grpc.ChunkerServiceStub(self._channel)
        self._calls: list[Caller] = []

    async def __aenter__(self) -> Self:
        await self._server.start()
        await self.hosted.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for caller in self._calls:
            caller.call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await caller.call.code()
        await self._channel.close(None)
        await self._server.stop(None)
        await self.runtime.sessions.join(timeout_s=5)
        await self.hosted.close()
        self.measured.close()

    def caller(self) -> Caller:
        caller = Caller(self._stub)
        self._calls.append(caller)
        return caller

    async def cut(self, *tokens: str, **policy: Any) -> list[chunker_pb2.ChunkResponse]:
        caller = self.caller()
        await caller.configure(**policy)
        await caller.text(*tokens)
        await caller.end()
        return await caller.to_the_end()

    async def span(self) -> ReadableSpan:
        """Wait for the span of the one call that was made."""
        async with asyncio.timeout(GUARD_S):
            while not (spans := self.exporter.get_finished_spans()):  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.005)
        (span,) = spans
        return span


@pytest.fixture
async def house(unix_address: str) -> AsyncGenerator[House, None]:
    async with House(unix_address) as house:
        yield house


def done(chunk_count: int = 0, text_length: int = 0) -> chunker_pb2.ChunkDone:
    revision = revision_of(ChunkerSettings().limits())
    return chunker_pb2.ChunkDone(chunk_count=chunk_count, text_length=text_length, revision=revision)


def chunks_of(responses: list[chunker_pb2.ChunkResponse]) -> list[common_pb2.Chunk]:
    return [response.chunk for response in responses if response.HasField("chunk")]


def texts_of(responses: list[chunker_pb2.ChunkResponse]) -> list[str]:
    return [chunk.text for chunk in chunks_of(responses)]


async def test_chunks_come_in_order_and_then_done(house: House) -> None:
    text = "Sure, I can help with that. 你好。 What is your name"
    responses = await house.cut(*text)
    chunks = chunks_of(responses)
    assert [chunk.text for chunk in chunks] == ["Sure, I can help with that.", "你好。", "What is your name"]
    assert [chunk.index for chunk in chunks] == [0, 1, 2]
    assert [chunk.reason for chunk in chunks] == [
        common_pb2.CHUNK_REASON_SENTENCE,
        common_pb2.CHUNK_REASON_SENTENCE,
        common_pb2.CHUNK_REASON_FLUSH,
    ]
    assert {chunk.turn_id for chunk in chunks} == {"turn-1"}
    for chunk in chunks:
        assert text[chunk.text_offset :][: chunk.text_length] == chunk.text
    assert responses[-1].done == done(chunk_count=3, text_length=len(text))


async def test_a_chunk_comes_while_the_text_goes_on(house: House) -> None:
    caller = house.caller()
    await caller.configure(kind=Kind.KIND_UNSPECIFIED)
    await caller.text("I can help you", ",")
    chunk = (await caller.next()).chunk
    assert (chunk.text, chunk.reason) == ("I can help you,", common_pb2.CHUNK_REASON_CLAUSE)
    await caller.text(" my friend. N")
    chunk = (await caller.next()).chunk
    assert (chunk.text, chunk.reason, chunk.index) == ("my friend.", common_pb2.CHUNK_REASON_SENTENCE, 1)


async def test_half_close_means_end(house: House) -> None:
    caller = house.caller()
    await caller.configure()
    await caller.text("Hello world. This is")
    await caller.call.done_writing()
    responses = await caller.to_the_end()
    assert texts_of(responses) == ["Hello world.", "This is"]
    assert responses[-1].HasField("done")


async def test_a_stream_without_text_is_done_at_once(house: House) -> None:
    caller = house.caller()
    await caller.call.done_writing()
    assert await caller.to_the_end() == [chunker_pb2.ChunkResponse(done=done())]
    assert (await house.cut("", " \n "))[-1].done == done(chunk_count=0, text_length=3)


async def test_flush_gives_what_is_held(house: House) -> None:
    caller = house.caller()
    await caller.configure()
    await caller.text("This is")
    await caller.say(flush=chunker_pb2.ChunkFlush())
    chunk = (await caller.next()).chunk
    assert (chunk.text, chunk.reason) == ("This is", common_pb2.CHUNK_REASON_FLUSH)
    await caller.text(" more")
    await caller.end()
    assert texts_of(await caller.to_the_end()) == ["more"]


async def test_a_held_sentence_leaves_while_no_text_comes(unix_address: str) -> None:
    async with House(unix_address, chunker_hold_ms=20) as house:
        caller = house.caller()
        await caller.configure()
        for number in range(3):
            await caller.text(f"This is sentence {'abc'[number]}x.")
            chunk = (await caller.next()).chunk
            assert (chunk.index, chunk.reason) == (number, common_pb2.CHUNK_REASON_SENTENCE)
            assert chunk.held_us >= 20_000
        await caller.end()
        assert [response.WhichOneof("event") for response in await caller.to_the_end()] == ["done"]


async def test_a_dry_player_gets_the_clause_that_is_there(house: House) -> None:
    caller = house.caller()
    await caller.configure(kind=Kind.KIND_ADAPTIVE)
    await caller.text("This comes first. If the second one takes long, it")
    assert (await caller.next()).chunk.text == "This comes first."
    await caller.say(slack=chunker_pb2.ChunkSlack(left_to_play_ms=150))
    chunk = (await caller.next()).chunk
    assert chunk.text == "If the second one takes long,"
    assert chunk.reason == common_pb2.CHUNK_REASON_DEADLINE


async def test_what_is_left_after_a_deadline_leaves_at_the_next_though_nothing_is_said(house: House) -> None:
    caller = house.caller()
    await caller.configure(kind=Kind.KIND_ADAPTIVE, language="en")
    await caller.text("This comes first. If the second one takes long, it is the third that has to wait and")
    assert (await caller.next()).chunk.text == "This comes first."
    pace = chunker_pb2.Pace(ms_per_char=1, first_frame_ms=0)
    await caller.say(slack=chunker_pb2.ChunkSlack(left_to_play_ms=150, chunks_counted=1, pace=pace))
    texts = [(await caller.next()).chunk.text for _ in range(2)]
    assert texts == ["If the second one takes long,", "it is the third that has to wait"]


async def test_the_first_chunk_is_a_phrase_where_the_writer_is_slow(house: House) -> None:
    caller = house.caller()
    await caller.configure(kind=Kind.KIND_ADAPTIVE, language="en")
    await caller.text("When the new release is installed on the test ")
    chunk = (await caller.next()).chunk
    assert chunk.text == "When the new release is installed"
    assert chunk.reason == common_pb2.CHUNK_REASON_PHRASE
    assert chunk.held_us >= 90_000


@pytest.mark.parametrize("speech_text", [None, True, False])
async def test_markup_is_said_as_it_should_be_unless_that_is_switched_off(
    house: House, speech_text: bool | None
) -> None:
    caller = house.caller()
    await caller.say(configure=chunker_pb2.ChunkConfigure(turn_id="t", speech_text=speech_text))
    await caller.text("This is **bold** and [lin", "ked](http://a.b).")
    await caller.end()
    chunk, done = await caller.to_the_end()
    assert done.done.text_length == 42
    if speech_text is False:
        assert chunk.chunk.text == "This is **bold** and [linked](http://a.b)."
        assert not chunk.chunk.alignment
    else:
        assert chunk.chunk.text == "This is bold and linked."
        assert (chunk.chunk.text_offset, chunk.chunk.text_length) == (0, 42)
        assert [(run.spoken_length, run.source_length) for run in chunk.chunk.alignment] == [
            (8, 8), (0, 2), (4, 4), (0, 2), (5, 5), (0, 1), (6, 6), (0, 13), (1, 1),
        ]  # fmt: skip


async def test_chunks_keep_to_the_limit_of_the_voice(house: House) -> None:
    caller = house.caller()
    policy = common_pb2.ChunkPolicy(min_chars=100)
    await caller.say(configure=chunker_pb2.ChunkConfigure(policy=policy, voice_max_chars=20))
    await caller.text("a few words and a few more of them", " and the rest")
    await caller.end()
    assert texts_of(await caller.to_the_end()) == ["a few words and a", "few more of them and", "the rest"]


@pytest.mark.parametrize("value", [-1, 1e9, float("nan")])
@pytest.mark.parametrize(
    "name", ["ms_per_char", "first_frame_ms", "first_frame_ms_per_char", "writer_chars_per_s"]
)
async def test_a_pace_that_cannot_be_is_refused(house: House, name: str, value: float) -> None:
    caller = house.caller()
    await caller.configure()
    await caller.say(slack=chunker_pb2.ChunkSlack(pace=chunker_pb2.Pace(**{name: value})))
    assert await caller.failure() == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
        [f"slack.pace.{name}"],
    )


@pytest.mark.parametrize(
    ("policy", "chunks"),
    [
        ({"kind": Kind.KIND_SENTENCE}, ["I see.", "Yes, I do see it, I think.", "Well."]),
        ({"kind": Kind.KIND_CLAUSE}, ["I see.", "Yes, I do see it, I think.", "Well."]),
        ({"kind": Kind.KIND_WORDS, "words": 3}, ["I see.", "Yes, I do", "see it, I", "think.", "Well."]),
        ({"kind": Kind.KIND_ADAPTIVE, "max_chars": 20}, ["I see. Yes,", "I do see it,", "I think.", "Well."]),
        ({"kind": Kind.KIND_SENTENCE, "min_chars": 30}, ["I see. Yes, I do see it, I think.", "Well."]),
    ],
)
async def test_policies(house: House, policy: dict[str, Any], chunks: list[str]) -> None:
    assert texts_of(await house.cut("I see. Yes, I do see it, ", "I think. Well.", **policy)) == chunks


@pytest.mark.parametrize(
    ("configure", "field"),
    [
        ({"kind": 9}, "configure.policy.kind"),
        ({"kind": Kind.KIND_WORDS}, "configure.policy.words"),
        ({"kind": Kind.KIND_WORDS, "words": 51}, "configure.policy.words"),
        ({"kind": Kind.KIND_CLAUSE, "words": 2}, "configure.policy.words"),
        ({"max_chars": 401}, "configure.policy.max_chars"),
        ({"min_chars": 100, "max_chars": 50}, "configure.policy.min_chars"),
        ({"language": "no tag"}, "configure.language"),
    ],
)
async def test_a_wrong_policy_is_refused_by_its_field(
    house: House, configure: dict[str, Any], field: str
) -> None:
    caller = house.caller()
    await caller.configure(**configure)
    assert await caller.failure() == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", [field])


async def test_an_oversize_turn_id_is_refused(house: House) -> None:
    caller = house.caller()
    await caller.say(configure=chunker_pb2.ChunkConfigure(turn_id="x" * 257))
    assert await caller.failure() == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
        ["configure.turn_id"],
    )


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"text": chunker_pb2.ChunkText(text="Hi")}, "text"),
        ({"slack": chunker_pb2.ChunkSlack()}, "slack"),
        ({"flush": chunker_pb2.ChunkFlush()}, "flush"),
        ({"end": chunker_pb2.ChunkEnd()}, "end"),
    ],
)
async def test_nothing_comes_before_configure(house: House, event: dict[str, Any], field: str) -> None:
    caller = house.caller()
    await caller.say(**event)
    assert await caller.failure() == (grpc.StatusCode.INVALID_ARGUMENT, "OUT_OF_ORDER", [field])


async def test_configure_comes_once(house: House) -> None:
    caller = house.caller()
    await caller.configure()
    await caller.configure()
    assert await caller.failure() == (grpc.StatusCode.INVALID_ARGUMENT, "OUT_OF_ORDER", ["configure"])


async def test_a_message_without_an_event_is_refused(house: House) -> None:
    caller = house.caller()
    await caller.say()
    assert await caller.failure() == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", ["event"])


async def test_too_much_text_is_refused_and_other_streams_go_on(unix_address: str) -> None:
    async with House(unix_address, chunker_max_text_chars=1000, chunker_max_message_chars=900) as house:
        other = house.caller()
        await other.configure()
        await other.text("Hello")
        for texts in (["x" * 901], ["x" * 900, "x" * 101]):
            caller = house.caller()
            await caller.configure()
            await caller.text(*texts)
            assert await caller.failure() == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "INVALID_FIELD",
                ["text.text"],
            )
        await other.text(" world.")
        await other.end()
        assert texts_of(await other.to_the_end()) == ["Hello world."]


async def test_a_megabyte_of_text(house: House) -> None:
    sentence = "This is one of very many sentences, and it says nothing at all. "
    text = (sentence * 16_000)[:1_000_000]
    caller = house.caller()
    await caller.configure()

    async def feed() -> None:
        await caller.text(text)
        await caller.end()

    feeding = asyncio.ensure_future(feed())
    other = await house.cut("Others are served meanwhile. Yes")
    assert texts_of(other) == ["Others are served meanwhile.", "Yes"]
    responses = await caller.to_the_end()
    await feeding
    assert responses[-1].done.text_length == 1_000_000
    assert " ".join(texts_of(responses)) == text.strip()


async def test_a_client_that_goes_away_leaves_nothing(house: House) -> None:
    caller = house.caller()
    await caller.configure()
    await caller.text("Hello world. This is held. ", "And")
    assert (await caller.next()).chunk.text == "Hello world."
    caller.call.cancel()
    span = await house.span()
    assert dict(span.attributes or {})[RPC_STATUS] == "CANCELLED"
    assert len(house.runtime.sessions) == 0
    assert texts_of(await house.cut("Still here.")) == ["Still here."]


async def test_a_client_that_goes_away_while_a_chunk_is_held(unix_address: str) -> None:
    async with House(unix_address, chunker_hold_ms=10) as house:
        for _ in range(20):
            caller = house.caller()
            await caller.configure()
            await caller.text("Hello world.")
            caller.call.cancel()
        assert texts_of(await house.cut("Still here.")) == ["Still here."]


async def test_the_span_has_the_caller_s_trace_and_no_text(house: House) -> None:
    await house.cut("A secret was told. And", " another")
    span = await house.span()
    assert span.name == "voicemesh.chunker.v1.ChunkerService/Chunk"
    assert span.kind is SpanKind.SERVER
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert f"{span.parent.span_id:016x}" == PARENT_ID
    attributes = dict(span.attributes or {})
    assert attributes["voicemesh.turn_id"] == "turn-1"
    assert attributes["voicemesh.chunk_count"] == 2
    assert [dict(event.attributes or {})["voicemesh.chunk.reason"] for event in span.events] == [
        "sentence",
        "flush",
    ]
    assert "secret" not in span.to_json()
    assert span.status.status_code is StatusCode.UNSET


async def test_many_streams_at_once_do_not_mix(house: House) -> None:
    async def one(number: int) -> list[str]:
        tokens = [f"This is stream {number}x. ", "It has two sentences. ", f"Bye {number}"]
        return texts_of(await house.cut(*tokens))

    results = await asyncio.gather(*(one(number) for number in range(50)))
    for number, texts in enumerate(results):
        assert texts == [f"This is stream {number}x.", "It has two sentences.", f"Bye {number}"]


async def test_the_process_serves_and_drains(unix_address: str) -> None:
    environment = os.environ | {"VOICEMESH_CHUNKER_LISTEN": unix_address}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.chunker", env=environment, stderr=asyncio.subprocess.PIPE
    )
    channel = grpc.aio.insecure_channel(unix_address)
    try:
        async with asyncio.timeout(GUARD_S):
            await channel.channel_ready()
        caller = Caller(chunker_pb2_grpc.ChunkerServiceStub(channel))
        await caller.configure()
        await caller.text("Hello world. Bye")
        assert (await caller.next()).chunk.text == "Hello world."
        process.send_signal(signal.SIGTERM)
        await caller.end()
        assert texts_of(await caller.to_the_end()) == ["Bye"]
        async with asyncio.timeout(GUARD_S):
            _, log = await process.communicate()
        assert process.returncode == 0, log.decode()
    finally:
        await channel.close(None)
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_chunks_are_measured_by_why_they_end(house: House) -> None:
    await house.cut("One sentence.", " And", " a rest")
    measured = house.measured
    assert measured.points(instruments.CHUNKS) == {("sentence",): 1, ("flush",): 1}
    sizes = measured.points(instruments.SIZE)
    assert (sizes[("sentence",)].sum, sizes[("flush",)].sum) == (len("One sentence."), len("And a rest"))
    assert {labels: each.count for labels, each in measured.points(instruments.HOLD).items()} == {
        ("sentence",): 1,
        ("flush",): 1,
    }
    assert set(sizes[("sentence",)].trace_ids) <= {TRACE_ID}


async def test_what_is_held_too_long_is_measured_as_that(unix_address: str) -> None:
    async with House(unix_address, chunker_hold_ms=50) as house:
        caller = house.caller()
        await caller.configure()
        await caller.text("The end.")  # more may come that shows it is none
        chunk = (await caller.next()).chunk
        reason = common_pb2.ChunkReason.Name(chunk.reason).removeprefix("CHUNK_REASON_").lower()
        hold = house.measured.value(instruments.HOLD, reason)
        assert (hold.count, hold.sum) == (1, pytest.approx(chunk.held_us / 1e6, abs=1e-6))
        assert hold.sum >= 0.05
