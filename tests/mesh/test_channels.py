"""One synthesis, many listeners."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tests.support.mesh import Mesh, running_mesh
from voicemesh.client import (
    Chunk,
    Conversation,
    Event,
    Frame,
    SpeechOptions,
    TurnEnded,
    TurnStarted,
    VoiceMesh,
    VoiceMeshError,
    Words,
)
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from voicemesh.tts.v1 import tts_pb2
from voicemesh.tts.v1.tts_pb2_grpc import TtsServiceStub

pytestmark = pytest.mark.asyncio(loop_scope="module")

VOICES = json.dumps(
    [
        {"name": name, "engine": "simulated", "replicas": 1, "options": {"rtf": rtf, "char_ms": 20}}
        for name, rtf in (("quick", 0.02), ("steady", 0.3))
    ]
)
TEXT = "Good morning, class. Please open your books. Today we read about the sea and its tides."
PLAIN = SpeechOptions(cache=False, max_lead_ms=60_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    async with running_mesh(
        VOICEMESH_TTS_VOICES=VOICES,
        VOICEMESH_GATEWAY_MAX_CHANNELS="3",
        VOICEMESH_GATEWAY_MAX_LISTENERS="5",
        VOICEMESH_GATEWAY_CHANNEL_BACKLOG_S="5",
    ) as running:
        yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def no_channel_is_left(mesh: Mesh) -> AsyncIterator[None]:
    yield
    async with asyncio.timeout(20), VoiceMesh(mesh.address("gateway")) as client:
        while True:
            rooms = [client.converse(channel=f"left {n}") for n in range(3)]
            try:
                done = [await (await room.say("Free.")).collect() for room in rooms]
            except VoiceMeshError:
                continue
            finally:
                for room in rooms:
                    await room.aclose()
            assert len(done) == 3
            return


async def spoken(mesh: Mesh) -> int:
    async with grpc.aio.insecure_channel(mesh.address("tts")) as channel:
        stats = await TtsServiceStub(channel).GetPoolStats(tts_pb2.GetPoolStatsRequest())
        return sum(pool.completed_chunks + pool.cancelled_chunks for pool in stats.pools)


class Pupil:
    """A member that listens: keeps the events of every turn that others begin."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._news = asyncio.Event()
        self.turns: dict[str, list[Event]] = {}
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for turn in self._conversation.turns():
            events = self.turns.setdefault(turn.turn_id, [])
            async for event in turn:
                events.append(event)
                self._news.set()

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not done():
                self._news.clear()
                await self._news.wait()

    async def whole(self, turn_id: str) -> list[Event]:
        """Return the events of a turn once it has ended."""
        await self.until(lambda: isinstance(self.turns.get(turn_id, [None])[-1], TurnEnded))
        return self.turns[turn_id]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._conversation.aclose()


@contextlib.asynccontextmanager
async def pupil(mesh: Mesh, channel: str, **options: Any) -> AsyncIterator[Pupil]:
    async with VoiceMesh(mesh.address("gateway")) as client:
        one = Pupil(client.converse(channel=channel, listen_only=True, **options))
        yield one
        await one.close()


@contextlib.asynccontextmanager
async def teacher(mesh: Mesh, channel: str, voice: str = "quick") -> AsyncIterator[Conversation]:
    async with (
        VoiceMesh(mesh.address("gateway")) as client,
        client.converse(channel=channel, voice=voice, speech=PLAIN) as conversation,
    ):
        await (await conversation.say("Settle down.")).collect()
        yield conversation


async def all_there(conversation: Conversation, *pupils: Pupil) -> None:
    """Say short things until every pupil has heard one."""
    while not all(one.turns for one in pupils):
        await (await conversation.say("Yes.")).collect()


def audio(events: list[Event]) -> bytes:
    return b"".join(event.audio for event in events if isinstance(event, Frame))


def in_order(events: list[Event]) -> None:
    offset = None
    for frame in (event for event in events if isinstance(event, Frame)):
        assert offset in (None, frame.turn_offset_samples)
        offset = frame.turn_offset_samples + len(frame.audio) // 2


