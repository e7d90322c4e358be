"""Turns that want the same audio at the same time, through two gateways: one synthesis, heard by all."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import pytest
import pytest_asyncio

from tests.support.mesh import Mesh, running_mesh
from voicemesh.client import Degraded, Frame, SpeechOptions, Turn, TurnEnded, TurnReport, VoiceMesh
from voicemesh.tts.v1 import tts_pb2
from voicemesh.tts.v1.tts_pb2_grpc import TtsServiceStub

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNPACED = SpeechOptions(max_lead_ms=0)
VOICES = json.dumps(
    [
        {
            "name": "slow",
            "engine": "simulated",
            "replicas": 1,
            "options": {"first_frame_ms": 100, "rtf": 0.4, "slots": 16},
        }
    ]
)
"""Its chunk of five seconds takes two: whatever a test does in the middle of it is in the middle of it."""
OTHER = "gateway-other"


@dataclass
class Heard:
    """One turn, as it comes."""

    turn: Turn
    audio: bytearray = field(default_factory=bytearray)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    degraded: list[str] = field(default_factory=list)
    report: TurnReport | None = None
    listening: "asyncio.Task[None] | None" = None

    async def listen(self) -> None:
        """Hear all of it."""
        async for event in self.turn:
            if isinstance(event, Frame):
                self.audio += event.audio
                self.began.set()
            elif isinstance(event, Degraded):
                self.degraded.append(event.what)
            elif isinstance(event, TurnEnded):
                self.report = event.report

    async def end(self) -> TurnReport:
        """Wait for its end."""
        assert self.listening is not None
        async with asyncio.timeout(60):
            await self.listening
        assert self.report is not None
        return self.report


def hear(turn: Turn) -> Heard:
    """Begin to listen to a turn."""
    heard = Heard(turn)
    heard.listening = asyncio.create_task(heard.listen())
    return heard


async def begin(client: VoiceMesh, text: str) -> Heard:
    """Begin to speak a text; return once its first frame is there."""
    heard = hear(client.say(text, speech=UNPACED))
    async with asyncio.timeout(60):
        await heard.began.wait()
    return heard


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    async with running_mesh(VOICEMESH_TTS_VOICES=VOICES, VOICEMESH_GATEWAY_CACHE_BREAKER_S="0.1") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def other(mesh: Mesh) -> AsyncIterator[VoiceMesh]:
    """A client of another gateway, which a test may kill."""
    await mesh.start(OTHER)
    async with VoiceMesh(mesh.address(OTHER)) as opened:
        yield opened
    process = mesh.processes.pop(OTHER)
    with contextlib.suppress(ProcessLookupError):
        await process.kill()


async def syntheses(mesh: Mesh) -> tuple[int, int]:
    """Return how many chunks were spoken to their end, and how many were cancelled."""
    async with grpc.aio.insecure_channel(mesh.address("tts")) as channel:
        stats = await TtsServiceStub(channel).GetPoolStats(tts_pb2.GetPoolStatsRequest())
    (pool,) = stats.pools
    return pool.completed_chunks, pool.cancelled_chunks


async def alone(client: VoiceMesh, text: str) -> bytes:
    """Return what a turn hears that shares nothing."""
    recording = await client.say(text, speech=SpeechOptions(max_lead_ms=0, cache=False)).collect()
    assert len(recording.report.chunks) == 1
    return recording.audio


def adds_up(report: TurnReport) -> None:
    assert sum(report.stages.values()) + report.unattributed_ms == pytest.approx(report.ttfa_ms, abs=0.01)
    assert abs(report.unattributed_ms) <= report.ttfa_ms / 100


def cache_of(report: TurnReport) -> list[str]:
    return [chunk.cache for chunk in report.chunks]


async def test_turns_of_two_gateways_hear_one_synthesis(
    client: VoiceMesh, other: VoiceMesh, mesh: Mesh
) -> None:
    text = "The ferry to the northern islands leaves from the eastern pier at half past nine."
    before, _ = await syntheses(mesh)
    leader = await begin(client, text)
    followers = [hear(asked.say(text, speech=UNPACED)) for asked in (client, other, client, other)]
    reports = [await heard.end() for heard in (leader, *followers)]
    after, _ = await syntheses(mesh)
    assert after - before == 1
    assert [cache_of(report) for report in reports] == [["miss"], *[["shared"]] * 4]
    assert {bytes(heard.audio) for heard in (leader, *followers)} == {await alone(client, text)}
    for report in reports:
        adds_up(report)
    kept = await client.say(text, speech=UNPACED).collect()
    assert cache_of(kept.report) == ["memory"]
    assert kept.audio == bytes(leader.audio)


async def test_a_text_that_comes_twice_in_a_turn_is_spoken_once(client: VoiceMesh, mesh: Mesh) -> None:
    before, _ = await syntheses(mesh)
    text = "That is quite right and well said."
    recording = await client.say(f"{text} {text}", speech=UNPACED).collect()
    after, _ = await syntheses(mesh)
    assert after - before == 1
    assert len(recording.report.chunks) == 2
    half = len(recording.audio) // 2
    assert recording.audio[:half] == recording.audio[half:]


async def test_a_follower_takes_over_from_a_turn_that_was_interrupted(
    client: VoiceMesh, other: VoiceMesh, mesh: Mesh
) -> None:
    text = "A lighthouse keeper writes down the weather of every hour in a book that nobody reads."
    whole = await alone(client, text)
    before = await syntheses(mesh)
    async with client.converse(speech=UNPACED) as conversation:
        leader = hear(await conversation.say(text))
        await leader.began.wait()
        follower = await begin(other, text)
        await conversation.interrupt()
        assert (await leader.end()).outcome == "interrupted"
    report = await follower.end()
    after = await syntheses(mesh)
    assert len(leader.audio) < len(whole)
    assert bytes(follower.audio) == whole
    assert (report.outcome, cache_of(report), follower.degraded) == ("completed", ["shared"], [])
    assert (after[0] - before[0], after[1] - before[1]) == (1, 1)
    adds_up(report)
    kept = await client.say(text, speech=UNPACED).collect()
    assert (cache_of(kept.report), kept.audio) == (["memory"], whole)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stalled"])
async def test_followers_outlive_the_gateway_of_the_one_they_follow(
    client: VoiceMesh, other: VoiceMesh, mesh: Mesh, how: signal.Signals
) -> None:
    text = f"The harbour master was {how.name.lower()} in the middle of what the old pilot had to say."
    whole = await alone(client, text)
    leader = await begin(other, text)
    followers = [await begin(client, text) for _ in range(3)]
    mesh.processes[OTHER].process.send_signal(how)
    reports = [await follower.end() for follower in followers]
    assert {bytes(follower.audio) for follower in followers} == {whole}
    assert [cache_of(report) for report in reports] == [["shared"]] * 3
    for report in reports:
        adds_up(report)
    assert leader.listening is not None
    leader.listening.cancel()
    await asyncio.gather(leader.listening, return_exceptions=True)


async def test_a_cache_that_is_killed_takes_no_sample_from_those_who_follow() -> None:
    text = "Behind the breakwater the boats of the pilots lie beside each other until the tide turns."
    async with (
        running_mesh(VOICEMESH_TTS_VOICES=VOICES) as mesh,
        VoiceMesh(mesh.address("gateway")) as client,
    ):
        whole = await alone(client, text)
        leader = await begin(client, text)
        followers = [await begin(client, text) for _ in range(2)]
        await mesh.processes["cache"].kill()
        reports = [await heard.end() for heard in (leader, *followers)]
        assert {bytes(heard.audio) for heard in (leader, *followers)} == {whole}
        assert [report.outcome for report in reports] == ["completed"] * 3
        assert [follower.degraded for follower in followers] == [["cache"]] * 2
        assert leader.degraded == []
