"""The attribution holds whatever happens in a turn: one table of cases, over one mesh.

Each case is checked to be what its name says, and then for what must hold of every turn: its stages are
contiguous, none overlaps another, they add up to the time to first audio, and none of it is nobody's.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from tests.support.mesh import Mesh, running_mesh
from tests.support.openai_server import TEXT, OpenAiServer, Reply
from tests.support.redis_server import redis_server
from voicemesh.client import Frame, SpeechOptions, Turn, TurnReport, VoiceMesh, VoiceMeshError
from voicemesh.stages import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

GUARD_S = 60.0
TRIES = 5
KEPT = "Is this kept for others?"
TWO = "The first sentence is here to be heard. The second one is here as well."
VOICES = json.dumps(
    [
        {"name": name, "engine": "simulated", "options": {"char_ms": 20, **options}, **more}
        for name, options, more in (
            ("quick", {"first_frame_ms": 5}, {}),
            ("slow", {"first_frame_ms": 100, "rtf": 0.5}, {}),
            ("failing", {"failure_rate": 1.0, "first_frame_ms": 5}, {"fallback": ["quick"]}),
            ("silent", {"zero_audio_rate": 1.0}, {}),
            ("crashing", {"crash_rate": 1.0, "troubled_attempts": 1, "rtf": 0.01}, {"replicas": 2}),
        )
    ]
)


@dataclass
class World:
    """What a case can use, and the reports of its turns."""

    mesh: Mesh
    client: VoiceMesh
    first: OpenAiServer
    second: OpenAiServer
    reports: list[TurnReport] = field(default_factory=list)

    async def hear(self, turn: Turn) -> TurnReport:
        """Hear a turn to its end; one that fails has a report, too."""
        with contextlib.suppress(VoiceMeshError):
            await turn.collect()
        assert turn.report is not None
        self.reports.append(turn.report)
        return turn.report

    async def ask(self, prompt: str, voice: str = "quick", *, cache: bool = True) -> TurnReport:
        return await self.hear(self.client.ask(prompt, speech=spoken(voice, cache=cache)))

    async def say(self, text: str, voice: str = "quick", *, cache: bool = True) -> TurnReport:
        return await self.hear(self.client.say(text, speech=spoken(voice, cache=cache)))


def spoken(voice: str = "quick", *, cache: bool = True) -> SpeechOptions:
    return SpeechOptions(voice=voice, max_lead_ms=0, cache=cache)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    async with redis_server() as redis, OpenAiServer() as first, OpenAiServer() as second:
        providers = [
            {"name": "first", "base_url": first.base_url, "model": "a"},
            {"name": "second", "base_url": second.base_url, "model": "b", "max_retries": 0},
        ]
        async with (
            running_mesh(
                VOICEMESH_TTS_VOICES=VOICES,
                VOICEMESH_LLM_PROVIDERS=json.dumps(providers),
                VOICEMESH_LLM_HEDGE_PERCENT="100",
                VOICEMESH_LLM_RETRY_PERCENT="100",
                VOICEMESH_REDIS_URL=redis.url,
                VOICEMESH_CACHE_ADMIT_REQUESTS="1",
                VOICEMESH_GATEWAY_CACHE_BREAKER_S="0.1",
            ) as mesh,
            VoiceMesh(mesh.address("gateway")) as client,
        ):
            world = World(mesh, client, first, second)
            await world.ask(KEPT)
            await mesh.processes["cache"].stop()
            await mesh.start("cache")  # what it had in memory is in Redis alone
            async with asyncio.timeout(GUARD_S):
                while "cache" in (await world.say("Is it back?", "slow")).degraded:
                    pass  # the gateway holds it off for a moment
            yield world


async def cached_in_redis(world: World) -> None:
    report = await world.ask(KEPT)
    assert report.reply_cache == "hit"
    assert {chunk.cache for chunk in report.chunks} == {"redis"}


async def cached_in_memory(world: World) -> None:
    assert (await world.ask("Is this kept?")).reply_cache == "miss"
    again = await world.ask("Is this kept?")
    assert again.reply_cache == "hit"
    assert {chunk.cache for chunk in again.chunks} == {"memory"}


async def interrupted(world: World) -> None:
    async with world.client.converse(speech=spoken("slow", cache=False)) as conversation:
        turn = await conversation.ask("Go on and on?")
        async for event in turn:
            if isinstance(event, Frame):
                await conversation.interrupt()
        assert turn.report is not None
        assert turn.report.outcome == "interrupted"
        world.reports.append(turn.report)


async def interrupted_before_it_is_heard(world: World) -> None:
    world.first.script(Reply(hangs_after=0))
    async with world.client.converse(speech=spoken()) as conversation:
        before = len(world.first.requests)
        turn = await conversation.ask("Never answered?")
        await world.first.request(before)
        await conversation.interrupt()
        report = (await turn.collect()).report
    assert (report.outcome, report.ttfa_ms) == ("interrupted", 0)
    world.reports.append(report)


async def failed_at_once(world: World) -> None:
    world.first.script(Reply.error(400))
    report = await world.ask("Refused?")
    assert (report.outcome, report.ttfa_ms) == ("failed", 0)


async def retried(world: World) -> None:
    before = len(world.first.requests)
    world.first.script(Reply.error(503), Reply(header_delay_s=0.02))
    report = await world.ask("Once more?", cache=False)
    assert report.outcome == "completed"
    assert len(world.first.requests) + len(world.second.requests) >= before + 2


async def another_model(world: World) -> None:
    world.first.script(*(Reply.error(503) for _ in range(4)))
    report = await world.ask("Who else?", cache=False)
    assert report.outcome == "completed"


async def resumed_by_the_model(world: World) -> None:
    world.first.script(Reply(cut_after=12))
    report = await world.ask("Go on?")
    assert "resumed" in report.degraded
    assert report.text == TEXT


async def hedged(world: World) -> None:
    # Of what is usual, so many must be known.
    await asyncio.gather(*(world.ask(f"How late is usual, {number}?") for number in range(20)))
    world.first.script(Reply(hangs_after=0))
    report = await world.ask("Who is faster?", cache=False)
    assert "model" in report.degraded


async def resumed_by_another_replica(world: World) -> None:
    report = await world.say(TWO, "crashing", cache=False)
    assert "resumed" in report.degraded


async def a_stand_in_voice(world: World) -> None:
    report = await world.say(TWO, "failing", cache=False)
    assert "voice" in report.degraded


async def spoken_by_the_caller(world: World) -> None:
    report = await world.say(TWO, "silent", cache=False)
    assert report.degraded == ("local_speech",)
    assert report.ttfa_ms == 0


async def shared(world: World) -> None:
    for number in range(TRIES):
        if await heard_together(world, f"{number} and more want to hear this at the very same time."):
            return
    pytest.fail("nobody came while another turn had the audio made")


async def heard_together(world: World, text: str) -> bool:
    """Say a text while it is being said; return whether all of it was shared: a busy machine may be late."""
    leader = world.client.say(text, speech=spoken("slow"))
    followers: list[asyncio.Task[TurnReport]] = []
    async for event in leader:
        if isinstance(event, Frame) and not followers:
            followers = [asyncio.create_task(world.say(text, "slow")) for _ in range(3)]
    assert leader.report is not None
    world.reports.append(leader.report)
    reports = await asyncio.gather(*followers)
    return bool(reports) and all({chunk.cache for chunk in one.chunks} == {"shared"} for one in reports)


async def drafted(world: World) -> None:
    async with world.client.converse(speech=spoken()) as conversation:
        await conversation.draft("Why is it")
        turn = await conversation.draft("Why is it so late?")
        before = len(world.first.requests)
        await world.first.request(before - 1)
        assert await conversation.confirm() is turn
        report = await world.hear(turn)
    assert report.outcome == "completed"
    assert report.head_start_ms > 0


async def words_of_the_callers_own(world: World) -> None:
    async def words() -> AsyncIterator[str]:
        for word in TWO.split():
            yield f"{word} "

    async with world.client.converse(speech=spoken(cache=False)) as conversation:
        report = await world.hear(await conversation.say(words()))
    assert len(report.chunks) >= 2


async def a_batch(world: World) -> None:
    texts = ["One of a batch.", "Two of a batch.", "One of a batch."]
    async for item in world.client.speak_batch(texts, speech=spoken()):
        assert item.recording is not None
        world.reports.append(item.recording.report)


CASES: tuple[Callable[[World], Awaitable[None]], ...] = (
    cached_in_redis,  # before others that say the same
    cached_in_memory,
    interrupted,
    interrupted_before_it_is_heard,
    failed_at_once,
    resumed_by_the_model,
    hedged,
    retried,
    another_model,
    resumed_by_another_replica,
    a_stand_in_voice,
    spoken_by_the_caller,
    shared,
    drafted,
    words_of_the_callers_own,
    a_batch,
)


def holds(report: TurnReport) -> None:
    """Assert what must hold of every turn."""
    assert report.attribution_violations == (), report
    assert report.excess_ms == 0, report
    total_ms = sum(report.stages.values()) + report.unattributed_ms
    assert total_ms == pytest.approx(report.ttfa_ms, abs=1), report
    assert abs(report.unattributed_ms) <= report.ttfa_ms / 100, report
    assert all(duration_ms >= 0 for duration_ms in report.stages.values()), report
    assert report.leading_silence_ms <= report.audio_ms
    assert sum(report.hops.values()) == pytest.approx(report.stages[Stage.TRANSPORT], abs=1), report
    for chunk in report.chunks:
        path_ms = sum(chunk.stages.values()) + chunk.paced_ms + chunk.unattributed_ms
        assert path_ms == pytest.approx(chunk.path_ms, abs=0.01), report
        assert chunk.unattributed_ms <= chunk.path_ms / 100, report
        heard = chunk.audio_ms > 0 and report.ttfa_ms > 0
        assert (chunk.path_ms > 0) == heard, report
    later = [chunk for chunk in report.chunks if chunk.audio_ms > 0][1:]
    assert all(chunk.slack_ms is not None for chunk in later), report


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_the_attribution_holds(world: World, case: Callable[[World], Awaitable[None]]) -> None:
    world.reports.clear()
    async with asyncio.timeout(GUARD_S):
        await case(world)
    assert world.reports
    for report in world.reports:
        holds(report)


async def test_no_turn_broke_a_rule(world: World) -> None:
    lines = world.mesh.processes["gateway"].logs
    assert not [line for line in lines if line["event"] == "attribution violated"]
