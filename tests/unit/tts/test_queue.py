"""The order of leases, shares between callers, and what is predicted from learned costs."""

import asyncio

import pytest

from services.tts.core.job import Job
from services.tts.core.model import AudioFormat, ChunkOrder, SpeakRequest
from services.tts.core.queue import JobQueue
from tests.unit.tts.pooling import Ear, World
from tests.unit.tts.speaking import World as SpeechWorld
from tests.unit.tts.speaking import take
from voicemesh.runtime.errors import QueueFullError

MS = 1_000_000
S = 1000 * MS
NOW = 100 * S


class Queue:
    def __init__(self) -> None:
        self.queue = JobQueue("voice", 5000)
        self.last_id = 0

    def add(self, caller: str, deadline_ns: int = NOW) -> Job:
        self.last_id += 1
        job = Job(self.last_id, SpeakRequest("text", "", caller=caller), deadline_ns, Ear())
        self.queue.enter(job)
        self.queue.add(job)
        return job

    def serve(self, engine_ms: int = 100, now_ns: int = NOW) -> str:
        """Lease the next job, speak it, and return whose it was."""
        job = self.queue.pop(now_ns)
        self.queue.spoke(job, engine_ms * MS)
        self.queue.leave(job)
        return job.request.caller

    def learned(self, *, lease_ms: int, first_ms: int) -> "Queue":
        for _ in range(20):
            self.queue.lease.learn(lease_ms * MS)
            self.queue.first_frame.learn(first_ms * MS)
        return self


def test_callers_take_turns_where_all_are_late():
    queue = Queue()
    for _ in range(100):
        queue.add("many", NOW - 5 * S)
    for caller in ("one", "two"):
        for _ in range(3):
            queue.add(caller, NOW - S)
    served = [queue.serve() for _ in range(10)]
    assert sorted(served[1:]) == ["many"] * 3 + ["one"] * 3 + ["two"] * 3
    assert {queue.serve() for _ in range(90)} == {"many"}
    assert len(queue.queue) == 6


def test_what_has_time_is_shared_too_and_gives_way_to_what_is_due():
    queue = Queue()
    for _ in range(50):
        queue.add("batch", NOW + 60 * S)
    assert queue.serve() == "batch"
    queue.add("other batch", NOW + 61 * S)
    queue.add("turn", NOW + 9 * S)
    queue.add("late turn", NOW)
    assert [queue.serve() for _ in range(3)] == ["late turn", "turn", "other batch"]


def test_a_caller_pays_for_its_engine_time_and_not_for_its_chunks():
    queue = Queue()
    for _ in range(40):
        queue.add("short", NOW - S)
        queue.add("long", NOW - S)
    spent = {"short": 0, "long": 0}
    for _ in range(40):
        job = queue.queue.pop(NOW)
        caller = job.request.caller
        cost = 20 if caller == "short" else 200
        queue.queue.spoke(job, cost * MS)
        queue.queue.leave(job)
        spent[caller] += cost
    assert abs(spent["short"] - spent["long"]) <= 400
    assert spent["short"] / 20 > 4 * spent["long"] / 200


def test_several_leases_at_once_are_charged_before_they_end():
    queue = Queue()
    for _ in range(3):
        queue.add("warm")
        queue.serve()
    for _ in range(10):
        queue.add("many", NOW - S)
    for _ in range(4):
        queue.add("few", NOW - S + 1)
    jobs = [queue.queue.pop(NOW) for _ in range(8)]
    assert [job.request.caller for job in jobs].count("few") == 4


def test_removed_and_drained_jobs_are_gone():
    queue = Queue()
    first, second, third = queue.add("a"), queue.add("b"), queue.add("a", NOW - S)
    queue.queue.remove(first)
    assert len(queue.queue) == 2
    assert queue.queue.drain() == [third, second]
    assert len(queue.queue) == 0


def test_nothing_is_predicted_before_anything_was_learned():
    queue = Queue()
    for _ in range(200):
        queue.add("a")
    assert queue.queue.first_frame_ns("b", NOW, NOW, 1) == NOW
    queue.queue.refuse_late("b", NOW, NOW, 1)


def test_a_first_frame_is_predicted_from_those_in_front_the_slots_and_what_a_chunk_takes():
    queue = Queue().learned(lease_ms=1000, first_ms=200)
    for _ in range(7):
        queue.add("a", NOW + 2 * S)
    # Seven in front: with two slots each second frees two of them, and the eighth freed slot is ours.
    assert queue.queue.first_frame_ns("b", NOW + 3 * S, NOW, 2) == NOW + 4 * S + 200 * MS
    # An earlier deadline has none in front.
    assert queue.queue.first_frame_ns("b", NOW + S, NOW, 2) == NOW + 500 * MS + 200 * MS


def test_a_late_job_is_not_behind_all_of_another_caller():
    queue = Queue().learned(lease_ms=1000, first_ms=1)
    for _ in range(50):
        queue.add("many", NOW - S)
    assert queue.queue.first_frame_ns("new", NOW, NOW, 1) <= NOW + 2 * S + MS
    assert queue.queue.first_frame_ns("many", NOW, NOW, 1) >= NOW + 50 * S


