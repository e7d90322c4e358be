"""First chunks that are late and asked for twice: who wins, what it costs, and that the budget holds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.core.hedging import HedgeBudget
from services.tts.core.model import AudioFormat, ChunkOrder, FinishedEvent, Word
from services.tts.core.turn import Turn
from tests.unit.tts.speaking import nothing_yet, rest, take
from tests.unit.tts.test_fallback import MAIN, SPARE, TEXT, Voices, contiguous, words_of
from voicemesh.runtime.lateness import LEAST_SEEN, Lateness

US = 1000
USUAL_US = 20_000
LATE_MS = 22
"""A tenth more than the usual 20 ms."""


@asynccontextmanager
async def practised(replicas: int = 2, **limits: Any) -> AsyncIterator[Voices]:
    """A voice that has spoken enough first chunks, each after 20 ms, at 1 s of engine time."""
    world = Voices(replace(MAIN, replicas=replicas), SPARE, **limits)
    async with world:
        for _ in range(LEAST_SEEN):
            turn = world.ask("text")
            world.clock.advance_ms(USUAL_US / US)
            asked = next(replica for replica in world.launchers.of("main").replicas if replica.asked)
            asked.make(20)
            asked.finish(us=1_000_000)
            await rest(turn)
        world.watcher.log.clear()
        yield world


def late(world: Voices, text: str = TEXT, **order: Any) -> Turn:
    """Ask for a first chunk, and let it be late."""
    turn = world.ask(text, **order)
    world.clock.advance_ms(LATE_MS)
    world.speech.hedges.poll()
    return turn


async def test_a_late_first_chunk_is_asked_of_another_replica_and_the_first_frame_decides():
    async with practised() as world:
        turn = late(world)
        first, second = world.replica(index=0), world.replica(index=1)
        assert second.last._replace(attempt=0) == first.last  # the same seed: the same samples
        second.say(Word(0, 3, 0))
        second.make(20)
        assert first.cancelled == [first.last_id]
        first.make(20)  # was on its way
        first.say(Word(0, 3, 7))
        (frame,) = await take(turn, 1)
        assert frame.start.replica == "main-1"
        # The engine was late: nothing waited for a replica.
        assert (frame.start.queue_us, frame.start.synthesis_us) == (0, LATE_MS * 1000)
        second.make(30)
        second.finish(us=50_000)
        first.acknowledge(us=30_000)
        events = [frame, *await rest(turn)]
        assert contiguous(events) == 50
        assert words_of(events) == [("one", Word(0, 3, 0))]
        assert isinstance(events[-1], FinishedEvent)
        stats = world.stats()
        assert (stats.hedged_chunks, stats.hedges_won, stats.hedge_us) == (1, 1, 30_000)
        assert (stats.wasted_us, stats.fallback_chunks, stats.replaced_replicas) == (30_000, 0, 0)
        assert ("hedged", "main-1") in world.watcher.log
        leases = [(lease.replica, lease.ended, lease.end_of_leg) for lease in world.watcher.leases[-2:]]
        assert [(replica, ended, end and end.cancelled) for replica, ended, end in leases] == [
            ("main-0", 1, True),
            ("main-1", 1, False),
        ]


async def test_the_one_that_was_asked_first_may_win_after_all():
    async with practised() as world:
        turn = late(world)
        first, second = world.replica(index=0), world.replica(index=1)
        second.say(Word(0, 3, 0))
        first.say(Word(0, 3, 0))
        first.make(20)
        assert second.cancelled == [second.last_id]
        first.finish()
        second.acknowledge(us=9_000)
        events = await rest(turn)
        assert contiguous(events) == 20
        assert words_of(events) == [("one", Word(0, 3, 0))]
        stats = world.stats()
        assert (stats.hedged_chunks, stats.hedges_won, stats.hedge_us) == (1, 0, 9_000)


async def test_where_no_other_replica_is_free_the_next_voice_is_asked():
    async with practised(replicas=1) as world:
        turn = late(world)
        spare = world.replica("spare")
        assert spare.last.text == TEXT
        spare.make(20)
        spare.finish()
        world.replica().acknowledge(us=30_000)
        frame, end = await rest(turn)
        assert (frame.start.voice, frame.start.is_fallback) == ("spare/en-us", True)
        assert isinstance(end, FinishedEvent)
        assert (world.stats().hedges_won, world.stats().fallback_chunks) == (1, 1)


async def test_the_next_model_of_the_same_voice_is_not_asked_in_the_middle_of_a_turn():
    async with practised(replicas=1) as world:
        turn = world.speech.open_turn(world.observe)
        turn.configure("t", "", AudioFormat(), 0)
        world.speech.change([replace(MAIN, options={"model": "next"}), SPARE])
        await world.health.until(lambda: "DRAINING" in {stats.state for stats in world.speech.stats()})
        turn.add(ChunkOrder(0, TEXT))
        world.clock.advance_ms(LATE_MS)
        world.speech.hedges.poll()
        before, after = world.launchers.of("main").replicas
        assert before.last.text == TEXT
        # Its further chunks are spoken by the model that it began with. A fallback is told to the caller.
        assert not after.asked
        assert world.replica("spare").last.text == TEXT
        turn.abandon()


@pytest.mark.parametrize("order", [{"deadline_ms": 1}, {"start_offset_samples": 5}])
async def test_only_first_chunks_are_hedged(order):
    async with practised() as world:
        turn = late(world, **order)
        assert not world.replica(index=1).asked
        turn.abandon()


async def test_nobody_is_asked_twice_while_others_wait():
    async with practised(replicas=1) as world:
        turn, waiting = world.ask("one"), world.ask("two", deadline_ms=500)
        world.clock.advance_ms(LATE_MS)
        world.speech.hedges.poll()
        assert world.stats().hedged_chunks == 0
        assert not world.replica("spare").asked
        turn.abandon()
        waiting.abandon()


async def test_without_budget_or_knowledge_nobody_is_asked_twice():
    async with practised(hedge_percent=0) as world:
        turn = late(world)
        assert not world.replica(index=1).asked
        turn.abandon()
    async with Voices(replace(MAIN, replicas=2), SPARE) as world:
        turn = late(world)
        assert not world.replica(index=1).asked
        turn.abandon()
    async with practised() as world:
        world.speech.hedges.budget.spend(0, 10_000_000)
        turn = late(world)
        assert not world.replica(index=1).asked
        turn.abandon()


async def test_a_cancel_ends_both():
    async with practised() as world:
        turn = late(world)
        turn.abandon()
        first, second = world.replica(index=0), world.replica(index=1)
        assert (len(first.cancelled), len(second.cancelled)) == (1, 1)
        second.acknowledge(us=5_000)
        first.acknowledge(us=25_000)
        stats = world.stats()
        assert (stats.active_leases, stats.hedge_us, stats.wasted_us) == (0, 5_000, 30_000)
        assert stats.cancelled_chunks == 1


async def test_when_the_first_one_fails_the_second_goes_on_and_is_no_hedge_any_more():
    async with practised() as world:
        turn = late(world)
        world.replica(index=0).die()
        second = world.replica(index=1)
        assert not second.cancelled
        second.make(20)
        second.finish()
        *_, end = await rest(turn)
        assert (end.total_samples, end.resumed) == (20, 1)
        assert world.stats().hedge_us == 0
        assert not world.replica("spare").asked


async def test_when_the_second_one_fails_the_first_goes_on():
    async with practised() as world:
        turn = late(world)
        world.replica(index=1).die()
        assert await nothing_yet(turn)
        world.replica(index=0).make(20)
        world.replica(index=0).finish()
        *_, end = await rest(turn)
        assert (end.total_samples, end.cancelled) == (20, False)


async def test_a_winner_that_dies_later_is_followed_at_its_sample():
    async with practised(replicas=3, max_attempts=2) as world:
        turn = late(world)
        second = next(r for r in world.launchers.of("main").replicas[1:] if r.asked)
        second.make(20)
        world.replica(index=0).acknowledge()
        second.die()
        heir = next(r for r in world.launchers.of("main").replicas if r.asked and not r.killed)
        assert (heir.last.start_offset_samples, heir.last.text) == (20, TEXT)
        heir.make(30)
        heir.finish()
        events = await rest(turn)
        assert contiguous(events) == 50


def test_what_is_late_is_learned_and_needs_some_experience():
    seen = Lateness()
    for took_us in range(LEAST_SEEN - 1):
        seen.took(took_us)
        assert seen.late_us == 0
    seen.took(100_000)
    assert seen.late_us == 110_000
    for _ in range(256):
        seen.took(50_000)
    assert seen.late_us == 55_000


@given(
    st.floats(0.1, 20),
    st.lists(st.tuples(st.integers(0, 3_000_000), st.booleans(), st.integers(1, 200_000)), max_size=120),
    st.integers(1, 8),
)
def test_the_budget_holds_under_any_load(percent, chunks, at_once):
    budget = HedgeBudget(percent)
    worked = spent = 0
    running: list[tuple[int, int]] = []

    def end_one() -> int:
        reserved_us, took_us = running.pop(0)
        budget.spend(reserved_us, took_us)
        return took_us

    for engine_us, wants, cost_us in chunks:
        budget.earn(engine_us)
        worked += engine_us
        reserved_us = cost_us // 2 + 1  # hedges may cost about twice what was thought
        if wants and budget.reserve(reserved_us):
            running.append((reserved_us, cost_us))
            # All that was spent, and all that is set aside, is within the budget whenever one begins.
            assert spent + sum(reserved for reserved, _ in running) <= worked * percent / 100 + 1e-6
        if len(running) > at_once:
            spent += end_one()
    while running:
        spent += end_one()
    most = max((cost for _, _, cost in chunks), default=0)
    assert spent <= worked * percent / 100 + (at_once + 1) * most


async def test_the_end_of_the_service_ends_both_that_speak():
    async with practised() as world:
        turn = late(world)
        await world.speech.close()
        (end,) = await rest(turn)
        assert end.cancelled
        assert all(replica.closed for replica in world.launchers.of("main").replicas)


async def test_words_of_who_lost_are_not_told_beside_those_of_who_won():
    async with practised() as world:
        turn = late(world)
        first, second = world.replica(index=0), world.replica(index=1)
        first.say(Word(0, 3, 0))  # its first frame is on its way
        second.say(Word(0, 3, 0))
        second.make(20)
        second.finish()
        first.acknowledge()
        events = await rest(turn)
        assert words_of(events) == [("one", Word(0, 3, 0))]
