"""Leases across replicas: every order in which things can happen, and some that matter most."""

import random
from collections.abc import Callable

import pytest

from services.cache.keys import Selector
from services.cache.needs import Need
from services.cache.records import KEEP_MS
from tests.unit.cache.simulated_replicas import (
    HEARTBEAT_MS,
    KEY,
    TTL_MS,
    WHOLE,
    Caller,
    Replica,
    World,
    samples,
)

HOLD_MS = 4 * HEARTBEAT_MS


def holders(world: World) -> list[Caller]:
    """Who computes for others, and whose lease is still theirs; those who contend are not counted."""
    return [
        caller
        for replica in world.living
        for caller in replica.callers
        if caller.holds
        and not caller.done
        and not caller.left
        and caller.lease
        and caller.lease.holds
        and caller.lease.fill.shared
    ]


def finish(world: World) -> None:
    """Let whoever has the lease make the rest, until all have heard everything."""
    for _ in range(500):
        world.settle(5)
        for replica in world.living:
            for caller in replica.callers:
                if caller.holds and not caller.done and not caller.left:
                    replica.make(caller, 7)
        if all(caller.done or caller.left for replica in world.living for caller in replica.callers):
            world.settle()
            return
    raise AssertionError("somebody waits for ever")


def check(world: World) -> None:
    for replica in world.living:
        for caller in replica.callers:
            assert caller.heard == samples(0, caller.end), "lost, doubled or in the wrong place"
            assert not caller.done or caller.end == WHOLE
        if replica.memory is not None:
            assert replica.memory == samples(0, WHOLE)
    for value in (*world.records.entries.values(), *world.behind):
        assert value == samples(0, WHOLE)
    record = world.records.records.get(KEY.name)
    if record is not None:
        assert record.audio == samples(0, len(record.audio) // 2).audio
        assert record.words == samples(0, len(record.audio) // 2).words


def test_one_computes_and_the_others_hear_it_wherever_they_are() -> None:
    world = World(3)
    callers = [replica.come() for replica in world.replicas for _ in range(5)]
    world.settle()
    (holder,) = holders(world)
    holder.replica.make(holder, 10)
    world.settle()
    assert {caller.end for caller in callers} == {10}
    late = world.replicas[2].come()
    world.settle()
    assert late.end == 10
    finish(world)
    assert world.records.entries == {KEY.name: samples(0, WHOLE)}
    assert world.records.stored == [(KEY.name, f"{holder.replica.name}-1")]
    assert not world.behind
    assert not world.records.records
    assert all(replica.memory == samples(0, WHOLE) for replica in world.replicas)
    assert all(replica.table.bytes == 0 and replica.replication.records == 0 for replica in world.replicas)
    check(world)


def test_audio_goes_to_redis_only_where_another_replica_follows() -> None:
    world = World(2)
    one, two = world.replicas
    holder = one.come()
    world.settle()
    one.make(holder, 10)
    world.settle()
    assert world.records.records[KEY.name].audio == b""
    follower = two.come()
    world.settle()
    assert world.records.records[KEY.name].audio == samples(0, 10).audio
    assert follower.end == 10


def kill(world: World, holder: Caller) -> None:
    holder.replica.die()


def stop(world: World, holder: Caller) -> None:
    holder.replica.stopped = True


def release(world: World, holder: Caller) -> None:
    holder.replica.leave(holder)


def stall(world: World, holder: Caller) -> None:
    holder.left = True  # it does nothing any more, and nobody is told


def cut(world: World, holder: Caller) -> None:
    world.cut(holder.replica)


@pytest.mark.parametrize("harm", [kill, stop, release, stall, cut])
@pytest.mark.parametrize("beside", [0, 1])
def test_another_replica_takes_over_from_the_same_sample(
    harm: Callable[[World, Caller], None], beside: int
) -> None:
    world = World(3)
    one, two, three = world.replicas
    holder = one.come()
    world.settle()
    followers = [two.come(), three.come(), *(one.come() for _ in range(beside))]
    world.settle()
    one.make(holder, 12)
    world.settle()
    assert [follower.end for follower in followers] == [12] * len(followers)
    harm(world, holder)
    world.settle(TTL_MS + HOLD_MS + 2 * HEARTBEAT_MS)
    next_ones = [caller for caller in holders(world) if caller is not holder]
    assert next_ones
    assert all(caller.made == 12 for caller in next_ones)
    alone = harm is cut or (harm is stop and beside)
    assert len({caller.replica for caller in next_ones}) == 1 or alone
    finish_others = [replica for replica in (two, three) if replica in world.living]
    one.stopped = False
    if harm is cut:
        world.mend(one)
    finish(world)
    check(world)
    assert all(caller.done for replica in finish_others for caller in replica.callers)
    assert len(world.records.stored) == 1


def test_a_holder_that_was_stopped_spoils_nothing_when_it_runs_on() -> None:
    world = World(2)
    one, two = world.replicas
    holder = one.come()
    world.settle()
    beside, away = one.come(), two.come()
    world.settle()
    one.make(holder, 10)
    world.settle()
    one.stopped = True
    world.settle(HOLD_MS + 2)
    assert away.holds
    two.make(away, 5)
    one.stopped = False
    one.make(holder, 10)  # it has not heard of it yet
    beside.replica.listen()
    world.settle(2 * HEARTBEAT_MS)
    assert holder.lease is not None
    assert not holder.lease.holds
    assert (beside.end, away.end) == (20, 15)
    two.make(away, 20)
    world.settle()
    assert beside.end == 35  # what it had already did not come again
    finish(world)
    check(world)
    assert world.records.stored == [(KEY.name, "r1-2")]


def test_a_stalled_holder_keeps_its_lease_while_nobody_else_wants_it() -> None:
    world = World(2)
    one, two = world.replicas
    holder = one.come()
    world.settle()
    one.make(holder, 5)
    world.settle(10 * TTL_MS)
    one.make(holder, 5)
    world.settle(10 * TTL_MS)
    other = two.come()
    world.settle(2)
    assert other.holds
    assert other.made == 10


@pytest.mark.parametrize("where", [0, 1])
def test_an_invalidation_anywhere_makes_the_fill_come_apart_everywhere(where: int) -> None:
    world = World(2)
    one, two = world.replicas
    holder = one.come()
    world.settle()
    follower = two.come()
    world.settle()
    one.make(holder, 10)
    world.settle()
    assert world.replicas[where].table.discard(Selector("all")) == 1
    world.settle()
    assert follower.holds
    assert follower.made == 10
    finish(world)
    assert not world.records.entries
    assert not world.records.stored
    two.memory = None
    anew = two.come()
    world.settle()
    assert anew.holds
    assert anew.made == 0
    check(world)


def test_what_is_invalidated_as_it_is_sealed_is_kept_nowhere() -> None:
    world = World(2)
    one, two = world.replicas
    holder = one.come()
    world.settle()
    follower = two.come()
    world.settle()
    one.make(holder, WHOLE)
    one.memory = None
    for replica in world.replicas:  # the mail that it was stored comes behind the invalidation
        replica.table.discard(Selector("all"))
    finish(world)
    assert follower.done
    assert one.memory is None
    assert two.memory is None


def test_what_is_made_anew_is_not_heard_behind_the_old() -> None:
    world = World(3)
    one, two, three = world.replicas
    holder = one.come()
    world.settle()
    follower = two.come()
    world.settle()
    one.make(holder, 10)
    world.settle()
    world.cut(two)
    three.table.discard(Selector("all"))
    world.records.records[KEY.name].state = "condemned"
    anew = three.come()
    world.settle(2)
    assert anew.holds
    three.make(anew, 20)
    world.mend(two)
    world.settle(2)
    assert follower.holds  # for itself, and from where it was
    assert follower.made == 10
    assert anew.lease is not None
    assert anew.lease.holds


def test_a_redis_that_forgets_costs_no_sample() -> None:
    world = World(2)
    one, two = world.replicas
    holder = one.come()
    world.settle()
    two.come()
    world.settle()
    one.make(holder, 10)
    world.settle()
    world.records.forget()
    world.settle(2 * HOLD_MS)
    finish(world)
    check(world)


def test_while_redis_is_away_followers_wait_no_longer_than_a_heartbeat() -> None:
    world = World(2)
    one, two = world.replicas
    holder = one.come()
    world.settle()
    follower = two.come()
    world.settle()
    one.make(holder, 10)
    world.settle()
    world.cut(two)
    world.settle(HEARTBEAT_MS - 2)
    assert follower not in holders(world)
    world.settle(4)
    assert follower in holders(world)
    assert follower.made == 10
    world.cut(one)
    world.settle()
    one.make(holder, WHOLE)
    two.make(follower, WHOLE)
    world.settle(HEARTBEAT_MS)
    assert len(world.behind) == 2  # two made it, and both keep it
    check(world)


def test_an_answer_that_was_lost_blocks_nobody() -> None:
    world = World(2)
    one, two = world.replicas
    lost = one.come()
    world.lose(one, done=True)  # Redis gave it the lease, and it does not know
    one.arrive(0)
    assert lost.holds
    other = two.come()
    world.settle(2)
    assert other.holds


def test_who_seals_and_asks_again_does_not_make_it_again() -> None:
    world = World(2)
    one, two = world.replicas
    holder = one.come()
    world.settle()
    one.make(holder, WHOLE)
    one.memory = None  # no room for it
    again, away = one.come(), two.come()
    assert not again.holds
    world.settle()
    assert again.done
    assert away.done
    assert len(world.records.stored) == 1
    check(world)


def test_what_is_not_admitted_is_stored_only_where_another_replica_follows() -> None:
    world = World(2)
    world.admits = False
    one, two = world.replicas
    holder = one.come()
    world.settle()
    one.make(holder, WHOLE)
    world.settle()
    assert not world.records.records
    assert not world.records.stored
    one.memory = None
    holder = one.come()
    world.settle()
    two.come()
    world.reach(two)  # and its mail is on its way
    one.make(holder, WHOLE)
    world.settle()
    assert len(world.records.stored) == 1
    assert two.callers[-1].done


def test_a_lease_ends_where_its_record_does() -> None:
    world = World(2)
    one, two = world.replicas
    holder = one.come()
    world.settle()
    one.make(holder, 10)
    one.die()
    world.clock.advance_ms(HOLD_MS + KEEP_MS)
    other = two.come()
    world.settle()
    assert other.holds
    assert other.made == 0


class Chance:
    """Steps in a random order."""

    def __init__(self, seed: int, *, harm: bool) -> None:
        self.random = random.Random(seed)
        self.world = World(self.random.choice((2, 3)))
        self.harm = harm
        self.world.admits = self.random.random() < 0.7
        self.forgotten = 0

    def run(self, steps: int) -> None:
        usual = (
            *((self.come, 3), (self.ask, 20), (self.reach, 20), (self.arrive, 20), (self.hear, 20)),
            *((self.listen, 20), (self.make, 6), (self.leave, 1), (self.wait, 4)),
        )
        bad = (
            *((self.lose, 1), (self.cut, 0.5), (self.mend, 2), (self.stop, 0.3), (self.go_on, 2)),
            *((self.die, 0.1), (self.forget, 0.2), (self.stall, 0.5), (self.unhear, 0.3)),
        )
        choices = (*usual, *bad) if self.harm else usual
        acts, weights = zip(*choices, strict=True)
        for act in self.random.choices(acts, weights, k=steps):
            running = [replica for replica in self.world.living if not replica.stopped]
            if running:
                act(self.random.choice(running))
            check(self.world)
            self.check_one_holder()

    def check_one_holder(self) -> None:
        record = self.world.records.records.get(KEY.name)
        if record is None or record.state != "held":
            return
        with_it = [replica for replica in self.world.replicas if record.token.startswith(f"{replica.name}-")]
        assert len(with_it) == 1
        if not self.harm:
            assert len(holders(self.world)) <= 1

    def come(self, replica: Replica) -> None:
        if len(replica.callers) < 8:
            draw = self.random.choice
            replica.come(Need(due_ms=draw((0, 0, 5000)), begin_ms=draw((0, 20, 200))))

    def ask(self, replica: Replica) -> None:
        replica.ask()

    def reach(self, replica: Replica) -> None:
        if replica.requests and replica.reachable:
            self.world.reach(replica)
        elif replica.requests:
            self.world.lose(replica, done=False)

    def arrive(self, replica: Replica) -> None:
        if replica.answers:
            replica.arrive(self.random.randrange(len(replica.answers)))

    def hear(self, replica: Replica) -> None:
        if replica.mail:
            replica.replication.heard(replica.mail.popleft())

    def listen(self, replica: Replica) -> None:
        replica.listen()

    def make(self, replica: Replica) -> None:
        able = [caller for caller in replica.callers if caller.holds and not caller.done and not caller.left]
        if able:
            replica.make(self.random.choice(able), self.random.randint(1, 9))

    def leave(self, replica: Replica) -> None:
        if replica.callers:
            replica.leave(self.random.choice(replica.callers))

    def wait(self, replica: Replica) -> None:
        del replica
        if self.harm:
            self.world.clock.advance_ms(self.random.choice((1, 10, 30, 60, TTL_MS)))
        else:
            self.world.clock.advance_ms(0.1)

    def lose(self, replica: Replica) -> None:
        if replica.requests:
            self.world.lose(replica, done=self.random.random() < 0.5)

    def cut(self, replica: Replica) -> None:
        self.world.cut(replica)

    def unhear(self, replica: Replica) -> None:
        replica.listening = False
        replica.mail.clear()
        replica.replication.disconnected()

    def mend(self, replica: Replica) -> None:
        if not replica.shares:
            self.world.mend(replica)

    def stop(self, replica: Replica) -> None:
        replica.stopped = True

    def go_on(self, replica: Replica) -> None:
        del replica
        for each in self.world.living:
            each.stopped = False

    def die(self, replica: Replica) -> None:
        if len(self.world.living) > 1:
            replica.die()

    def forget(self, replica: Replica) -> None:
        del replica
        self.world.records.forget()
        self.forgotten += 1

    def stall(self, replica: Replica) -> None:
        for caller in replica.callers:
            if caller.holds:
                caller.holds = False
                caller.left = True  # it does nothing any more, and nobody is told

    def end(self) -> None:
        for replica in self.world.living:
            replica.stopped = False
            self.world.mend(replica)
        finish(self.world)
        check(self.world)


@pytest.mark.parametrize("seed", range(40))
def test_in_any_order_one_makes_it_and_all_hear_it_once(seed: int) -> None:
    chance = Chance(seed, harm=False)
    chance.run(400)
    chance.end()
    assert len(chance.world.records.stored) <= 1
    assert not chance.world.behind


@pytest.mark.parametrize("seed", range(80))
def test_whatever_breaks_in_any_order_all_hear_it_once(seed: int) -> None:
    chance = Chance(seed, harm=True)
    chance.run(400)
    chance.end()
    assert len(chance.world.records.stored) <= 1 + chance.forgotten
