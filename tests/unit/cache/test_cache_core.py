"""Memory before Redis, and what happens to a history when Redis goes and comes."""

import asyncio

import pytest

from services.cache.admission import Admission, AdmissionCounts, RequestRecord
from services.cache.answers import Conflict, Done, Hit, Joined, Miss, Removed
from services.cache.core import CacheCore
from services.cache.durable import Untraced
from services.cache.fills import Following, Granted
from services.cache.keys import Selector, StoredKey, select, tag
from services.cache.leases import LeaseTable
from services.cache.lifetimes import Lifetimes
from services.cache.memory import MemoryTier
from services.cache.values import HistoryValue, ReplyValue
from tests.unit.cache.fake_durable import FakeDurable
from tests.unit.cache.values_for_tests import FORMAT, audio, audio_key, history, history_key
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.errors import InvalidFieldError, ServiceUnavailableError

MIB = 1024 * 1024
LIFETIMES = Lifetimes(audio_ms=7200_000, reply_ms=1800_000, history_ms=3600_000, history_copy_ms=300_000)


class Process:
    """One cache process, with a clock of its own."""

    def __init__(self, durable: FakeDurable | None = None, memory_bytes: int = 8 * MIB) -> None:
        self.clock = ManualClock()
        self.memory = MemoryTier(self.clock, memory_bytes)
        leases = LeaseTable(self.clock, ttl_ms=2000, max_value_bytes=MIB, budget_bytes=8 * MIB)
        self.core = CacheCore(
            clock=self.clock, memory=self.memory, leases=leases, lifetimes=LIFETIMES, durable=durable
        )

    async def get(self, key: StoredKey) -> Hit | Miss:
        return await self.core.get(key, Untraced())

    async def put(self, key: StoredKey, value: HistoryValue, expected: int | None = None) -> Done | Conflict:
        done = self.core.put_now(key, value, expected)
        return done or await self.core.histories.put(key, value, expected, Untraced())

    async def acquire(self, key: StoredKey) -> Hit | Joined:
        return await self.core.acquire(key, FORMAT, Untraced())


H1, H2, H3 = history("a"), history("a", "b"), history("a", "b", "c")
KEY = history_key()


async def test_memory_alone_needs_no_waiting() -> None:
    process = Process()
    assert process.core.get_now(audio_key()) == Miss()
    assert process.core.put_now(audio_key(), audio(10), None) == Done()
    assert process.core.get_now(audio_key()) == Hit(audio(10), "memory")
    process.clock.advance_ms(LIFETIMES.audio_ms)
    assert process.core.get_now(audio_key()) == Miss()


async def test_each_kind_has_its_lifetime() -> None:
    process = Process()
    process.core.put_now(audio_key(), audio(10), None)
    await process.put(KEY, H1)
    process.clock.advance_ms(LIFETIMES.history_ms - 1)
    assert await process.get(KEY) == Hit(H1, "memory", 1)
    process.clock.advance_ms(1)
    assert await process.get(KEY) == Miss()
    assert await process.get(audio_key()) == Hit(audio(10), "memory")


async def test_versions_of_histories_without_redis() -> None:
    process = Process()
    assert await process.put(KEY, H1, 1) == Conflict(0)
    assert await process.put(KEY, H1, 0) == Done(1)
    assert await process.put(KEY, H2, 0) == Conflict(1)
    assert await process.put(KEY, H2, 1) == Done(2)
    assert await process.put(KEY, H3) == Done(3)
    assert await process.get(KEY) == Hit(H3, "memory", 3)


async def test_a_version_is_for_histories_only() -> None:
    with pytest.raises(InvalidFieldError, match=r"put\.expected_version"):
        Process().core.put_now(audio_key(), audio(10), 0)


async def test_a_history_that_nothing_can_keep_is_refused() -> None:
    with pytest.raises(InvalidFieldError, match=r"put\.value\.history"):
        await Process().put(KEY, history("x" * MIB))
    big = Process(FakeDurable())
    assert await big.put(KEY, history("x" * MIB)) == Done(1)  # Redis can
    assert await big.get(KEY) == Hit(history("x" * MIB), "redis", 1)


async def test_redis_fills_memory_for_no_longer_than_it_keeps_it_itself() -> None:
    durable = FakeDurable()
    one, two = Process(durable), Process(durable)
    one.core.put_now(audio_key(), audio(10), None)
    assert two.core.get_now(audio_key()) is None
    durable.ttl_ms = 5000
    assert await two.get(audio_key()) == Hit(audio(10), "redis")
    assert two.core.get_now(audio_key()) == Hit(audio(10), "memory")
    two.clock.advance_ms(5000)
    assert two.core.get_now(audio_key()) is None


