"""What one replica removes, the others give up too: at once, after a cut, and where it is not known what."""

import pathlib
from collections.abc import AsyncIterator

import grpc
import pytest

from services.cache import instruments
from services.cache.announcements import KEPT, STREAM
from tests.contract.cache_harness import (
    LEASE,
    Cache,
    audio,
    audio_key,
    history,
    history_key,
    name_of,
    reply,
    reply_key,
    running_cache,
    sound,
    until,
)
from tests.support.redis_proxy import RedisProxy, redis_proxy
from tests.support.redis_server import RedisServer
from voicemesh.cache.v1 import cache_pb2


@pytest.fixture
async def proxy(redis: RedisServer, socket_folder: pathlib.Path) -> AsyncIterator[RedisProxy]:
    async with redis_proxy(socket_folder, redis.url) as running:
        yield running


@pytest.fixture
async def second(unix_address: str, proxy: RedisProxy) -> AsyncIterator[Cache]:
    async with running_cache(f"{unix_address}-2", redis_url=proxy.url) as running:
        yield running


def in_memory(cache: Cache) -> int:
    return sum(counts.entries for counts in cache.service.core.stats().kinds.values())


async def put_in_both(cache: Cache, second: Cache, redis: RedisServer) -> None:
    async with cache.stream() as one, second.stream() as two, redis.client() as client:
        await one.put(audio_key(voice="a"), audio())
        await one.put(audio_key(voice="b"), audio())
        await one.put(reply_key(), reply())
        for key in (audio_key(voice="a"), audio_key(voice="b"), reply_key()):
            await until(lambda key=key: client.exists(name_of(key)))  # type: ignore[misc]
            assert (await two.get(key)).HasField("hit")
    assert in_memory(cache) == in_memory(second) == 3


async def test_a_removal_reaches_the_memory_of_every_replica(
    cache: Cache, second: Cache, redis: RedisServer
) -> None:
    await put_in_both(cache, second, redis)
    assert (await cache.invalidate(voice="a")).memory_entries == 1
    await until(lambda: in_memory(second) == 2)
    async with second.stream() as two:
        assert (await two.get(audio_key(voice="a"))).HasField("miss")
        assert (await two.get(audio_key(voice="b"))).HasField("hit")
    await second.invalidate(key=reply_key())
    await until(lambda: in_memory(cache) == 1)
    await second.invalidate(all=True)
    await until(lambda: in_memory(cache) == 0)


async def test_what_is_being_made_elsewhere_is_not_kept_there(cache: Cache, second: Cache) -> None:
    async with second.stream() as two:
        lease_id = (await two.get(audio_key(voice="a"), LEASE)).granted.lease_id
        await two.append(lease_id, sound(10))
        await cache.invalidate(voice="a")
        # The announcement comes when it comes: what is put meanwhile may go as well.
        await two.put(reply_key(), reply())
        await cache.invalidate(key=reply_key())
        await until(lambda: in_memory(second) == 0)
        await two.append(lease_id, sound(10))
        await two.seal(lease_id)
        assert (await two.get(audio_key(voice="a"))).HasField("miss")


async def test_a_replica_that_was_cut_off_catches_up(
    cache: Cache, second: Cache, redis: RedisServer, proxy: RedisProxy
) -> None:
    await put_in_both(cache, second, redis)
    proxy.cut_before = b"XREAD"
    async with redis.client() as client:
        # The read that waits passed before: it ends with its connection.
        for listening in await client.client_list():
            if listening["cmd"] == "xread":
                await client.client_kill_filter(_id=listening["id"])
        await until(lambda: proxy.cuts > 0)
        await cache.invalidate(voice="a")
        assert in_memory(second) == 3
        proxy.cut_before = b""
        await until(lambda: in_memory(second) == 2)


@pytest.mark.parametrize("what", ["many", "unknown", "no name", "no JSON", "list"])
async def test_where_it_is_not_known_what_was_removed_all_copies_go(
    cache: Cache, second: Cache, redis: RedisServer, what: str
) -> None:
    await put_in_both(cache, second, redis)
    async with second.stream() as two, redis.client() as client:
        await two.put(history_key(), history("a"), 0)
        if what == "many":
            pipeline = client.pipeline()
            for number in range(KEPT + 1):
                pipeline.xadd(STREAM, {"by": "x", "selector": f'{{"target":"key","name":"{number}"}}'})
            await pipeline.execute()
        else:
            message = {
                "unknown": '{"target":"mood","name":"x"}',
                "no name": '{"target":"key"}',
                "no JSON": "{",
                "list": "[]",
            }
            await client.xadd(STREAM, {"by": "x", "selector": message[what]})
        await until(lambda: in_memory(second) == 0)
        assert second.measured.value(instruments.GAPS) == 1
        assert (await two.get(history_key())).hit.value == history("a")


