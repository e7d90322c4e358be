"""Heartbeats, marks of memory, and how many replicas there are, on a clock that stands still."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from services.tts.core.model import ReplicaStartError, SpeakRequest
from services.tts.core.pool import Pool
from services.tts.core.starting import DeviceMemory, Names, Place, StartGate
from tests.unit.tts.pooling import Ear
from tests.unit.tts.scripted import CAPABILITIES, LIMITS, SPEC, Changes, ScriptedLauncher, ScriptedReplica
from voicemesh.runtime.clock import ManualClock


class World:
    def __init__(self, replicas: int = 1, budget_mb: int = 0, **spec: Any) -> None:
        self.clock = ManualClock(10**12)
        self.launcher = ScriptedLauncher()
        self.changes = Changes()
        self.memory = DeviceMemory({"cpu": budget_mb} if budget_mb else {})
        self.pool = Pool(
            replace(SPEC, replicas=replicas, **spec),
            self.launcher,
            self.clock,
            replace(LIMITS, heartbeat_timeout_s=3.0),
            self.changes,
            Place("voice", StartGate(1), self.memory),
        )

    async def start(self) -> "World":
        await self.pool.start()
        return self

    def replica(self, index: int = -1) -> ScriptedReplica:
        return self.launcher.replicas[index]

    def names(self) -> list[str]:
        return [member.name for member in self.pool.replicas.members]

    def submit(self, **values: Any) -> Ear:
        ear = Ear()
        self.pool.submit(SpeakRequest("text", "en-us", **values), self.clock.now_ns(), ear)
        return ear

    async def pass_s(self, seconds: float, *beating: ScriptedReplica, **memory: int) -> None:
        """Let time pass as the service's timer does, with a heartbeat a second."""
        for _ in range(round(seconds)):
            self.clock.advance_ms(1000)
            for replica in beating:
                replica.beat(**memory)
            self.pool.tick()
            await asyncio.sleep(0)

    async def until_started(self, count: int) -> None:
        await self.changes.until(lambda: len(self.launcher.replicas) == count and self.ready())

    def ready(self) -> bool:
        return all(stats.state in ("READY", "LEAVING") for stats in self.pool.snapshot().replicas)


async def test_a_replica_without_heartbeat_is_replaced_though_it_owes_nothing():
    world = await World(replicas=2).start()
    stopped, living = world.launcher.replicas
    await world.pass_s(3, stopped, living)
    await world.pass_s(4, living)
    assert (stopped.killed, living.killed) == (True, False)
    await world.until_started(3)
    stats = world.pool.snapshot()
    assert (stats.stalled_replicas, stats.replaced_replicas, stats.ready_replicas) == (1, 1, 2)
    assert stats.losses == {"no_heartbeat": 1}


async def test_a_process_that_was_held_up_itself_blames_no_replica():
    world = await World().start()
    await world.pass_s(2, world.replica())
    world.clock.advance_ms(3_600_000)  # the machine slept
    world.pool.tick()
    assert world.replica().alive()
    await world.pass_s(4)  # and now it says nothing
    assert world.replica(0).killed


@pytest.mark.parametrize("mark", [{"max_resident_mb": 100}, {"max_device_mb": 100}])
async def test_a_replica_above_its_mark_has_its_successor_first_and_ends_with_its_leases(mark):
    world = await World(**mark).start()
    old = world.replica()
    above = {"resident_mb": 101} if "max_resident_mb" in mark else {"device_mb": 101}
    ear = world.submit()
    old.make(10)
    await world.pass_s(1, old, **above)
    await world.until_started(2)
    new = world.replica()
    assert world.names() == ["voice-0", "voice-1"]
    assert [stats.state for stats in world.pool.snapshot().replicas] == ["LEAVING", "READY"]
    other = world.submit()
    assert other.leases[0].replica == "voice-1"
    assert old.alive()
    old.make(10)
    old.finish()
    await world.pass_s(1, new)
    assert old.killed
    assert ear.lost == []
    assert ear.samples == 20
    stats = world.pool.snapshot()
    assert (stats.recycled_replicas, stats.replaced_replicas, stats.ready_replicas) == (1, 0, 1)
    assert world.names() == ["voice-1"]


async def test_at_the_mark_nothing_happens_and_one_is_recycled_at_a_time():
    world = await World(replicas=2, max_resident_mb=100).start()
    await world.pass_s(1, *world.launcher.replicas, resident_mb=100)
    assert len(world.launcher.replicas) == 2
    await world.pass_s(1, *world.launcher.replicas, resident_mb=101)
    assert world.pool.snapshot().recycled_replicas == 1


async def test_where_the_device_has_no_room_for_two_a_replica_makes_way_first():
    world = await World(budget_mb=500, memory_mb=300, max_resident_mb=100).start()
    old = world.replica()
    ear = world.submit()
    old.make(10)
    await world.pass_s(1, old, resident_mb=101)
    assert len(world.launcher.replicas) == 1
    assert world.pool.replicas.healthy
    waiting = world.submit()
    assert not waiting.leases
    old.finish()
    assert ear.lost == []
    await world.pass_s(1, old, resident_mb=101)
    await world.until_started(2)
    assert waiting.leases
    assert world.pool.snapshot().recycled_replicas == 1
    assert world.names() == ["voice-0"]


