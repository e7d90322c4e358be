"""What the cache service measures: of its memory and leases, and of a real Redis that is killed."""

from collections.abc import AsyncIterator

import pytest

from services.cache import instruments
from tests.contract.cache_harness import (
    LEASE,
    Cache,
    audio,
    audio_key,
    history,
    history_key,
    reply,
    reply_key,
    running_cache,
    sound,
    until,
)
from tests.support.redis_server import RedisServer
from voicemesh.runtime.breaker_metrics import BREAKER_STATE


@pytest.fixture
async def alone(unix_address: str) -> AsyncIterator[Cache]:
    async with running_cache(unix_address, cache_memory_bytes=1024 * 1024) as running:
        yield running


async def test_memory_is_told_by_kind_with_what_made_room(alone: Cache) -> None:
    measured = alone.measured
    async with alone.stream() as stream:
        await stream.put(reply_key(), reply())
        await stream.get(reply_key())
        await stream.get(reply_key("What is snow?"))
        assert measured.value(instruments.ENTRIES, "reply", "memory") == 1
        assert measured.value(instruments.SIZE, "reply", "memory") > 0
        assert measured.value(instruments.READS, "reply", "memory") == 1
        assert measured.value(instruments.READS, "reply", "miss") == 1
        assert measured.value(instruments.LIMIT) == 1024 * 1024
        for number in range(12):
            await stream.put(audio_key(f"Number {number}."), audio(45_000))
        kind = {kind.kind: kind for kind in (await alone.stats()).kinds}["audio"]
        assert kind.evictions > 0
        assert measured.value(instruments.EVICTIONS, "audio") == kind.evictions
        assert measured.value(instruments.ENTRIES, "audio", "memory") == kind.entries
        assert measured.value(instruments.SIZE, "audio", "memory") == kind.bytes
    await alone.invalidate(all=True)
    assert measured.value(instruments.INVALIDATIONS) == 1
    assert measured.value(instruments.INVALIDATED, "memory") == kind.entries + 1
    assert measured.points(instruments.REDIS_AVAILABLE) == {}  # there is none
    assert measured.points(BREAKER_STATE) == {}


async def test_leases_and_who_takes_them_over_are_counted(alone: Cache) -> None:
    measured = alone.measured
    async with alone.stream() as holder, alone.stream() as follower:
        lease_id = (await holder.get(audio_key(), LEASE)).granted.lease_id
        asked = await follower.send(get={"key": audio_key(), "on_miss": LEASE})
        assert (await asked.next()).HasField("following")
        assert measured.value(instruments.LEASES) == 1
        await holder.append(lease_id, sound(50))
        assert measured.value(instruments.SIZE, "audio", "filling") == 100
        assert measured.value(instruments.TAKEOVERS) == 0
        await holder.release(lease_id)
        while not (await asked.next()).HasField("granted"):
            pass
        assert measured.value(instruments.TAKEOVERS) == 1
        assert measured.value(instruments.LEASES) == 1
    await until(lambda: measured.value(instruments.LEASES) == 0)


async def test_each_operation_on_redis_is_measured(cache: Cache) -> None:
    measured = cache.measured
    async with cache.stream() as stream:
        await stream.get(reply_key())
        await stream.put(reply_key(), reply())
        await stream.put(history_key(), history("Hello."))
        await stream.get_head(audio_key())
        await stream.get(audio_key("to be made"), LEASE)
        await until(lambda: ("false", "SET") in measured.points(instruments.REDIS_DURATION))
    await cache.invalidate(all=True)
    durations = measured.points(instruments.REDIS_DURATION)
    assert {operation for _, operation in durations} == {
        "GET",
        "GETRANGE",
        "SET",
        "EVAL",
        "UNLINK",
        "SCAN",
        "XADD",
    }
    assert all(each.count >= 1 and each.sum > 0 for each in durations.values())
    assert {failed for failed, _ in durations} == {"false"}
    assert measured.value(instruments.REDIS_AVAILABLE) == 1
    assert measured.value(instruments.READS, "reply", "miss") == 1


async def test_a_redis_that_is_gone_is_told_until_it_is_back(cache: Cache, redis: RedisServer) -> None:
    measured = cache.measured
    assert measured.value(instruments.BEHIND) == 0
    assert measured.points(BREAKER_STATE) == {("redis",): 0}
    await redis.kill()
    async with cache.stream() as stream:
        await stream.get(reply_key())
        await stream.put(reply_key(), reply())
        await until(lambda: measured.value(instruments.REDIS_AVAILABLE) == 0)
        assert measured.points(BREAKER_STATE) == {("redis",): 2}
        assert measured.value(instruments.REDIS_ERRORS, "operation") > 0
        assert measured.points(instruments.ENTRIES)[("writing",)] == 1
        assert measured.points(instruments.SIZE)[("writing",)] > 0
        await until(lambda: measured.value(instruments.BEHIND) > 0)
        await redis.start()
        await until(lambda: measured.value(instruments.REDIS_AVAILABLE) == 1)
        await until(lambda: measured.points(instruments.ENTRIES)[("writing",)] == 0)
    await cache.invalidate(all=True)  # there is something to hear
    await until(lambda: measured.value(instruments.BEHIND) == 0)
    assert measured.points(BREAKER_STATE) == {("redis",): 0}


async def test_a_round_trip_without_an_answer_in_time_is_measured_as_failed(
    unix_address: str, redis: RedisServer
) -> None:
    async with running_cache(unix_address, redis_url=redis.url, cache_redis_timeout_ms=200) as cache:
        measured = cache.measured
        async with cache.stream() as stream:
            await stream.get(reply_key())
            redis.pause()
            assert (await stream.get(reply_key())).miss.degraded
            redis.resume()
        failed = measured.value(instruments.REDIS_DURATION, "true", "GET")
        assert (failed.count, failed.sum >= 0.2) == (1, True)
        assert measured.value(instruments.REDIS_DURATION, "false", "GET").count == 1
