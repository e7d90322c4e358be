"""Drafts over the real mesh: a head start where they are confirmed, no trace where they are not."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tests.support.mesh import Mesh, running_mesh
from tests.support.openai_server import OpenAiServer, Reply, tokens_of
from voicemesh.client import Frame, SpeechOptions, TextDelta, TurnStarted, VoiceMesh, VoiceMeshError
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from voicemesh.stages import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNPACED = SpeechOptions(max_lead_ms=0)
DRAFT_S = 2.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def llm() -> AsyncIterator[OpenAiServer]:
    async with OpenAiServer(
        default=Reply(tokens=tokens_of("It is so. That is all there is to say."))
    ) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(llm: OpenAiServer) -> AsyncIterator[Mesh]:
    environment = {"OPENAI_BASE_URL": llm.base_url, "OPENAI_API_KEY": "none"}
    async with running_mesh(VOICEMESH_GATEWAY_DRAFT_S=str(DRAFT_S), **environment) as running:
        yield running


def questions(llm: OpenAiServer, number: int) -> list[str]:
    """Return what the user said in the messages of a request."""
    messages = llm.requests[number].body["messages"]
    return [message["content"] for message in messages if message["role"] == "user"]


async def answered(llm: OpenAiServer, number: int) -> None:
    request = await llm.request(number)
    await request.answered.wait()


async def test_a_confirmed_draft_is_there_at_once_and_counts_from_its_confirmation(
    client: VoiceMesh, llm: OpenAiServer
) -> None:
    before = len(llm.requests)
    async with client.converse(speech=UNPACED) as conversation:
        turn = await conversation.draft("Why is it so?")
        await answered(llm, before)
        await asyncio.wait_for(_audio_is_stored(client), 10)
        assert turn.inbox_size == 0
        assert await conversation.confirm() is turn
        recording = await turn.collect()
    report = recording.report
    assert report.outcome == "completed"
    assert recording.text == "It is so. That is all there is to say."
    assert report.head_start_ms > 0
    assert sum(report.stages.values()) + report.unattributed_ms == pytest.approx(report.ttfa_ms, abs=0.01)
    assert report.stages[Stage.LLM_TTFT] == report.stages[Stage.LLM_CONNECT] == 0
    assert len(llm.requests) == before + 1


async def _audio_is_stored(client: VoiceMesh) -> None:
    """Wait until the first chunk of the reply has been spoken to its end, by the cache's knowledge of it."""
    while True:
        said = await client.say("It is so.", speech=UNPACED).collect()
        if said.report.chunks[0].cache == "memory":
            return


async def test_a_prompt_that_says_the_same_confirms_and_another_one_replaces(
    client: VoiceMesh, llm: OpenAiServer
) -> None:
    before = len(llm.requests)
    async with client.converse(speech=UNPACED) as conversation:
        await conversation.draft("Where is", turn_id="a")
        await answered(llm, before)
        dropped = await conversation.draft("Where is the tar", turn_id="b")
        await answered(llm, before + 1)
        turn = await conversation.ask("Where is the harbour?")
        first = await turn.collect()
        assert dropped.report is not None
        assert dropped.report.outcome == "interrupted"
        second = await (await conversation.ask("And the next one?")).collect()
    assert first.report.head_start_ms == 0
    assert second.report.outcome == "completed"
    assert questions(llm, before + 2) == ["Where is the harbour?"]
    assert questions(llm, before + 3) == ["Where is the harbour?", "And the next one?"]


async def test_to_ask_what_was_drafted_confirms_it(client: VoiceMesh) -> None:
    async with client.converse(speech=UNPACED) as conversation:
        draft = await conversation.draft("Where is the pier?")
        turn = await conversation.ask("Where is the pier?")
        assert turn is draft
        assert (await turn.collect()).report.head_start_ms > 0