async def test_misses_say_whether_redis_was_asked() -> None:
    durable = FakeDurable()
    process = Process(durable)
    assert await process.get(audio_key()) == Miss(degraded=False)
    durable.down = True
    assert await process.get(audio_key()) == Miss(degraded=True)
    assert process.core.get_now(audio_key()) == Miss(degraded=True)  # held off: nobody waits any more
    assert process.core.put_now(audio_key(), audio(10), None) == Done(degraded=True)
    assert process.core.get_now(audio_key()) == Hit(audio(10), "memory")


async def test_two_processes_see_each_others_histories_at_once() -> None:
    durable = FakeDurable()
    one, two = Process(durable), Process(durable)
    assert await one.put(KEY, H1, 0) == Done(1)
    assert await two.get(KEY) == Hit(H1, "redis", 1)
    assert await two.put(KEY, H2, 1) == Done(2)
    assert await one.get(KEY) == Hit(H2, "redis", 2)
    assert await one.put(KEY, H3, 1) == Conflict(2)


async def test_a_history_survives_redis_being_away() -> None:
    durable = FakeDurable()
    process = Process(durable)
    await process.put(KEY, H1, 0)
    durable.down = True
    assert await process.get(KEY) == Hit(H1, "memory", 1)
    assert await process.put(KEY, H2, 1) == Done(2, degraded=True)
    assert await process.put(KEY, H3, 1) == Conflict(2)
    durable.down = durable.held_off = False
    # Redis has version 1; memory knows better, also before it was written back.
    assert await process.get(KEY) == Hit(H2, "memory", 2)
    assert await process.put(KEY, H3, 2) == Done(3)
    assert await process.get(KEY) == Hit(H3, "redis", 3)


async def test_histories_are_written_back_when_redis_is_there_again() -> None:
    durable = FakeDurable()
    process = Process(durable)
    await process.put(KEY, H1, 0)
    await process.put(history_key("other"), H1, 0)
    process.core.histories.lost()
    durable.entries.clear()  # it was restarted, and had kept nothing
    assert await process.core.histories.restore() == 2
    assert durable.version(KEY) == 1
    assert await process.core.histories.restore() == 0
    assert await process.get(KEY) == Hit(H1, "redis", 1)


async def test_what_another_process_wrote_meanwhile_wins() -> None:
    durable = FakeDurable()
    one, two = Process(durable), Process(durable)
    await one.put(KEY, H1, 0)
    one.core.histories.lost()
    await two.put(KEY, H2, 1)
    assert await one.core.histories.restore() == 0
    assert await one.get(KEY) == Hit(H2, "redis", 2)


async def test_what_another_process_removed_is_gone() -> None:
    durable = FakeDurable()
    one, two = Process(durable), Process(durable)
    await one.put(KEY, H1, 0)
    await two.core.invalidation.invalidate(select("tenant", ""))
    assert await one.get(KEY) == Miss()
    assert await one.put(KEY, H1, 1) == Conflict(0)


async def test_a_caller_that_knows_the_version_is_believed_while_redis_is_away() -> None:
    durable = FakeDurable()
    process = Process(durable)
    durable.down = True
    assert await process.put(KEY, H2, 7) == Done(8, degraded=True)
    durable.down = durable.held_off = False
    durable.entries[KEY.name] = (KEY, H1, 7)
    assert await process.core.histories.restore() == 1
    assert durable.version(KEY) == 8


async def test_a_write_that_redis_refuses_is_kept_in_memory_and_tried_again() -> None:
    durable = FakeDurable()
    process = Process(durable)
    await process.put(KEY, H1, 0)
    durable.refuses = True
    assert await process.put(KEY, H2, 1) == Done(2, degraded=True)
    assert await process.get(KEY) == Hit(H2, "memory", 2)
    durable.refuses = False
    assert await process.core.histories.restore() == 1
    assert durable.version(KEY) == 2


async def test_a_read_that_was_overtaken_by_a_write_spoils_nothing() -> None:
    durable = FakeDurable()
    process = Process(durable)
    await process.put(KEY, H1, 0)
    durable.gate.clear()
    reading = asyncio.create_task(process.get(KEY))
    await asyncio.sleep(0)
    writing = asyncio.create_task(process.put(KEY, H2, 1))
    await asyncio.sleep(0)
    durable.gate.set()
    await writing
    assert await reading in (Hit(H1, "redis", 1), Hit(H2, "memory", 2))
    durable.down = True
    assert await process.get(KEY) == Hit(H2, "memory", 2)


async def test_what_is_removed_while_it_is_read_does_not_come_back() -> None:
    durable = FakeDurable()
    one, two = Process(durable), Process(durable)
    one.core.put_now(audio_key(), audio(10), None)
    durable.gate.clear()
    reading = asyncio.create_task(two.get(audio_key()))
    await asyncio.sleep(0)
    removing = asyncio.create_task(two.core.invalidation.invalidate(Selector("all")))
    await asyncio.sleep(0)
    durable.gate.set()
    await asyncio.gather(reading, removing)
    assert await two.get(audio_key()) == Miss()


