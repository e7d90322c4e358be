"""Callers' own words: streamed in, flushed, timed, left open; and many texts at once."""

import asyncio
import json
from array import array
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tests.support.mesh import Mesh, running_mesh
from voicemesh.client import Chunk, SpeechOptions, VoiceMesh, VoiceMeshError, Words
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from voicemesh.runtime.status import from_rpc_error, reason_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

VOICES = json.dumps(
    [
        {"name": "espeak", "engine": "espeak", "replicas": 1},
        {
            "name": "narrow",
            "engine": "simulated",
            "replicas": 1,
            "options": {"slots": 1, "first_frame_ms": 5, "rtf": 0.02, "char_ms": 20},
        },
    ]
)
IDLE_S = 1.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    async with running_mesh(
        VOICEMESH_TTS_VOICES=VOICES,
        VOICEMESH_GATEWAY_TEXT_IDLE_S=str(IDLE_S),
        VOICEMESH_GATEWAY_MAX_TURNS="6",
        VOICEMESH_GATEWAY_MAX_TEXT_CHARS="2000",
    ) as running:
        yield running


class Wire:
    """A Converse call at the level of messages."""

    def __init__(self, stub: Any) -> None:
        self.call = stub.Converse()

    async def send(self, **event: Any) -> None:
        await self.call.write(pb.ConverseRequest(**event))

    async def until(self, *kinds: str) -> Any:
        while True:
            response = await self.call.read()
            if (kind := response.WhichOneof("event")) in kinds:
                return getattr(response, kind)


@pytest_asyncio.fixture(loop_scope="module")
async def wire(mesh: Mesh) -> AsyncIterator[Wire]:
    async with grpc.aio.insecure_channel(mesh.address("gateway")) as channel:
        opened = Wire(GatewayServiceStub(channel))
        yield opened
        opened.call.cancel()


async def test_a_flush_has_spoken_what_is_held_and_the_turn_goes_on(wire: Wire) -> None:
    await wire.send(configure=pb.Configure(speech=pb.SpeechOptions(max_lead_ms=0)))
    await wire.send(text=pb.TextInput(turn_id="f", text="The train to", flush=True))
    first = await wire.until("chunk")
    assert (first.text, first.reason) == ("The train to", common_pb2.CHUNK_REASON_FLUSH)
    await wire.until("frame")
    await wire.send(text=pb.TextInput(turn_id="f", text=" Brighton is late.", last=True))
    second = await wire.until("chunk")
    assert second.text == "Brighton is late."
    report = (await wire.until("turn_completed")).report
    assert report.text == "The train to Brighton is late."


async def test_words_whose_last_never_comes_are_spoken_and_then_fail(wire: Wire) -> None:
    await wire.send(configure=pb.Configure(speech=pb.SpeechOptions(max_lead_ms=0)))
    await wire.send(text=pb.TextInput(turn_id="open", text="This goes on and"))
    failed = await wire.until("turn_failed")
    assert reason_of(failed.status) == "DEADLINE_EXCEEDED"
    assert "VOICEMESH_GATEWAY_TEXT_IDLE_S" in failed.status.message
    assert failed.report.audio_us > 500_000
    # Its rest is ignored; the next turn is none of its business.
    await wire.send(text=pb.TextInput(turn_id="open", text="on.", last=True))
    await wire.send(text=pb.TextInput(turn_id="next", text="The next one.", last=True))
    assert (await wire.until("turn_started", "turn_failed")).turn_id == "next"
    assert (await wire.until("turn_completed")).report.turn_id == "next"