async def test_three_listeners_hear_one_synthesis(mesh: Mesh) -> None:
    words = SpeechOptions(word_timings=True)
    async with (
        teacher(mesh, "class") as host,
        pupil(mesh, "class", speech=words) as one,
        pupil(mesh, "class") as two,
    ):
        await all_there(host, one, two)
        before = await spoken(mesh)
        turn = await host.say(TEXT)
        own = [event async for event in turn]
        heard = [await one.whole(turn.turn_id), await two.whole(turn.turn_id)]
        assert await spoken(mesh) - before == sum(isinstance(event, Chunk) for event in own)
    for events in heard:
        assert isinstance(events[0], TurnStarted)
        assert audio(events) == audio(own)
        in_order(events)
    assert [event for event in heard[0] if isinstance(event, Words)]
    assert not [event for event in (*own, *heard[1]) if isinstance(event, Words)]


async def test_late_ones_join_at_the_beginning_or_where_it_is(mesh: Mesh) -> None:
    first_part, second_part = asyncio.Event(), asyncio.Event()

    async def words() -> AsyncIterator[str]:
        yield TEXT + " "
        first_part.set()
        await second_part.wait()
        yield TEXT

    async with teacher(mesh, "late") as host:
        turn = await host.say(words())
        events = aiter(turn)
        own: list[Event] = []
        while len(audio(own)) < 48_000:
            own.append(await anext(events))
        async with pupil(mesh, "late", join="now") as now, pupil(mesh, "late", join="beginning") as all_of_it:
            await now.until(lambda: bool(now.turns))
            await all_of_it.until(lambda: bool(all_of_it.turns))
            second_part.set()
            own += [event async for event in events]
            late, beginning = await now.whole(turn.turn_id), await all_of_it.whole(turn.turn_id)
    assert audio(beginning) == audio(own)
    assert isinstance(late[0], TurnStarted)
    in_order(late)
    first = next(event for event in late if isinstance(event, Frame))
    assert first.turn_offset_samples > 0
    assert audio(own)[2 * first.turn_offset_samples :] == audio(late)


async def test_one_that_does_not_read_holds_up_nobody_and_learns_what_it_missed(mesh: Mesh) -> None:
    async with (
        teacher(mesh, "slow") as host,
        pupil(mesh, "slow") as one,
        # Without probes the connection holds 64 KB, and what is not read stays with the gateway.
        grpc.aio.insecure_channel(mesh.address("gateway"), options=[("grpc.http2.bdp_probe", 0)]) as channel,
    ):
        stub: Any = GatewayServiceStub(channel)
        deaf = stub.Converse()
        await deaf.write(pb.ConverseRequest(configure=pb.Configure(channel="slow", listen_only=True)))
        short = await host.say("Yes.")
        await short.collect()
        while (await deaf.read()).WhichOneof("event") != "turn_completed":  # it is there
            pass
        await all_there(host, one)
        turn = await host.say(TEXT * 25)
        own = [event async for event in turn]
        heard = await one.whole(turn.turn_id)
        assert turn.report is not None
        assert turn.report.outcome == "completed"
        assert turn.report.audio_ms > 30_000
        assert audio(heard) == audio(own)
        await deaf.done_writing()
        missed_ms = frames_ms = 0.0
        while (response := await deaf.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined] # the stubs lack it
            missed_ms += response.degraded.skipped_ms
            if response.frame.turn_id == turn.turn_id:
                frames_ms += len(response.frame.audio) / 48
        assert missed_ms > 5_000, (missed_ms, frames_ms, turn.report.audio_ms)
        assert missed_ms + frames_ms == pytest.approx(turn.report.audio_ms, abs=10)


async def test_the_turn_goes_on_when_its_host_leaves_and_who_is_left_may_begin_the_next(mesh: Mesh) -> None:
    async with pupil(mesh, "leave", voice="steady") as one:
        async with VoiceMesh(mesh.address("gateway")) as client:
            host = client.converse(channel="leave", voice="steady")
            while not one.turns:
                await (await host.say("Yes.")).collect()
            turn = await host.say(TEXT)
            await one.until(lambda: bool(audio(one.turns.get(turn.turn_id, []))))
            await host.aclose()
        events = await one.whole(turn.turn_id)
        assert isinstance(events[-1], TurnEnded)
        assert events[-1].report.outcome == "completed"
        async with VoiceMesh(mesh.address("gateway")) as client:
            again = await client.say("It goes on.", voice="steady").collect()
            room = client.converse(channel="leave")
            recording = await (await room.say("It goes on.")).collect()
        assert recording.audio == again.audio