async def test_what_is_read_while_redis_is_searched_does_not_stay_in_memory() -> None:
    durable = FakeDurable()
    one, two = Process(durable), Process(durable)
    one.core.put_now(audio_key(), audio(10), None)
    durable.removing.clear()
    removing = asyncio.create_task(two.core.invalidation.invalidate(Selector("all")))
    await asyncio.sleep(0)
    assert await two.get(audio_key()) == Hit(audio(10), "redis")  # it is not gone there yet
    durable.gate.clear()
    reading = asyncio.create_task(two.get(audio_key("other")))
    durable.entries[audio_key("other").name] = (audio_key("other"), audio(10), 0)
    await asyncio.sleep(0)
    durable.gate.set()
    durable.removing.set()
    await asyncio.gather(removing, reading)
    assert await two.get(audio_key()) == Miss()
    assert await two.get(audio_key("other")) == Miss()


async def test_what_was_begun_before_it_was_invalidated_is_not_kept() -> None:
    process = Process(FakeDurable())
    voice = audio_key(voice="a")
    process.clock.advance_ms(1000)
    await process.core.invalidation.invalidate(select("voice", "a"))
    process.clock.advance_ms(500)
    assert process.core.put_now(voice, audio(10), None, age_ms=501) == Done(stale=True)
    assert process.core.put_now(voice, audio(10), None, age_ms=500) == Done(stale=True)  # at the same moment
    assert await process.get(voice) == Miss()
    assert process.core.put_now(audio_key(voice="b"), audio(10), None, age_ms=501) == Done()
    assert process.core.put_now(voice, audio(10), None, age_ms=499) == Done()
    assert await process.get(voice) == Hit(audio(10), "memory")
    assert process.core.stats().removals.stale_puts == 2


async def test_what_is_being_made_is_not_kept_whatever_its_tags_will_be() -> None:
    process = Process()
    joined = await process.acquire(audio_key())
    assert isinstance(joined, Joined)
    process.core.append(joined.lease, audio(10))
    await process.core.invalidation.invalidate(select("tag", "lesson"))
    process.core.seal(joined.lease, (tag("lesson"),))
    assert await process.get(audio_key()) == Miss()


async def test_audio_of_a_turn_that_began_before_is_not_kept_although_its_lease_is_younger() -> None:
    process = Process()
    process.clock.advance_ms(1000)
    await process.core.invalidation.invalidate(select("tag", "lesson"))
    process.clock.advance_ms(10)
    for text, age_ms, kept in (("old", 11, False), ("new", 9, True)):
        joined = await process.acquire(audio_key(text))
        assert isinstance(joined, Joined)
        process.core.append(joined.lease, audio(10))
        assert process.core.seal(joined.lease, (tag("lesson"),), age_ms).stale is not kept
        assert isinstance(await process.get(audio_key(text)), Hit) is kept


async def test_sealed_audio_has_the_tags_that_it_was_sealed_with() -> None:
    process = Process()
    joined = await process.acquire(audio_key())
    assert isinstance(joined, Joined)
    process.core.append(joined.lease, audio(10))
    process.core.seal(joined.lease, (tag("lesson"),))
    assert (await process.core.invalidation.invalidate(select("tag", "other"))).memory_entries == 0
    assert (await process.core.invalidation.invalidate(select("tag", "lesson"))).memory_entries == 1


async def test_invalidation_counts_both_tiers_and_fails_where_redis_is_away() -> None:
    durable = FakeDurable()
    process = Process(durable)
    process.core.put_now(audio_key(voice="a"), audio(10), None)
    process.core.put_now(audio_key(voice="b"), audio(10), None)
    assert await process.core.invalidation.invalidate(select("voice", "a")) == Removed(1, 1)
    durable.down = True
    with pytest.raises(ServiceUnavailableError, match="1 entries were removed from memory"):
        await process.core.invalidation.invalidate(Selector("all"))


async def test_a_lease_is_taken_only_where_redis_has_not_got_it_either() -> None:
    durable = FakeDurable()
    one, two = Process(durable), Process(durable)
    taken = await one.acquire(audio_key())
    assert isinstance(taken, Joined)
    assert isinstance(taken.event, Granted)
    one.core.append(taken.lease, audio(10))
    assert one.core.seal(taken.lease) == Done()
    assert await two.acquire(audio_key()) == Hit(audio(10), "redis")
    assert await one.acquire(audio_key()) == Hit(audio(10), "memory")