async def test_a_foreign_value_in_the_place_of_the_stream_is_replaced(
    cache: Cache, second: Cache, redis: RedisServer
) -> None:
    await put_in_both(cache, second, redis)
    async with redis.client() as client:
        await client.set(STREAM, b"foreign")
        await cache.invalidate(voice="a")
        assert await client.type(STREAM) == b"stream"
        assert 0 < await client.pttl(STREAM) <= 7_200_000
    await until(lambda: in_memory(second) == 2)


async def test_announcements_go_on_after_redis_was_killed(
    cache: Cache, second: Cache, redis: RedisServer
) -> None:
    await cache.invalidate(voice="a")
    await redis.kill()
    async with cache.stream() as one, second.stream() as two:
        assert (await one.get(audio_key())).miss.degraded
        assert (await two.get(audio_key())).miss.degraded
        await redis.start()
        for running in (cache, second):
            await until(lambda running=running: running.service.core.stats().redis_available)  # type: ignore[misc]
    await put_in_both(cache, second, redis)
    await cache.invalidate(voice="a")
    await until(lambda: in_memory(second) == 2)


async def test_what_was_begun_before_is_not_stored_while_another_replica_still_searches_redis(
    cache: Cache, second: Cache, proxy: RedisProxy
) -> None:
    async with cache.stream() as one:
        await until(lambda: second.service.core.stats().redis_available)
        proxy.cut_before = b"SCAN"
        with pytest.raises(grpc.aio.AioRpcError, match="Redis did not answer"):
            await second.invalidate(tag="lesson")
        await until(lambda: cache.service.core.removals.total == 1)
        put = cache_pb2.Put(key=reply_key(), value=reply(), tags=["lesson"], age_ms=60_000)
        assert (await one.ask(put=put)).done.stale


async def test_a_removal_counts_once_at_every_replica(cache: Cache, second: Cache) -> None:
    await cache.invalidate(tag="one")
    await cache.invalidate(tag="two")
    await second.invalidate(tag="three")
    await until(lambda: cache.service.core.removals.total == second.service.core.removals.total == 3)


async def test_who_was_told_of_a_removal_before_it_is_asked_says_what_it_removed(
    cache: Cache, second: Cache, redis: RedisServer
) -> None:
    await put_in_both(cache, second, redis)
    assert (await cache.invalidate(voice="a", removal_id="r1")).memory_entries == 1
    await until(lambda: in_memory(second) == 2)
    told = await second.invalidate(voice="a", removal_id="r1")
    assert (told.memory_entries, told.redis_entries) == (1, 0)
    for running in (cache, second):
        stats = await running.stats()
        assert (stats.invalidations, stats.invalidated_memory_entries) == (1, 1)
    with pytest.raises(grpc.aio.AioRpcError, match=r"removal_id.*limit is 64"):
        await cache.invalidate(voice="a", removal_id="r" * 65)


async def test_what_was_begun_before_does_not_get_into_redis_for_who_follows_it_elsewhere(
    cache: Cache, second: Cache, redis: RedisServer
) -> None:
    for each in (cache, second):
        shared = each.service.shared
        assert shared is not None
        await until(lambda shared=shared: shared.available)  # type: ignore[misc]
    async with cache.stream() as holder, second.stream() as follower, redis.client() as client:
        await cache.invalidate(tag="lesson")  # the turn began before, and takes its lease after
        lease_id = (await holder.get(audio_key(), LEASE)).granted.lease_id
        await holder.append(lease_id, sound(10))
        following = await follower.send(get=cache_pb2.Get(key=audio_key(), on_miss=LEASE))
        assert (await following.next()).HasField("following")
        seal = cache_pb2.Seal(lease_id=lease_id, tags=["lesson"], age_ms=60_000)
        assert (await holder.ask(seal=seal)).done.stale
        answer = await following.next()
        while not answer.HasField("granted"):  # it goes on alone
            assert answer.HasField("part")
            answer = await following.next()
        await follower.append(answer.granted.lease_id, sound(10))
        assert (await follower.seal(answer.granted.lease_id)).HasField("done")
        assert not await client.exists(name_of(audio_key()))
        assert (await follower.get(audio_key())).HasField("miss")