async def test_any_member_ends_the_present_turn_by_beginning_the_next(mesh: Mesh) -> None:
    async with (
        teacher(mesh, "both", voice="steady") as one,
        VoiceMesh(mesh.address("gateway")) as client,
        client.converse(channel="both") as two,
    ):
        first = await one.say(TEXT * 10)
        events = aiter(first)
        while not isinstance(await anext(events), Frame):
            pass
        recording = await (await two.ask("And you?")).collect()
        async for _ in events:
            pass
    assert first.report is not None
    assert first.report.outcome == "interrupted"
    assert recording.report.outcome == "completed"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"speech": SpeechOptions(speed=2)}, "configure.speech.speed"),
        ({"speech": SpeechOptions(policy="sentence")}, "configure.speech.chunk_policy"),
        ({"speech": SpeechOptions(max_lead_ms=900)}, "configure.speech.max_lead_ms"),
        ({"system_prompt": "Be brief."}, "configure.system_prompt"),
        ({"session_id": "another"}, "configure.session_id"),
        ({"reply_cache": False}, "configure.bypass_reply_cache"),
        ({"voice": "steady"}, "configure.speech.voice"),
    ],
)
async def test_who_joins_must_want_the_same(mesh: Mesh, options: dict[str, Any], field: str) -> None:
    async with (
        teacher(mesh, "same"),
        VoiceMesh(mesh.address("gateway")) as client,
        client.converse(channel="same", **options) as guest,
    ):
        with pytest.raises(VoiceMeshError) as raised:
            await anext(guest.turns())
    assert raised.value.reason == "INVALID_FIELD"
    assert field in raised.value.message


async def test_who_only_listens_may_not_speak_and_a_channel_is_paced(mesh: Mesh) -> None:
    async with VoiceMesh(mesh.address("gateway")) as client:
        async with client.converse(channel="quiet", listen_only=True) as pupil:
            with pytest.raises(VoiceMeshError) as raised:
                await (await pupil.say("May I?")).collect()
        assert raised.value.reason == "OUT_OF_ORDER"
        async with client.converse(channel="quick", speech=SpeechOptions(max_lead_ms=0)) as host:
            with pytest.raises(VoiceMeshError) as raised:
                await anext(host.turns())
        assert "max_lead_ms" in raised.value.message


async def test_places_for_channels_and_listeners_are_limited(mesh: Mesh) -> None:
    async with VoiceMesh(mesh.address("gateway")) as client, contextlib.AsyncExitStack() as stack:
        for number in range(3):
            room = await stack.enter_async_context(client.converse(channel=f"room {number}"))
            await (await room.say("Here.")).collect()
        with pytest.raises(VoiceMeshError) as raised:
            await (await client.converse(channel="one more").say("And here.")).collect()
        assert raised.value.reason == "TOO_MANY_TURNS"
        for _ in range(4):
            room = await stack.enter_async_context(client.converse(channel="room 0"))
            await (await room.say("Me too.")).collect()
        with pytest.raises(VoiceMeshError) as raised:
            await (await client.converse(channel="room 0").say("And me.")).collect()
        assert raised.value.reason == "TOO_MANY_TURNS"


async def test_frames_of_a_channel_have_one_format(mesh: Mesh) -> None:
    async with teacher(mesh, "format"), grpc.aio.insecure_channel(mesh.address("gateway")) as channel:
        stub: Any = GatewayServiceStub(channel)
        call = stub.Converse()
        speech = pb.SpeechOptions(format=common_pb2.AudioFormat(sample_rate_hz=8000))
        await call.write(pb.ConverseRequest(configure=pb.Configure(channel="format", speech=speech)))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
    assert "configure.speech.format.sample_rate_hz" in (raised.value.details() or "")
