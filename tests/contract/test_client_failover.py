"""The client and gateways that die, over real gRPC: before the first frame, behind it, between turns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.contract.fake_gateway import FakeGateway, serve
from tests.contract.test_runtime_vanished import swallowing_proxy
from voicemesh.client import Degraded, Event, Frame, TextDelta, TurnStarted, VoiceMesh, VoiceMeshError

GUARD_S = 30.0


class Pair:
    """Two gateways; the first can be killed."""

    def __init__(self) -> None:
        self.first, self.second = FakeGateway(), FakeGateway()
        self.addresses: list[str] = []
        self._life = AsyncExitStack()

    async def start(self, stack: AsyncExitStack) -> None:
        self.addresses = [
            await self._life.enter_async_context(serve(self.first)),
            await stack.enter_async_context(serve(self.second)),
        ]
        stack.push_async_callback(self.kill_first)

    async def kill_first(self) -> None:
        await self._life.aclose()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with asyncio.timeout(GUARD_S), AsyncExitStack() as stack:
        both = Pair()
        await both.start(stack)
        yield both


async def test_a_prompt_is_asked_again_where_nothing_was_heard_yet(pair):
    """The second one answers `begin` with audio: the fake's prompts have their meaning at the first alone."""
    pair.second.plain = True
    async with VoiceMesh(pair.addresses) as mesh:
        turn = mesh.ask("begin", turn_id="turn-7", session_id="session-9")
        events: list[Event] = []
        async for event in turn:
            events.append(event)
            if isinstance(event, TextDelta) and len(events) == 2:
                await pair.kill_first()
    kinds = [type(event) for event in events]
    assert kinds[:4] == [TurnStarted, TextDelta, Degraded, TurnStarted]
    given_up = events[2]
    assert isinstance(given_up, Degraded)
    assert given_up.what == "gateway"
    assert pair.addresses[0] in given_up.detail
    assert pair.addresses[1] in given_up.detail
    assert kinds.count(Frame) == 2
    assert {event.turn_id for event in events} == {"turn-7"}
    configure, prompt = pair.second.received
    assert configure.configure.session_id == "session-9"
    assert prompt.prompt.turn_id == "turn-7"
    assert turn.report is not None
    assert (turn.report.outcome, turn.report.degraded) == ("completed", ("gateway",))
    assert turn.report.text == "Heard: begin."
    assert pair.second.attempts == ["1"]


async def test_the_session_goes_on_at_the_other_one(pair):
    async with VoiceMesh(pair.addresses) as mesh, mesh.converse() as conversation:
        await (await conversation.ask("Hi")).collect()
        await pair.kill_first()
        recording = await (await conversation.ask("And now?")).collect()
        assert recording.text == "Heard: And now?."
        assert pair.second.received[0].configure.session_id == "session-1"


async def test_a_text_is_spoken_by_the_other_one(pair):
    pair.second.plain = True
    async with VoiceMesh(pair.addresses) as mesh:
        turn = mesh.say("begin")
        events: list[Event] = []
        async for event in turn:
            events.append(event)
            if isinstance(event, TurnStarted) and len(events) == 1:
                await pair.kill_first()
        assert turn.report is not None
        assert turn.report.outcome == "completed"
        assert turn.report.degraded == ("gateway",)
        assert [speech.turn_id for speech in pair.second.speeches] == [turn.turn_id]
        # From now on the other one is asked first.
        await mesh.say("Again.").collect()
        assert len(pair.second.speeches) == 2


async def test_behind_the_first_frame_the_caller_is_told_what_was_heard(pair):
    async with VoiceMesh(pair.addresses) as mesh:
        turn = mesh.ask("hang")

        async def listen() -> None:
            frames = 0
            async for event in turn:
                frames += isinstance(event, Frame)
                if frames == 2:
                    frames = 0
                    await pair.kill_first()

        with pytest.raises(VoiceMeshError, match="after 20 ms of audio") as raised:
            await listen()
        error = raised.value
        assert (error.code, error.reason, error.reached) == ("UNAVAILABLE", "SERVICE_UNAVAILABLE", False)
        assert error.heard_ms is not None
        assert 0 <= error.heard_ms <= 20
        assert error.report is not None
        assert error.report.audio_ms == 20
        assert pair.second.received == []
        assert mesh.asked_now == pair.addresses[1], "the next turn does not find out anew that it is gone"
        assert (await mesh.ask("Hi").collect()).text == "Heard: Hi."


