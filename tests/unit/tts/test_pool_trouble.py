"""Replicas that are lost, stall, fail or do not start, and requests that fail."""

from dataclasses import replace

import pytest

from services.tts.core.job import JobState
from services.tts.core.model import Fault, Progress, ReplicaStartError, Word
from services.tts.core.pool import Pool
from tests.unit.tts.pooling import World, state_of
from tests.unit.tts.scripted import LIMITS, SPEC
from voicemesh.runtime.breaker import BreakerSpec
from voicemesh.runtime.errors import NoEngineError


async def test_a_lost_replica_is_replaced_and_its_chunk_goes_on_at_its_sample():
    world = await World(replicas=2).start()
    _, ear = world.submit("first")
    _, other = world.submit("second")
    world.submit("waits")
    dying, living = world.launcher.replicas
    dying.say(Word(0, 5, 0))
    dying.make(30)
    world.clock.advance_ms(40)
    dying.die()
    assert ear.lost == ["voice-0"]
    assert world.pool.snapshot().replaced_replicas == 1
    assert world.pool.snapshot().losses == {"died": 1}
    living.make(10)
    living.finish()
    # Its deadline is the oldest: it goes before what waits.
    assert living.last.text == "first"
    assert (living.last.start_offset_samples, living.last.attempt) == (30, 1)
    assert other.lost == []
    living.say(Word(0, 5, 0), Word(6, 2, 35))
    living.make(12)
    living.finish(us=2000)
    assert ear.offsets == [0, 30]
    assert [word.text_offset for word in ear.words] == [0, 6]
    assert ear.end is not None
    assert (ear.end.resumed, ear.end.made_samples, ear.end.engine_us) == (1, 30 + 42, 40_000 + 2000)
    await world.replicas_ready(2)
    assert dying.closed
    assert world.replica().pid in world.pool.snapshot().worker_pids


async def test_a_chunk_that_loses_too_many_replicas_fails_and_the_pool_goes_on():
    world = await World(replicas=4, max_attempts=2).start()
    _, ear = world.submit("poison")
    for _ in range(3):
        assert ear.goes_on()
        name = ear.leases[-1].replica
        world.launcher.replicas[int(name[-1])].die()
    assert ear.end is not None
    assert isinstance(ear.end.error, NoEngineError)
    assert ear.end.resumed == 3
    _, after = world.submit("well")
    assert after.leases


async def test_a_replica_that_says_nothing_is_killed_but_one_that_waits_for_its_listener_is_not():
    world = await World(replicas=2, stall_timeout_s=5.0, buffer_s=0.1).start()
    slow_job, slow = world.submit("slow listener")
    _, stalled = world.submit("stalled")
    first, second = world.launcher.replicas
    first.make(100)  # the whole window
    world.pass_ms(4900)
    assert second.alive()
    world.pass_ms(200)
    assert second.killed
    assert first.alive()
    assert stalled.lost == ["voice-1"]
    # Its listener took something: from now on it owes audio.
    world.pool.grant(slow_job, 50)
    world.pass_ms(4900)
    assert first.alive()
    world.pass_ms(200)
    assert first.killed
    assert slow.lost == ["voice-0"]
    assert world.pool.snapshot().losses == {"stalled": 2}


async def test_a_replica_that_does_not_acknowledge_a_cancel_is_killed():
    world = await World().start()
    job, ear = world.submit()
    world.pass_ms(4000)
    world.pool.cancel(job)
    world.pass_ms(4000)
    assert world.replica(0).alive()
    world.pass_ms(1100)
    assert world.replica(0).killed
    assert ear.end is not None
    assert ear.end.cancelled
    assert ear.lost == []


async def test_no_audio_for_words_is_a_broken_engine_and_none_for_marks_is_not():
    world = await World(replicas=2).start()
    _, marks = world.submit("...")
    world.replica(0).finish(made=0)
    assert marks.end is not None
    assert marks.end.error is None
    _, words = world.submit("words")
    world.replica(0).finish(made=0)
    assert words.lost == ["voice-0"]
    assert world.replica(0).killed
    assert world.replica(1).last.text == "words"
    assert world.pool.snapshot().losses == {"silent": 1}


async def test_an_engine_that_reports_an_error_finishes_its_other_chunks_before_it_is_replaced():
    world = await World(replicas=1, slots=3).start()
    (bad, ear), (good, other) = world.submit("bad"), world.submit("good")
    replica = world.replica()
    replica.listener.failed(bad.id, "boom", Fault.ENGINE)
    assert ear.lost == ["voice-0"]
    assert state_of(bad) is JobState.QUEUED
    assert replica.alive()
    world.submit("new")  # gets none of its free slots
    assert set(replica.asked) == {bad.id, good.id}
    replica.make(10, request_id=good.id)
    replica.finish(request_id=good.id)
    assert other.end is not None
    assert other.end.resumed == 0
    assert replica.killed
    await world.replicas_ready(1)
    assert {request.text for request in world.replica().asked.values()} == {"bad", "new"}
    assert world.pool.snapshot().losses == {"failed": 1}


async def test_a_replica_at_fault_that_dies_before_it_is_replaced_is_lost_for_its_fault():
    world = await World(replicas=1, slots=2).start()
    (bad, _), _ = world.submit("bad"), world.submit("good")
    replica = world.replica()
    replica.listener.failed(bad.id, "boom", Fault.ENGINE)
    replica.die()
    assert world.pool.snapshot().losses == {"failed": 1}


async def test_a_text_at_fault_fails_without_harm_to_the_replica():
    world = await World().start()
    job, ear = world.submit("unspeakable")
    world.replica().listener.failed(job.id, "no such letters", Fault.TEXT)
    assert ear.end is not None
    assert isinstance(ear.end.error, NoEngineError)
    assert world.replica().alive()
    assert world.pool.snapshot().active_leases == 0