async def test_a_mark_below_what_the_model_needs_does_not_recycle_for_ever():
    world = await World(max_resident_mb=100).start()
    for _ in range(60):
        await world.pass_s(1, *(r for r in world.launcher.replicas if r.alive()), resident_mb=200)
    # At once, then 10 s and 20 s and 40 s later: the fourth is not due yet.
    assert world.pool.snapshot().recycled_replicas == 3


async def test_a_successor_that_does_not_start_leaves_the_old_one_in_its_place():
    world = await World(max_resident_mb=100).start()
    world.launcher.failures = [ReplicaStartError("no memory")]
    await world.pass_s(1, world.replica(), resident_mb=200)
    await world.changes.until(lambda: not world.launcher.failures)
    await world.pass_s(2, world.replica(), resident_mb=200)
    assert world.names() == ["voice-0"]
    assert world.replica().alive()
    assert world.pool.replicas.healthy


async def test_a_replica_that_dies_while_its_successor_starts_is_followed_by_it():
    world = await World(max_resident_mb=100).start()
    dying = world.replica()
    ear = world.submit()
    dying.make(10)
    await world.pass_s(1, dying, resident_mb=200)
    dying.die()
    await world.until_started(2)
    assert ear.lost == ["voice-0"]
    assert world.replica().last.start_offset_samples == 10
    assert world.names() == ["voice-1"]


async def test_a_pool_grows_and_shrinks_while_it_speaks():
    world = await World(replicas=2).start()
    first, second = world.submit(), world.submit()
    for replica in world.launcher.replicas:
        replica.make(10)
    world.pool.adopt(replace(SPEC, replicas=3))
    await world.until_started(3)
    assert world.pool.snapshot().slots == 3
    world.pool.adopt(replace(SPEC, replicas=1))
    # The idle one goes at once, one of the busy ones with its chunk.
    assert len(world.names()) == 2
    for replica in world.launcher.replicas[:2]:
        replica.finish()
    await world.pass_s(1, *world.launcher.replicas)
    assert len(world.names()) == 1
    assert first.lost == second.lost == []
    assert world.pool.snapshot().ready_replicas == 1


async def test_replicas_start_a_few_at_a_time_the_most_urgent_first():
    gate = StartGate(1)
    order = []

    async def start(name: str, urgency: int) -> None:
        async with gate.turn(urgency):
            order.append(name)
            await asyncio.sleep(0)

    waiting = []
    async with gate.turn(0):
        for name, urgency in (("behind", 2), ("given up", 0), ("first", 1), ("lost one", 0)):
            waiting.append(asyncio.ensure_future(start(name, urgency)))
            await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == ["lost one", "first", "behind"]


async def test_a_start_that_is_given_up_when_its_turn_comes_passes_it_on():
    gate = StartGate(1)

    async def start() -> bool:
        async with gate.turn(0):
            return True

    async with gate.turn(0):
        first, second = asyncio.ensure_future(start()), asyncio.ensure_future(start())
        await asyncio.sleep(0)
    first.cancel()  # its turn came, and it has not seen it yet
    async with asyncio.timeout(5):
        assert await second


def test_names_are_the_lowest_that_are_free():
    names = Names("a-voice")
    assert [names.take() for _ in range(3)] == ["a-voice-0", "a-voice-1", "a-voice-2"]
    names.give_back("a-voice-1")
    assert names.take() == "a-voice-1"
    assert names.take() == "a-voice-3"


async def test_replicas_that_come_later_are_warmed_at_the_rate_that_callers_want():
    """What resamples is loaded with the first request for another rate; nobody waits for it again."""
    world = await World().start()
    own_hz = CAPABILITIES.sample_rate_hz
    rates = []
    for count, asked_hz in enumerate((0, own_hz, 8000, own_hz), start=2):
        rates.append(warmed_hz(world.replica()))
        world.submit(sample_rate_hz=asked_hz)
        world.replica().make(100)
        world.replica().finish()
        world.replica().die()
        await world.pass_s(2)
        await world.until_started(count)
    rates.append(warmed_hz(world.replica()))
    assert rates == [0, 0, 0, 8000, 8000]
    await world.pool.close()


def warmed_hz(replica: ScriptedReplica) -> int:
    assert replica.warmed_with is not None
    return replica.warmed_with.sample_rate_hz


async def test_batches_are_heard_of_once_and_those_of_a_new_process_are_its_own():
    heard: list[dict[int, int]] = []
    world = World()
    world.pool = Pool(
        world.pool.spec,
        world.launcher,
        world.clock,
        LIMITS,
        world.changes,
        on_batches=lambda voice, sizes: heard.append({size: sizes[size] for size in sizes if sizes[size]}),
    )
    await world.start()
    replica = world.replica()
    replica.tell(batches=3, sizes=[[1, 2], [4, 1]])
    replica.tell(batches=3, sizes=[[1, 2], [4, 1]])
    replica.tell(batches=5, sizes=[[1, 3], [4, 2]])
    replica.die()
    await world.until_started(2)
    world.replica().tell(batches=1, sizes=[[8, 1]])
    assert heard == [{1: 2, 4: 1}, {1: 1, 4: 1}, {8: 1}]