async def test_a_text_that_was_heard_is_not_spoken_again_and_the_next_goes_to_the_other_one(pair):
    async with VoiceMesh(pair.addresses) as mesh:

        async def listen() -> None:
            async for event in mesh.say("hang"):
                if isinstance(event, Frame):
                    await pair.kill_first()

        with pytest.raises(VoiceMeshError, match="of which"):
            await listen()
        assert pair.second.speeches == []
        assert mesh.asked_now == pair.addresses[1]


async def test_nobody_asks_again_where_that_is_switched_off(pair):
    async with VoiceMesh(pair.addresses, asks_again=0) as mesh:
        turn = mesh.ask("begin")

        async def listen() -> None:
            async for event in turn:
                if isinstance(event, TextDelta):
                    await pair.kill_first()

        with pytest.raises(VoiceMeshError) as raised:
            await listen()
        assert not raised.value.reached
        assert raised.value.heard_ms is None
        assert pair.second.received == []


async def test_one_that_is_not_there_at_all_is_passed_over(pair):
    await pair.kill_first()
    async with VoiceMesh(",".join(pair.addresses)) as mesh:
        await mesh.connect()
        assert (await mesh.ask("Hi").collect()).report.degraded == ()
    async with VoiceMesh(pair.addresses) as mesh:
        assert [voice.language for voice in await mesh.voices("de")] == ["de"]
        assert (await mesh.ask("Hi").collect()).text == "Heard: Hi."


async def test_one_that_is_about_to_stop_is_replaced_and_what_others_gave_up_is_not(pair):
    pair.second.plain = True
    async with VoiceMesh(pair.addresses) as mesh:
        with pytest.raises(VoiceMeshError) as raised:
            await mesh.ask("leave after others").collect()
        assert (raised.value.reason, raised.value.retried_by) == ("DRAINING", "gateway")
        recording = await mesh.ask("leave").collect()
        assert recording.text == "Heard: leave."
        assert recording.report.degraded == ("gateway",)


async def test_where_all_are_gone_the_caller_is_told(pair):
    async with VoiceMesh([pair.addresses[0], "127.0.0.1:1"]) as mesh:
        turn = mesh.ask("begin")

        async def listen() -> None:
            async for event in turn:
                if isinstance(event, TextDelta):
                    await pair.kill_first()

        with pytest.raises(VoiceMeshError) as raised:
            await listen()
        assert raised.value.reason == "SERVICE_UNAVAILABLE"


async def test_a_turn_is_explained_by_whoever_remembers_it(pair):
    async with VoiceMesh(pair.addresses) as mesh:
        await mesh.ask("Hi", turn_id="of-the-first").collect()
        async with VoiceMesh(pair.addresses[::-1]) as other:
            await other.ask("Hi", turn_id="of-the-second").collect()
            for turn_id in ("of-the-first", "of-the-second"):
                assert (await other.explain(turn_id)).turn_id == turn_id
            with pytest.raises(VoiceMeshError) as raised:
                await other.explain("of-nobody")
            assert raised.value.reason == "UNKNOWN_TURN"


@pytest.mark.parametrize("prompt", ["begin", "hang"])
async def test_one_that_is_stopped_is_noticed_by_its_pings(pair, prompt):
    """Its machine acknowledges what is sent, and it says nothing any more."""
    pair.second.plain = True
    port = int(pair.addresses[0].rpartition(":")[2])
    async with (
        swallowing_proxy(port) as (proxied, stopped),
        VoiceMesh([f"127.0.0.1:{proxied}", pair.addresses[1]], stall_s=0.8) as mesh,
    ):
        turn = mesh.ask(prompt)
        last = TextDelta if prompt == "begin" else Frame

        async def listen() -> None:
            async for event in turn:
                if isinstance(event, last):
                    stopped.set()

        if prompt == "begin":
            await listen()
            assert turn.report is not None
            assert turn.report.degraded == ("gateway",)
        else:
            with pytest.raises(VoiceMeshError, match="ms were played"):
                await listen()