async def test_a_frame_out_of_place_is_a_broken_replica():
    world = await World(replicas=2).start()
    _, ear = world.submit()
    world.replica(0).make(20)
    world.replica(0).make(20, offset=60)
    assert ear.offsets == [0]
    assert world.replica(0).killed
    assert world.replica(1).last.start_offset_samples == 20


async def test_a_replica_that_keeps_dying_waits_longer_each_time_and_then_nobody_can_speak():
    world = await World().start()
    assert world.healthy()
    world.replica().die()
    assert world.healthy()  # the first replacement comes at once
    await world.replicas_ready(1)
    _, ear = world.submit()
    world.replica().die()
    assert not world.healthy()
    assert ear.end is not None
    assert isinstance(ear.end.error, NoEngineError)
    with pytest.raises(NoEngineError):
        world.submit()
    world.pool.tick()
    assert len(world.launcher.replicas) == 2
    world.clock.advance_ms(500)
    world.pool.tick()
    await world.replicas_ready(1)
    assert world.healthy()
    _, ear = world.submit()
    world.replica().make(10)
    world.replica().finish()
    # A chunk that went well makes it trusted again.
    world.replica().die()
    assert world.healthy()
    await world.replicas_ready(1)


async def test_a_start_that_fails_is_tried_again_and_a_wrong_declaration_is_told():
    world = World()
    world.launcher.failures = [ReplicaStartError("no memory")]
    await world.start()
    assert not world.healthy()
    world.clock.advance_ms(300)
    world.pool.tick()
    await world.replicas_ready(1)
    wrong = World()
    wrong.launcher.failures = [ReplicaStartError("option x", declaration_at_fault=True)]
    with pytest.raises(ReplicaStartError, match="option x"):
        await wrong.start()


async def test_a_replica_whose_first_text_gives_no_audio_is_not_ready():
    world = World()

    async def silent(spec, listener):
        replica = await world.launcher(spec, listener)
        replica.warm_samples = 0
        return replica

    pool = Pool(SPEC, silent, world.clock, LIMITS, world.changes)
    await pool.start()
    assert pool.snapshot().ready_replicas == 0
    await pool.close()
    assert world.replica().closed


async def test_time_in_which_nobody_listened_is_no_silence_of_a_replica():
    world = await World(stall_timeout_s=5.0).start()
    job, _ = world.submit()
    world.clock.advance_ms(3_600_000)  # the machine slept
    world.pool.tick()
    assert world.replica().alive()
    assert state_of(job) is JobState.RUNNING
    world.pass_ms(5500)
    assert world.replica().killed


async def test_what_is_loaded_for_a_chunk_may_take_as_long_as_a_start():
    world = await World(stall_timeout_s=5.0, warmup_timeout_s=20.0).start()
    _, ear = world.submit()
    world.replica().listener.progress(Progress(0, 0, "the resampler"))
    world.pass_ms(19_000)
    assert world.replica().alive()
    world.replica().make(10)
    world.pass_ms(4_500)
    assert world.replica().alive()
    world.pass_ms(1_000)  # it made audio behind what it loaded: the usual limit holds again
    assert ear.lost == ["voice-0"]


async def test_a_chunk_that_waits_its_turn_in_an_engine_of_steps_is_no_stall():
    world = await World(stall_timeout_s=5.0).start()
    _, ear = world.submit()
    for _ in range(20):
        world.replica().batches += 1  # others are spoken
        world.pass_ms(1000)
    assert world.replica().alive()
    world.pass_ms(5500)
    assert ear.lost == ["voice-0"]


async def test_what_is_loaded_for_ever_is_a_stall():
    world = await World(stall_timeout_s=5.0, warmup_timeout_s=20.0).start()
    _, ear = world.submit()
    world.replica().listener.progress(Progress(0, 0, "the resampler"))
    world.pass_ms(20_500)
    assert ear.lost == ["voice-0"]


async def test_a_request_that_failed_leaves_its_replica_and_the_other_chunks_alone():
    world = await World(slots=2).start()
    (bad, bad_ear), (_, ear) = world.submit("bad"), world.submit("good")
    replica = world.replica()
    replica.listener.failed(bad.id, "HTTP 503", Fault.REQUEST)
    assert bad_ear.end is not None
    assert "HTTP 503" in str(bad_ear.end.error)
    assert (bad_ear.end.again, bad_ear.end.elsewhere, bad_ear.end.lost) == (True, True, 1)
    replica.make(10)
    replica.finish()
    assert ear.end is not None
    assert ear.end.error is None
    assert replica.alive()
    assert world.pool.snapshot().replaced_replicas == 0


async def test_requests_that_keep_failing_open_the_breaker():
    world = await World().start()
    for _ in range(5):
        job, _ = world.submit()
        world.replica().listener.failed(job.id, "HTTP 503", Fault.REQUEST)
    assert world.pool.snapshot().breaker == "OPEN"
    assert world.replica().alive()
    with pytest.raises(NoEngineError, match="keeps failing"):
        world.submit()


async def test_another_declared_breaker_counts_from_now_on():
    world = await World().start()
    world.pool.adopt(replace(world.pool.spec, breaker=BreakerSpec(failures=2, window_s=1.0, open_s=60.0)))
    for pause_ms in (1500, 10, 0):
        assert world.pool.snapshot().breaker == "CLOSED"
        job, _ = world.submit()
        world.replica().listener.failed(job.id, "HTTP 503", Fault.REQUEST)
        world.clock.advance_ms(pause_ms)
    assert world.pool.snapshot().breaker == "OPEN"
    assert world.pool.breaker.retry_after_ms == 60_000