def test_the_refusal_says_when_it_would_be_heard_and_when_to_come_back():
    queue = Queue().learned(lease_ms=1000, first_ms=500)
    for _ in range(9):
        queue.add("a")
    queue.queue.refuse_late("a", NOW + 10 * S, NOW, 1)
    queue.queue.refuse_late("a", NOW, NOW, 3)
    with pytest.raises(
        QueueFullError, match=r"expected in 10\.5 s, which is 10\.5 s after it is due; the limit is 5 s"
    ) as e:
        queue.queue.refuse_late("a", NOW, NOW, 1)
    assert e.value.retry_after_ms == 5500


def test_a_new_chunk_waits_for_those_that_wait_and_for_one_of_the_slots_that_are_taken():
    queue = Queue()
    assert queue.queue.wait_us(4) == 25_000  # nothing is known yet: 0.1 s a lease
    queue.learned(lease_ms=1000, first_ms=200)
    assert queue.queue.wait_us(4) == 250_000
    for _ in range(7):
        queue.add("a")
    assert queue.queue.wait_us(4) == 2_000_000
    assert queue.queue.wait_us(0) == 8_000_000  # none is ready: the first that comes is one


def test_one_stray_cost_moves_a_prediction_little():
    queue = Queue().learned(lease_ms=100, first_ms=10)
    queue.queue.lease.learn(60 * S)
    assert queue.queue.lease.ns < 150 * MS


# ---- in the pool ---------------------------------------------------------------------------------


async def slow_world(**limits: int) -> World:
    """Return a pool of one slot, taken, whose chunks last two seconds."""
    world = await World(max_queued_chunks=100, **limits).start()
    for _ in range(10):
        world.submit()
        world.clock.advance_ms(500)
        world.replica().make(1)
        world.clock.advance_ms(1500)
        world.replica().finish(us=2_000_000)
    world.submit("busy")
    return world


def submit(world: World, caller: str, *, admitted: bool = False) -> Ear:
    ear = Ear()
    request = SpeakRequest("text", "en-us", caller=caller)
    world.pool.submit(request, world.clock.now_ns(), ear, admitted=admitted)
    return ear


async def test_a_turn_that_would_be_heard_too_late_is_refused_and_one_that_was_admitted_goes_on():
    world = await slow_world()
    submit(world, "a")  # in 2.5 s
    submit(world, "a")  # in 4.5 s
    with pytest.raises(QueueFullError, match=r"expected in 6\.5 s"):
        submit(world, "a")
    submit(world, "a", admitted=True)
    assert world.pool.snapshot().queued_chunks == 3


async def test_without_a_limit_none_is_refused_for_being_late():
    world = await slow_world(max_lateness_ms=0)
    for _ in range(20):
        submit(world, "a")
    assert world.pool.snapshot().queued_chunks == 20


async def test_a_free_slot_is_never_refused_however_slow_its_engine():
    world = await World(max_lateness_ms=100).start()
    for _ in range(3):
        world.submit()
        world.clock.advance_ms(60_000)
        world.replica().make(1)
        world.replica().finish()
    assert submit(world, "a").leases


async def test_callers_take_turns_in_the_pool():
    world = await slow_world(max_lateness_ms=0)
    many = [submit(world, "many") for _ in range(20)]
    world.clock.advance_ms(10)
    few = [submit(world, "few") for _ in range(2)]
    for _ in range(6):
        world.replica().make(1)
        world.replica().finish(us=2_000_000)
    assert all(ear.leases for ear in few)
    assert sum(bool(ear.leases) for ear in many) == 4


async def test_a_turn_and_a_batch_say_whose_their_chunks_are():
    async with SpeechWorld(replicas=4) as world:
        turn = world.turn()
        turn.add(ChunkOrder(0, "one"))
        batches = [
            world.speech.open_batch([text], "", AudioFormat(), 0, world.observe) for text in ("two", "three")
        ]
        for batch in batches:
            waiting = asyncio.ensure_future(anext(batch))
            await asyncio.wait({waiting}, timeout=0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        callers = {
            request.text: request.caller for n in range(4) for request in world.replica(n).asked.values()
        }
        assert callers["one"] == "t"
        assert callers["two"] != callers["three"]
        assert all(callers[text].startswith("batch ") for text in ("two", "three"))
        for batch in batches:
            batch.abandon()
        turn.abandon()


async def test_a_turn_is_refused_at_its_first_chunk_and_never_later():
    async with SpeechWorld(max_queued_chunks=50, max_pending_chunks=50) as world:
        for index in range(10):
            turn = world.turn()
            turn.add(ChunkOrder(index, "text"))
            world.clock.advance_ms(1000)
            world.replica().make(1)
            world.clock.advance_ms(3000)
            world.replica().finish()
        admitted = world.turn()
        for index in range(3):
            admitted.add(ChunkOrder(index, f"text {index}"))
        refused = world.turn()
        refused.add(ChunkOrder(0, "too late"))
        (event,) = await take(refused, 1)
        assert isinstance(event.error, QueueFullError)
        assert "is expected in" in event.error.message
        assert world.stats().queued_chunks == 2
        for one in (admitted, refused):
            one.abandon()