async def test_many_that_ask_at_once_make_one_holder() -> None:
    durable = FakeDurable()
    process = Process(durable)
    durable.gate.clear()
    asking = [asyncio.create_task(process.acquire(audio_key())) for _ in range(20)]
    await asyncio.sleep(0)
    durable.gate.set()
    joined = await asyncio.gather(*asking)
    assert sum(isinstance(found, Joined) and isinstance(found.event, Granted) for found in joined) == 1
    assert sum(isinstance(found, Joined) and isinstance(found.event, Following) for found in joined) == 19
    durable.asked.clear()
    assert isinstance(process.core.acquire_now(audio_key(), FORMAT), Joined)
    assert durable.asked == []  # nobody asks Redis for what is being made here


async def test_stats_tell_where_reads_were_answered() -> None:
    durable = FakeDurable()
    one, two = Process(durable), Process(durable)
    one.core.put_now(audio_key(), audio(10), None)
    one.core.get_now(audio_key())
    await two.get(audio_key())
    await two.get(audio_key("other"))
    counts = two.core.stats().kinds["audio"]
    assert (counts.memory_hits, counts.redis_hits, counts.misses, counts.entries) == (0, 1, 1, 1)
    assert one.core.stats().kinds["audio"].memory_hits == 1
    assert one.core.stats().redis_available
    reply = audio_key("r")
    assert one.core.put_now(reply, ReplyValue("x"), None) == Done()


def twice(durable: FakeDurable, memory_requests: int = 1) -> Process:
    """Return a process that gives Redis what was asked for twice."""
    process = Process(durable)
    record = RequestRecord(process.clock, window_ms=LIFETIMES.audio_ms, keys=1000)
    admission = Admission(record, memory_requests=memory_requests, redis_requests=2)
    process.core = CacheCore(
        clock=process.clock,
        memory=process.memory,
        leases=process.core.leases,
        lifetimes=LIFETIMES,
        durable=durable,
        admission=admission,
    )
    return process


async def ask(process: Process, key: StoredKey) -> Hit | Miss:
    process.core.asked(key)
    return await process.get(key)


async def test_a_phrase_that_is_asked_for_once_costs_redis_nothing() -> None:
    durable = FakeDurable()
    process = twice(durable)
    assert await ask(process, audio_key()) == Miss()
    assert process.core.put_now(audio_key(), audio(10), None) == Done(not_admitted=("redis",))
    assert durable.entries == {}
    assert process.core.stats().admission == AdmissionCounts(redis_refused=1)


async def test_the_second_request_finds_it_in_memory_and_gives_it_to_redis() -> None:
    durable = FakeDurable()
    process = twice(durable)
    await ask(process, audio_key())
    process.core.put_now(audio_key(), audio(10), None)
    assert await ask(process, audio_key()) == Hit(audio(10), "memory")
    assert durable.entries[audio_key().name][1] == audio(10)
    durable.entries.clear()
    assert await ask(process, audio_key()) == Hit(audio(10), "memory")
    assert durable.entries == {}  # it was given it once
    assert process.core.stats().admission == AdmissionCounts(redis_refused=1, redis_later=1)


async def test_where_memory_has_lost_it_the_second_making_is_kept_in_both() -> None:
    durable = FakeDurable()
    process = twice(durable)
    await ask(process, audio_key())
    process.core.put_now(audio_key(), audio(10), None)
    process.memory.remove(audio_key())
    assert await ask(process, audio_key()) == Miss()
    assert process.core.put_now(audio_key(), audio(10), None) == Done()
    assert audio_key().name in durable.entries


async def test_memory_too_can_wait_for_the_second_request() -> None:
    process = twice(FakeDurable(), memory_requests=2)
    for kept in (Done(not_admitted=("memory", "redis")), Done()):
        assert await ask(process, audio_key()) == Miss()
        assert process.core.put_now(audio_key(), audio(10), None) == kept
    assert await ask(process, audio_key()) == Hit(audio(10), "memory")


async def test_followers_of_a_lease_are_requests_as_well() -> None:
    durable = FakeDurable()
    process = twice(durable)
    process.core.asked(audio_key())
    held = await process.acquire(audio_key())
    process.core.asked(audio_key())
    await process.acquire(audio_key())
    assert isinstance(held, Joined)
    process.core.append(held.lease, audio(10))
    assert process.core.seal(held.lease) == Done()
    assert audio_key().name in durable.entries


async def test_redis_is_not_given_later_what_it_cannot_take_now() -> None:
    durable = FakeDurable()
    process = twice(durable)
    await ask(process, audio_key())
    process.core.put_now(audio_key(), audio(10), None)
    durable.held_off = True
    await ask(process, audio_key())
    durable.held_off = False
    assert durable.entries == {}
    await ask(process, audio_key())
    assert audio_key().name in durable.entries
