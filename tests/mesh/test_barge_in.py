"""Two hundred interrupts over the real mesh, at random moments of concurrent conversations."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tests.support.mesh import Mesh, running_mesh
from tests.support.openai_server import OpenAiServer, Reply, tokens_of
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from voicemesh.tts.v1 import tts_pb2
from voicemesh.tts.v1.tts_pb2_grpc import TtsServiceStub

pytestmark = pytest.mark.asyncio(loop_scope="module")

INTERRUPTS = 200
CONVERSATIONS = 10
TEXT = (
    "The tide comes in twice a day. It carries sand along the coast. Where the water slows down, the sand "
    "falls to the ground. Harbours are such places, so they fill up. Ships with a dredger take it out again."
)
VOICES = json.dumps(
    [
        {
            "name": "quick",
            "engine": "simulated",
            "replicas": 1,
            "options": {"first_frame_ms": 5, "rtf": 0.2, "slots": 32, "char_ms": 10},
        }
    ]
)
CONFIGURE = pb.Configure(
    speech=pb.SpeechOptions(
        chunk_policy=common_pb2.ChunkPolicy(kind=common_pb2.ChunkPolicy.KIND_SENTENCE),
        bypass_audio_cache=True,
        max_lead_ms=0,
        word_timings=True,
    ),
    bypass_reply_cache=True,
)
LONGEST_S = 0.6
"""Longest wait before an interrupt: about as long as the whole reply takes to make."""


@dataclass
class Heard:
    """One turn as it came over the wire."""

    frames: list[common_pb2.Frame] = field(default_factory=list)
    chunks: list[common_pb2.Chunk] = field(default_factory=list)
    words: list[common_pb2.WordTimings] = field(default_factory=list)
    rate_hz: int = 0
    report: pb.TurnReport | None = None

    @property
    def audio_ms(self) -> int:
        samples = sum(frame.samples for frame in self.frames)
        return samples * 1000 // self.rate_hz if self.rate_hz else 0

    def ends(self) -> list[tuple[int, int]]:
        """Return where each word begins, in samples of the turn, and where its text ends."""
        starts: dict[int, int] = {}
        for frame in self.frames:
            starts.setdefault(frame.chunk_index, frame.turn_offset_samples - frame.offset_samples)
        offsets = {chunk.index: chunk.text_offset for chunk in self.chunks}
        return [
            (
                starts[timed.chunk_index] + word.offset_samples,
                offsets[timed.chunk_index] + word.text_offset + word.text_length,
            )
            for timed in self.words
            for word in timed.words
        ]


class Caller:
    """A Converse call that notes every event, by turn."""

    def __init__(self, stub: GatewayServiceStub) -> None:
        converse: Any = stub.Converse
        self.call = converse()
        self.turns: dict[str, Heard] = {}
        self.stale: list[str] = []
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for response in self.call:
            self._take(response)

    def _take(self, response: pb.ConverseResponse) -> None:
        kind = response.WhichOneof("event") or ""
        message = getattr(response, kind)
        if kind == "turn_completed":
            report = message.report
            self.turns[report.turn_id].report = report
            self.ended.put_nowait(report.turn_id)
            return
        heard = self.turns.setdefault(message.turn_id, Heard())
        if heard.report is not None:
            self.stale.append(f"{kind} of {message.turn_id}")
        match kind:
            case "turn_started":
                heard.rate_hz = message.format.sample_rate_hz
            case "frame":
                heard.frames.append(message)
            case "chunk":
                heard.chunks.append(message)
            case "words":
                heard.words.append(message)
            case "degraded":
                raise AssertionError(message.detail)

    async def ask(self, turn_id: str, prompt: str) -> None:
        parts = [common_pb2.ContentPart(text=prompt)]
        await self.call.write(pb.ConverseRequest(prompt=pb.Prompt(turn_id=turn_id, parts=parts)))

    async def end_of(self, turn_id: str) -> Heard:
        while await self._next_end() != turn_id:
            pass
        return self.turns[turn_id]

    async def _next_end(self) -> str:
        ended = asyncio.create_task(self.ended.get())
        await asyncio.wait({ended, self.reader}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            ended.cancel()
            self.reader.result()  # why nothing comes any more
            raise AssertionError("the stream ended before its turn")
        return ended.result()

    async def close(self) -> None:
        await self.call.done_writing()
        await self.reader


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def llm() -> AsyncIterator[OpenAiServer]:
    reply = Reply(tokens=tokens_of(TEXT), ttft_s=0.02, token_interval_s=0.005)
    async with OpenAiServer(default=reply) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(llm: OpenAiServer) -> AsyncIterator[Mesh]:
    async with running_mesh(
        OPENAI_BASE_URL=llm.base_url, OPENAI_API_KEY="none", VOICEMESH_TTS_VOICES=VOICES
    ) as running:
        yield running


def words_heard(played_ms: int, heard: Heard, whole: Heard) -> set[str]:
    """Return what may be kept where `played_ms` were heard, by the timings of a turn that went to its end.

    One text; two where the interrupt and a rounding of the played time to samples could differ by a word.
    """
    rate = whole.rate_hz
    kept = set()
    for played in (played_ms * rate // 1000, -(-played_ms * rate // 1000)):
        played = min(played, heard.audio_ms * rate // 1000 + rate)  # noqa: PLW2901 - more cannot have come
        end = max((end for start, end in whole.ends() if start < played), default=0)
        text = TEXT[:end]
        mark = TEXT[end : end + 1]
        kept.add(text + mark if mark in (",", ".") else text)
    return kept


async def converse(
    stub: GatewayServiceStub,
    llm: OpenAiServer,
    number: int,
    count: int,
    whole: Heard,
    configure: pb.Configure = CONFIGURE,
) -> tuple[int, int]:
    """Interrupt `count` turns of one conversation; return how many were cut short and how many mid-speech."""
    draw = random.Random(number)
    caller = Caller(stub)
    await caller.call.write(pb.ConverseRequest(configure=configure))
    cut = spoken = 0
    expected: list[set[str]] = []
    for turn in range(count):
        turn_id = f"c{number}-t{turn}"
        await caller.ask(turn_id, f"Question {turn} of {number}?")
        await asyncio.sleep(draw.uniform(0, LONGEST_S))
        heard = caller.turns.get(turn_id, Heard())
        played_ms = draw.randint(0, heard.audio_ms)
        had_frames = bool(heard.frames)
        interrupt = pb.Interrupt(turn_id=turn_id, played_ms=played_ms)
        await caller.call.write(pb.ConverseRequest(interrupt=interrupt))
        if draw.random() < 0.3:
            again = pb.Interrupt(turn_id=turn_id, played_ms=10_000)
            await caller.call.write(pb.ConverseRequest(interrupt=again))
        heard = await caller.end_of(turn_id)
        assert heard.report is not None
        cut += heard.report.outcome == pb.TURN_OUTCOME_INTERRUPTED
        spoken += had_frames
        expected.append(words_heard(played_ms, heard, whole))
    # The next prompt shows what was heard of each turn, to the word.
    await caller.ask(f"c{number}-last", f"Last question of {number}?")
    await caller.end_of(f"c{number}-last")
    await caller.close()
    assert caller.stale == []
    (request,) = [
        request.body["messages"]
        for request in llm.requests
        if request.body["messages"][-1]["content"] == f"Last question of {number}?"
    ]
    check_history(request, number, expected)
    return cut, spoken


def check_history(messages: list[dict[str, Any]], number: int, expected: list[set[str]]) -> None:
    kept: dict[str, str] = {}
    question = ""
    for message in messages[1:-1]:
        if message["role"] == "user":
            question = message["content"]
            kept[question] = ""
        else:
            kept[question] = message["content"]
    for turn, allowed in list(enumerate(expected))[-len(kept) :]:
        said = kept[f"Question {turn} of {number}?"]
        assert said in allowed, (turn, said, allowed)


async def test_two_hundred_interrupts_leave_no_stale_frame_the_words_heard_and_idle_engines(
    mesh: Mesh, llm: OpenAiServer
) -> None:
    async with grpc.aio.insecure_channel(mesh.address("gateway")) as channel:
        stub = GatewayServiceStub(channel)
        first = Caller(stub)
        await first.call.write(pb.ConverseRequest(configure=CONFIGURE))
        await first.ask("whole", "Say all of it.")
        whole = await first.end_of("whole")
        await first.close()
        count = INTERRUPTS // CONVERSATIONS
        done = await asyncio.gather(
            *(converse(stub, llm, number, count, whole) for number in range(CONVERSATIONS))
        )
    assert sum(cut for cut, _ in done) > INTERRUPTS / 4
    assert sum(spoken for _, spoken in done) > INTERRUPTS / 4
    async with asyncio.timeout(10), grpc.aio.insecure_channel(mesh.address("tts")) as channel:
        tts = TtsServiceStub(channel)
        while True:
            stats = await tts.GetPoolStats(tts_pb2.GetPoolStatsRequest())
            if not sum(pool.active_leases + pool.queued_chunks for pool in stats.pools):
                break


@pytest.mark.parametrize(
    ("number", "encoding", "rate_hz"),
    [
        (100, common_pb2.AUDIO_ENCODING_MULAW, 8000),
        (101, common_pb2.AUDIO_ENCODING_OPUS, 48000),
        (102, common_pb2.AUDIO_ENCODING_FLAC, 16000),
    ],
)
async def test_at_other_rates_and_encoded_the_words_heard_are_kept_too(
    mesh: Mesh, llm: OpenAiServer, number: int, encoding: Any, rate_hz: int
) -> None:
    configure = pb.Configure()
    configure.CopyFrom(CONFIGURE)
    configure.speech.format.encoding = encoding
    configure.speech.format.sample_rate_hz = rate_hz
    async with grpc.aio.insecure_channel(mesh.address("gateway")) as channel:
        stub = GatewayServiceStub(channel)
        first = Caller(stub)
        await first.call.write(pb.ConverseRequest(configure=configure))
        await first.ask(f"whole {number}", "Say all of it.")
        whole = await first.end_of(f"whole {number}")
        await first.close()
        assert whole.rate_hz == rate_hz
        cut, spoken = await converse(stub, llm, number, 12, whole, configure)
    assert cut
    assert spoken