async def test_lines_without_a_mark_have_the_pause_of_a_sentence(client: VoiceMesh) -> None:
    speech = SpeechOptions(max_lead_ms=0, cache=False)
    recording = await client.say("# Shopping list\n- green apples\n- brown bread", speech=speech).collect()
    samples = array("h", recording.audio)
    silent, runs = 0, []
    for sample in samples:
        if abs(sample) > 256:
            runs.append(silent)
            silent = 0
        else:
            silent += 1
    least = recording.format.sample_rate_hz // 5
    assert [run > least for run in runs if run > least // 2] == [True, True]


async def test_captions_highlight_what_was_written_while_something_else_is_said(client: VoiceMesh) -> None:
    written = "See **the [guide](https://example.com/a.b)** now. Tom &amp; Ann did."
    speech = SpeechOptions(max_lead_ms=0, word_timings=True)
    events = [event async for event in client.say(written, speech=speech)]
    chunks = [event.text for event in events if isinstance(event, Chunk)]
    assert chunks == ["See the guide now.", "Tom & Ann did."]
    places = {
        word.word.strip("."): written[word.source_offset :][: word.source_length]
        for event in events
        if isinstance(event, Words)
        for word in event.words
    }
    assert places["guide"] == "guide"
    assert places["Tom"] == "Tom"
    as_written = SpeechOptions(max_lead_ms=0, speech_text=False)
    events = [event async for event in client.say(written, speech=as_written)]
    said = " ".join(event.text for event in events if isinstance(event, Chunk))
    assert said == written


@pytest.mark.parametrize("voice", ["espeak", "narrow"])
async def test_every_word_is_timed_in_order_and_says_whether_it_is_estimated(
    client: VoiceMesh, voice: str
) -> None:
    text = "One for the money, two for the show. Three to get ready."
    speech = SpeechOptions(max_lead_ms=0, word_timings=True, voice=voice)
    events = [event async for event in client.say(text, speech=speech)]
    chunks = {event.index: event for event in events if isinstance(event, Chunk)}
    timed = [
        (event.chunk_index, word) for event in events if isinstance(event, Words) for word in event.words
    ]
    places = [(index, word.offset_samples) for index, word in timed]
    assert places == sorted(places)
    said = [text[chunks[i].text_offset :][word.text_offset :][: word.text_length] for i, word in timed]
    words = [word.strip(".,") for word in said]
    whole = text.replace(",", "").replace(".", "").split()
    if voice == "espeak":
        # It tells of no word that leans on another one ("for the"): those that it tells of are in order.
        assert (words[0], words[-1]) == (whole[0], whole[-1])
        left = iter(whole)
        assert all(word in left for word in words)
    else:
        assert words == whole
    assert {type(word.estimated) for _, word in timed} == {bool}


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"kind": common_pb2.ChunkPolicy.KIND_WORDS, "words": 51}, "words"),
        ({"kind": common_pb2.ChunkPolicy.KIND_SENTENCE, "words": 3}, "words"),
        ({"max_chars": 401}, "max_chars"),
        ({"min_chars": 401}, "min_chars"),
        ({"min_chars": 50, "max_chars": 40}, "min_chars"),
    ],
)
async def test_a_policy_that_cannot_be_is_refused_when_it_is_configured(
    wire: Wire, policy: dict[str, Any], field: str
) -> None:
    speech = pb.SpeechOptions(chunk_policy=common_pb2.ChunkPolicy(**policy))
    await wire.send(configure=pb.Configure(speech=speech))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await wire.call.read()
    status = from_rpc_error(raised.value, "gateway").status
    assert reason_of(status) == "INVALID_FIELD"
    assert f"configure.speech.chunk_policy.{field}" in status.message


async def test_texts_of_a_batch_fail_one_by_one(client: VoiceMesh) -> None:
    texts = ["Well done.", "  ", "Try again.", "Well done.", "x" * 2001]
    items = {item.text_indexes: item async for item in client.speak_batch(texts, voice="narrow")}
    assert set(items) == {(0, 3), (1,), (2,), (4,)}
    for positions in ((0, 3), (2,)):
        assert items[positions].recording is not None
    for positions in ((1,), (4,)):
        error = items[positions].error
        assert error is not None
        assert error.reason == "INVALID_FIELD"
        assert f"texts[{positions[0]}]" in error.message


async def test_a_batch_leaves_the_way_to_those_who_listen(client: VoiceMesh) -> None:
    texts = [f"Exercise number {number} is about the sea and its tides." for number in range(40)]
    done: list[tuple[int, ...]] = []

    async def batch() -> None:
        async for item in client.speak_batch(texts, voice="narrow", speech=SpeechOptions(cache=False)):
            assert item.recording is not None
            done.append(item.text_indexes)

    running = asyncio.create_task(batch())
    for number in range(5):
        said = client.say(f"Listener {number} is next.", voice="narrow", speech=SpeechOptions(cache=False))
        report = (await said.collect()).report
        assert report.outcome == "completed"
    assert len(done) < len(texts), "listeners do not wait for the batch"
    await asyncio.wait_for(running, 60)
    assert len(done) == len(texts)


async def test_a_batch_waits_for_a_place_rather_than_fail(client: VoiceMesh) -> None:
    async def open_words() -> AsyncIterator[str]:
        yield "All places are taken. "
        await free.wait()

    free = asyncio.Event()
    rooms = [client.converse(speech=SpeechOptions(max_lead_ms=0)) for _ in range(6)]
    turns = [await room.say(open_words()) for room in rooms]
    readers = [asyncio.create_task(turn.collect()) for turn in turns]
    for room in rooms:
        while not room.session_id:  # noqa: ASYNC110 - set by the reader of its call
            await asyncio.sleep(0.01)
    with pytest.raises(VoiceMeshError) as raised:
        await client.say("No place.").collect()
    assert raised.value.reason == "TOO_MANY_TURNS"

    async def batch() -> list[bool]:
        return [item.error is None async for item in client.speak_batch(["One.", "Two."], voice="narrow")]

    running = asyncio.create_task(batch())
    free.set()
    assert await asyncio.wait_for(running, 30) == [True, True]
    await asyncio.gather(*readers)
    for room in rooms:
        await room.aclose()
