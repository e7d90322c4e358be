"""Phrases are warmed when their voice is ready, again when it changes, and again after a while."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.warming import AGAIN_S, Warmed, Warmer, outcome_of
from tests.support.virtual_time import VirtualLoop
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.phrases import Phrase
from voicemesh.runtime.errors import DrainingError, NoEngineError

EVERY_S = 3600.0
POLL_S = 1.0
LIST = (Phrase(text="Great job!"), Phrase(text="Nice try!"), Phrase(text="Guten Tag.", voice="berta"))


class World:
    """Voices with revisions, and a cache that has what was spoken with them; attributes are the script."""

    def __init__(self) -> None:
        self.revisions = {"": "r1", "berta": ""}
        self.kept: set[tuple[str, str]] = set()
        self.said: list[str] = []
        self.answers = True
        self.takes_s = 0.0
        self.refuses: Exception | None = None
        self.warmer = Warmer(LIST, self.revisions.__getitem__, self.speak, every_s=EVERY_S, poll_s=POLL_S)

    async def speak(self, phrase: Phrase) -> Warmed:
        await asyncio.sleep(self.takes_s)
        if self.refuses is not None:
            raise self.refuses
        entry = phrase.text, self.revisions[phrase.voice]
        if entry in self.kept:
            return Warmed.PRESENT
        self.said.append(phrase.text)
        if not self.answers:
            return Warmed.NOT_KEPT
        self.kept.add(entry)
        return Warmed.SPOKEN


def play(script: Callable[[World], Awaitable[None]]) -> World:
    world = World()

    async def run() -> None:
        warming = asyncio.create_task(world.warmer.run())
        try:
            await script(world)
        finally:
            warming.cancel()
            await asyncio.gather(warming, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
    return world


def test_each_voice_is_warmed_when_it_is_ready() -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(10)
        assert world.said == ["Great job!", "Nice try!"]
        world.revisions["berta"] = "b1"
        await asyncio.sleep(2)
        assert world.said == ["Great job!", "Nice try!", "Guten Tag."]

    play(script)


def test_a_new_revision_is_warmed_and_the_other_voices_are_left_alone() -> None:
    async def script(world: World) -> None:
        world.revisions["berta"] = "b1"
        await asyncio.sleep(5)
        world.said.clear()
        world.revisions["berta"] = "b2"
        await asyncio.sleep(2)
        assert world.said == ["Guten Tag."]

    play(script)


def test_what_has_expired_is_spoken_at_the_next_round() -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(5)
        world.said.clear()
        world.kept.discard(("Nice try!", "r1"))
        await asyncio.sleep(EVERY_S - 10)
        assert world.said == []
        await asyncio.sleep(10)
        assert world.said == ["Nice try!"]

    play(script)


def test_a_round_ends_where_nothing_is_kept_and_is_tried_again() -> None:
    async def script(world: World) -> None:
        world.answers = False
        await asyncio.sleep(AGAIN_S - 2)
        assert world.said == ["Great job!"]  # and no more for nothing
        world.answers = True
        await asyncio.sleep(5)
        assert world.said == ["Great job!", "Great job!", "Nice try!"]

    play(script)


def test_a_voice_that_changes_during_its_round_is_begun_anew() -> None:
    async def script(world: World) -> None:
        world.takes_s = 1.0
        await asyncio.sleep(0.5)
        world.revisions[""] = "r2"
        await asyncio.sleep(10)
        assert world.kept == {("Great job!", "r2"), ("Nice try!", "r2")}

    play(script)


def test_what_cannot_be_spoken_does_not_keep_the_others_waiting() -> None:
    async def script(world: World) -> None:
        world.refuses = NoEngineError("broken")
        await asyncio.sleep(5)
        world.refuses = None
        await asyncio.sleep(AGAIN_S)
        assert world.said == ["Great job!", "Nice try!"]

    play(script)


def test_it_ends_when_the_gateway_drains() -> None:
    world = World()
    world.refuses = DrainingError("shutting down", retry_after_ms=0)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(world.warmer.run())


@pytest.mark.parametrize(
    ("degraded", "caches", "outcome"),
    [
        ([], [pb.CACHE_OUTCOME_MEMORY, pb.CACHE_OUTCOME_REDIS], Warmed.PRESENT),
        ([], [pb.CACHE_OUTCOME_MEMORY, pb.CACHE_OUTCOME_MISS], Warmed.SPOKEN),
        ([pb.DEGRADATION_CACHE], [pb.CACHE_OUTCOME_MISS], Warmed.NOT_KEPT),
        ([pb.DEGRADATION_VOICE], [pb.CACHE_OUTCOME_MISS], Warmed.NOT_KEPT),
        ([pb.DEGRADATION_RESUMED], [pb.CACHE_OUTCOME_MISS], Warmed.SPOKEN),
    ],
)
def test_the_report_says_what_came_of_a_phrase(
    degraded: list[pb.Degradation.ValueType], caches: list[pb.CacheOutcome.ValueType], outcome: Warmed
) -> None:
    chunks = [pb.ChunkReport(cache=cache) for cache in caches]
    assert outcome_of(pb.TurnReport(degraded=degraded, chunks=chunks)) is outcome
