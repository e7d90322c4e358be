"""Leases, deadlines, cancels and the end, on scripted replicas and a clock that stands still."""

import pytest

from services.tts.core.model import Word
from tests.unit.tts.pooling import World
from voicemesh.runtime.errors import DrainingError, QueueFullError


async def test_a_lease_is_held_for_one_chunk_and_comes_back():
    world = await World().start()
    _, first = world.submit("one")
    _, second = world.submit("two")
    assert [lease.replica for lease in first.leases] == ["voice-0"]
    assert not second.leases
    assert world.pool.snapshot().queued_chunks == 1
    world.replica().make(100)
    assert not second.leases
    world.replica().finish()
    assert first.end is not None
    assert first.end.error is None
    assert world.replica().last.text == "two"
    assert len(second.leases) == 1


async def test_the_earliest_deadline_is_first_and_equal_ones_are_in_order():
    world = await World(max_queued_chunks=9).start()
    world.submit("busy")
    for text, deadline_ms in (("late", 900), ("soon", 100), ("now", 0), ("now too", 0), ("soon too", 100)):
        world.submit(text, deadline_ms)
    order = []
    for _ in range(5):
        world.replica().make(1)
        world.replica().finish()
        order.append(world.replica().last.text)
    assert order == ["now", "now too", "soon", "soon too", "late"]


async def test_a_chunk_that_waited_past_its_deadline_is_before_one_that_just_came():
    world = await World().start()
    world.submit("busy")
    world.submit("waited", deadline_ms=100)
    world.clock.advance_ms(150)
    world.submit("fresh", deadline_ms=0)
    world.replica().make(1)
    world.replica().finish()
    assert world.replica().last.text == "waited"


async def test_a_pool_says_how_long_a_new_chunk_would_wait():
    world = await World(slots=2).start()
    world.submit()
    assert world.pool.snapshot().wait_us == 0  # a slot is free
    world.submit()
    alone = world.pool.snapshot().wait_us
    assert alone > 0
    world.submit()
    assert world.pool.snapshot().wait_us == 2 * alone


async def test_a_full_queue_refuses_and_says_when_to_come_back():
    world = await World(max_queued_chunks=2).start()
    for _ in range(3):
        world.submit()
    with pytest.raises(QueueFullError, match="2 chunks wait") as caught:
        world.submit()
    assert caught.value.retry_after_ms is not None
    assert caught.value.retry_after_ms > 0
    world.replica().make(1)
    world.replica().finish()
    world.submit()


async def test_slots_are_shared_and_the_least_busy_replica_is_next():
    world = await World(replicas=2, slots=2).start()
    ears = [world.submit()[1] for _ in range(5)]
    assert [ear.leases[0].replica for ear in ears[:4]] == ["voice-0", "voice-1", "voice-0", "voice-1"]
    assert not ears[4].leases
    first = min(world.replica(0).asked)
    world.replica(0).make(1, request_id=first)
    world.replica(0).finish(request_id=first)
    assert ears[4].leases


async def test_a_queued_cancel_ends_at_once_and_a_running_one_when_the_engine_has_stopped():
    world = await World().start()
    running, ear = world.submit("running")
    queued, waiting = world.submit("queued")
    _, third = world.submit("third")
    world.pool.cancel(queued)
    assert waiting.end is not None
    assert waiting.end.cancelled
    world.replica().make(20)
    world.pool.cancel(running)
    assert world.replica().cancelled == [running.id]
    assert ear.goes_on()
    world.replica().make(20)  # crossed the cancel on its way
    assert ear.samples == 20
    assert not third.leases
    world.replica().acknowledge(made=60, us=3000)
    assert ear.end is not None
    assert ear.end.cancelled
    assert (ear.end.made_samples, ear.end.engine_us) == (60, 3000)
    assert third.leases


async def test_a_cancel_that_crosses_the_end_still_frees_the_replica():
    world = await World().start()
    job, ear = world.submit()
    world.replica().make(20)
    world.pool.cancel(job)
    world.replica().finish()
    assert ear.end is not None
    assert ear.end.cancelled
    assert world.pool.snapshot().active_leases == 0


async def test_close_ends_jobs_and_replicas_and_refuses_more():
    world = await World(replicas=2).start()
    ears = [world.submit()[1] for _ in range(4)]
    await world.pool.close()
    assert all(ear.end is not None and ear.end.cancelled for ear in ears)
    assert all(replica.closed for replica in world.launcher.replicas)
    assert world.pool.snapshot().worker_pids == ()
    with pytest.raises(DrainingError):
        world.submit()


async def test_figures_add_up():
    world = await World().start()
    world.submit()
    world.submit()
    stats = world.pool.snapshot()
    assert (stats.ready_replicas, stats.starting_replicas) == (1, 0)
    assert (stats.active_leases, stats.queued_chunks) == (1, 1)
    world.replica().make(500)
    world.replica().finish(us=7000)
    stats = world.pool.snapshot()
    assert (stats.audio_us, stats.synthesis_us) == (500_000, 7000)
    assert stats.worker_pids == (1000,)


async def test_words_before_the_callers_offset_are_not_told_again():
    world = await World().start()
    _, ear = world.submit("one two three", start=50)
    world.replica().say(Word(0, 3, 0), Word(4, 3, 40))
    world.replica().say(Word(8, 5, 60))
    assert [word.text_offset for word in ear.words] == [8]