class Wire:
    """A Converse call at the level of messages."""

    def __init__(self, stub: Any) -> None:
        self.call = stub.Converse()

    async def send(self, **event: Any) -> None:
        await self.call.write(pb.ConverseRequest(**event))

    async def turn(self) -> list[str]:
        """Read up to the end of a turn; return the ids of the turns that were heard of."""
        ids: list[str] = []
        while True:
            response = await self.call.read()
            kind = response.WhichOneof("event")
            message = getattr(response, kind)
            turn_id = message.report.turn_id if kind == "turn_completed" else message.turn_id
            ids += [turn_id] if turn_id not in ids else []
            if kind in ("turn_completed", "turn_failed"):
                return [kind, *ids]

    async def end(self) -> None:
        await self.call.done_writing()
        while await self.call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined] # the stubs lack it
            pass


def prompt(text: str, turn_id: str = "") -> pb.Prompt:
    return pb.Prompt(turn_id=turn_id, parts=[common_pb2.ContentPart(text=text)])


@pytest_asyncio.fixture(loop_scope="module")
async def wire(mesh: Mesh) -> AsyncIterator[Wire]:
    async with grpc.aio.insecure_channel(mesh.address("gateway")) as channel:
        opened = Wire(GatewayServiceStub(channel))
        await opened.send(configure=pb.Configure(speech=pb.SpeechOptions(max_lead_ms=0)))
        yield opened
        await opened.end()


async def test_on_the_wire_nothing_is_heard_of_drafts_that_were_not_meant(
    wire: Wire, llm: OpenAiServer
) -> None:
    before = len(llm.requests)
    await wire.send(draft=prompt("One", "d1"))
    await answered(llm, before)
    await wire.send(draft=prompt("One more", "d2"))
    await answered(llm, before + 1)
    await wire.send(interrupt=pb.Interrupt())
    await wire.send(draft=prompt("  One more time. ", "d3"))
    await answered(llm, before + 2)
    # The same words but for white space, under no id: that is the draft.
    await wire.send(prompt=prompt("One more time."))
    assert await wire.turn() == ["turn_completed", "d3"]
    assert len(llm.requests) == before + 3
    assert questions(llm, before + 2) == ["  One more time. "]


async def test_a_confirmation_of_a_draft_that_was_replaced_is_refused(wire: Wire) -> None:
    await wire.send(draft=prompt("First", "r1"))
    await wire.send(draft=prompt("Second", "r2"))
    await wire.send(confirm=pb.Confirm(turn_id="r1"))
    assert await wire.turn() == ["turn_failed", "r1"]
    await wire.send(confirm=pb.Confirm(turn_id="r2"))
    await wire.send(confirm=pb.Confirm(turn_id="r2"))
    assert await wire.turn() == ["turn_completed", "r2"]


def discarded(mesh: Mesh, turn_id: str) -> bool:
    """Return whether the gateway has let go of a draft."""
    lines = mesh.processes["gateway"].logs
    return any(line["event"] == "draft discarded" and line["turn_id"] == turn_id for line in lines)


async def test_a_draft_that_is_too_old_or_was_refused_is_begun_anew_when_it_is_confirmed(
    client: VoiceMesh, llm: OpenAiServer, mesh: Mesh
) -> None:
    before = len(llm.requests)
    async with client.converse(speech=UNPACED, reply_cache=False) as conversation:
        await conversation.draft("Is it too late?", turn_id="old")
        await answered(llm, before)
        async with asyncio.timeout(20):
            while not discarded(mesh, "old"):  # noqa: ASYNC110 - another process's log
                await asyncio.sleep(0.05)
        turn = await conversation.confirm()
        recording = await turn.collect()
        assert recording.report.outcome == "completed"
        assert recording.report.turn_id == "old"
        assert recording.report.head_start_ms == 0
        assert len(llm.requests) == before + 2
        await conversation.draft("   ")
        turn = await conversation.confirm()
        with pytest.raises(VoiceMeshError) as raised:
            await turn.collect()
        assert raised.value.reason == "INVALID_FIELD"


async def test_a_draft_is_not_heard_but_its_turn_is_whole(client: VoiceMesh) -> None:
    async with client.converse(speech=UNPACED) as conversation:
        turn = await conversation.draft("What do you hear?")
        await conversation.confirm()
        events = [event async for event in turn]
    assert isinstance(events[0], TurnStarted)
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text == "It is so. That is all there is to say."
    offset = 0
    for frame in (event for event in events if isinstance(event, Frame)):
        assert frame.turn_offset_samples == offset
        offset += len(frame.audio) // 2
