"""Listeners that are slow: windows, leases that are taken from them, and how they go on."""

from services.tts.core.job import Job, JobState
from services.tts.core.model import ReplicaStartError
from tests.unit.tts.pooling import Ear, World, state_of
from voicemesh.runtime.errors import NoEngineError


async def parked() -> tuple[World, Job, Ear]:
    """Take the lease from a slow listener, for another that waits."""
    world = await World(buffer_s=0.1).start()
    slow_job, slow = world.submit("slow listener")
    world.replica().make(100)
    world.clock.advance_ms(200)
    world.submit("waits")
    world.replica().acknowledge()
    assert state_of(slow_job) is JobState.PARKED
    return world, slow_job, slow


async def test_a_slow_listener_loses_its_lease_to_those_who_wait_and_goes_on_where_it_was():
    world = await World(buffer_s=0.1).start()
    slow, ear = world.submit("slow")
    assert world.replica().last.window_samples == 100
    world.replica().make(100)
    world.clock.advance_ms(500)
    world.pool.tick()
    assert world.replica().cancelled == []  # nobody waits: it keeps the lease
    _, other = world.submit("other")
    assert world.replica().cancelled == [slow.id]
    world.replica().acknowledge(made=130)
    assert state_of(slow) is JobState.PARKED
    assert ear.goes_on()
    assert other.leases
    world.pool.grant(slow, 25)
    assert state_of(slow) is JobState.PARKED
    world.pool.grant(slow, 25)
    assert state_of(slow) is JobState.QUEUED
    # Its listener has 50 ms in hand: one who has nothing is first.
    world.submit("urgent", deadline_ms=40)
    for text in ("other", "urgent"):
        assert world.replica().last.text == text
        world.replica().make(5)
        world.replica().finish()
    request = world.replica().last
    assert (request.text, request.start_offset_samples, request.window_samples) == ("slow", 100, 50)
    world.replica().make(40)
    world.replica().finish(made=140)
    assert ear.end is not None
    assert (ear.end.resumed, ear.end.cancelled, ear.end.error) == (0, False, None)
    assert ear.offsets == [0, 100]


async def test_a_window_that_is_full_for_a_moment_is_no_slow_listener():
    world = await World(buffer_s=0.1).start()
    fast, _ = world.submit("fast")
    world.submit("other")
    for _ in range(5):
        world.replica().make(100)
        world.clock.advance_ms(90)
        world.pool.tick()
        world.pool.grant(fast, 100)
    assert world.replica().cancelled == []
    world.replica().make(100)
    world.clock.advance_ms(110)
    world.pool.tick()
    assert world.replica().cancelled == [fast.id]


async def test_a_parked_chunk_can_be_cancelled():
    world = await World(buffer_s=0.1).start()
    slow, ear = world.submit("slow")
    world.replica().make(100)
    world.clock.advance_ms(110)
    world.submit("other")
    world.replica().acknowledge(made=100)
    world.pool.cancel(slow)
    assert ear.end is not None
    assert ear.end.cancelled


async def test_close_ends_a_chunk_that_waits_for_its_slow_listener():
    world, _, slow = await parked()
    await world.pool.close()
    assert slow.end is not None
    assert slow.end.cancelled


async def test_a_slow_listener_that_comes_back_to_no_engine_is_told():
    world, slow_job, slow = await parked()
    world.launcher.failures += [ReplicaStartError("gone")] * 9
    world.replica().die()
    await world.changes.until(lambda: not world.healthy())
    world.pool.grant(slow_job, 100)
    assert slow.end is not None
    assert isinstance(slow.end.error, NoEngineError)
    await world.pool.close()
