"""Leases, cancels, replacements and windows, on scripted replicas and a clock that stands still."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from services.tts.core.breaker import BreakerSpec
from services.tts.core.job import Job, JobEnd, JobState, Lease
from services.tts.core.model import Fault, Progress, ReplicaStartError, SpeakRequest, Word
from services.tts.core.pool import Pool
from tests.unit.tts.scripted import CAPABILITIES, LIMITS, SPEC, Changes, ScriptedLauncher, ScriptedReplica
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.errors import DrainingError, NoEngineError, QueueFullError


@dataclass
class Ear:
    """A `JobListener` that keeps what it hears."""

    leases: list[Lease] = field(default_factory=list)
    samples: int = 0
    offsets: list[int] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    end: JobEnd | None = None

    def goes_on(self) -> bool:
        return self.end is None

    def job_leased(self, lease: Lease) -> None:
        self.leases.append(lease)

    def job_frame(self, offset_samples: int, pcm: bytes) -> None:
        assert self.end is None
        self.offsets.append(offset_samples)
        self.samples += len(pcm) // 2

    def job_words(self, words: list[Word]) -> None:
        self.words += words

    def job_lost(self, replica: str, reason: str) -> None:
        self.lost.append(replica)

    def job_ended(self, end: JobEnd) -> None:
        assert self.end is None
        self.end = end


def state_of(job: Job) -> JobState:
    return job.state


class World:
    def __init__(self, replicas: int = 1, slots: int = 1, **limits: Any) -> None:
        self.clock = ManualClock(1_000_000_000)
        self.launcher = ScriptedLauncher(CAPABILITIES._replace(slots=slots))
        self.changes = Changes()
        spec = replace(SPEC, replicas=replicas)
        self.pool = Pool(spec, self.launcher, self.clock, replace(LIMITS, **limits), self.changes)

    async def start(self) -> "World":
        await self.pool.start()
        return self

    def submit(self, text: str = "text", deadline_ms: int = 0, start: int = 0) -> tuple[Job, Ear]:
        ear = Ear()
        request = SpeakRequest(text, "en-us", start_offset_samples=start)
        return self.pool.submit(request, self.clock.now_ns() + deadline_ms * 1_000_000, ear), ear

    def replica(self, index: int = -1) -> ScriptedReplica:
        return self.launcher.replicas[index]

    def pass_ms(self, ms: int) -> None:
        """Let time pass as it does: with heartbeats, and a tick of the service's timer now and then."""
        for begin in range(0, ms, 500):
            self.clock.advance_ms(min(500, ms - begin))
            for replica in self.launcher.replicas:
                replica.beat()
            self.pool.tick()

    def healthy(self) -> bool:
        return self.pool.replicas.healthy

    async def replicas_ready(self, count: int) -> None:
        await self.changes.until(lambda: self.pool.snapshot().ready_replicas == count)


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


async def test_close_ends_a_chunk_that_waits_for_its_slow_listener():
    world = await World(buffer_s=0.1).start()
    slow_job, slow = world.submit("slow listener")
    world.replica().make(100)
    world.clock.advance_ms(200)
    world.submit("waits")
    world.replica().acknowledge()
    assert state_of(slow_job) is JobState.PARKED
    await world.pool.close()
    assert slow.end is not None
    assert slow.end.cancelled


async def test_a_slow_listener_that_comes_back_to_no_engine_is_told():
    world = await World(buffer_s=0.1).start()
    slow_job, slow = world.submit("slow listener")
    world.replica().make(100)
    world.clock.advance_ms(200)
    world.submit("waits")
    world.replica().acknowledge()
    assert state_of(slow_job) is JobState.PARKED
    world.launcher.failures += [ReplicaStartError("gone")] * 9
    world.replica().die()
    await world.changes.until(lambda: not world.healthy())
    world.pool.grant(slow_job, 100)
    assert slow.end is not None
    assert isinstance(slow.end.error, NoEngineError)
    await world.pool.close()


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
