"""A Redis that is slow, a replica, over its limits, still loading, or that forbids: no turn fails for it.

Killed, stopped, full, spoilt, foreign, absent and wrongly addressed ones are in `test_cache_redis.py`.
"""

import asyncio
import os

import pytest
from redis.asyncio import Redis

from tests.contract.cache_harness import (
    LEASE,
    Cache,
    Stream,
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
from tests.support.redis_server import RedisServer
from voicemesh.cache.v1 import cache_pb2

REDIS = cache_pb2.CACHE_TIER_REDIS
MEMORY = cache_pb2.CACHE_TIER_MEMORY


async def command(client: Redis, *words: str) -> None:
    await client.execute_command(*words)  # type: ignore[no-untyped-call]


def available(cache: Cache) -> bool:
    return cache.service.core.stats().redis_available


async def check_that_turns_go_on(stream: Stream, turn: str) -> None:
    """Do all that a turn does, of which nothing was there before; memory has it then."""
    assert (await stream.get(reply_key(turn))).HasField("miss")
    assert (await stream.put(reply_key(turn), reply())).HasField("done")
    lease_id = (await stream.get(audio_key(turn), LEASE)).granted.lease_id
    assert (await stream.append(lease_id, sound(10))).HasField("done")
    assert (await stream.seal(lease_id)).HasField("done")
    assert (await stream.put(history_key(turn), history("a"), 0)).done.version == 1
    assert (await stream.put(history_key(turn), history("a", "b"), 1)).done.version == 2
    assert (await stream.get(history_key(turn))).hit.value == history("a", "b")
    assert (await stream.get(audio_key(turn))).hit.tier == MEMORY
    assert (await stream.get(reply_key(turn))).hit.tier == MEMORY


async def history_is_in_redis(stream: Stream, turn: str) -> bool:
    found = (await stream.get(history_key(turn))).hit
    return found.tier == REDIS and found.version == 2


async def test_one_that_sleeps_is_held_off_and_comes_back(unix_address: str, redis: RedisServer) -> None:
    async with (
        running_cache(unix_address, redis_url=redis.url, cache_redis_timeout_ms=50) as cache,
        cache.stream() as stream,
        redis.client() as client,
    ):
        asleep = asyncio.create_task(command(client, "DEBUG", "SLEEP", "1"))
        await until(lambda: not available(cache) or asleep.done() or _asked(stream))
        await check_that_turns_go_on(stream, "asleep")
        await asleep
        await until(lambda: available(cache))
        await check_that_turns_go_on(stream, "awake")


async def _asked(stream: Stream) -> bool:
    return (await stream.get(audio_key("is it asleep?"))).miss.degraded


async def test_one_that_is_restarted_with_its_data_has_them_again(
    cache: Cache, redis: RedisServer, unix_address: str
) -> None:
    async with cache.stream() as stream, redis.client() as client:
        await check_that_turns_go_on(stream, "before")
        await client.save()
        await redis.kill()
        await check_that_turns_go_on(stream, "without")
        await redis.start()
        await until(lambda: available(cache))
        await until(lambda: history_is_in_redis(stream, "without"))
        assert await history_is_in_redis(stream, "before")
    async with running_cache(f"{unix_address}-2", redis_url=redis.url) as other, other.stream() as stream:
        assert await history_is_in_redis(stream, "before")


async def test_one_that_became_a_replica_is_read_and_written_again_when_it_leads(
    cache: Cache, redis: RedisServer
) -> None:
    async with cache.stream() as stream, redis.client() as client:
        await check_that_turns_go_on(stream, "before")
        await command(client, "REPLICAOF", "127.0.0.1", "1")
        assert (await stream.put(history_key(), history("x"), 0)).done == cache_pb2.Done(
            version=1, degraded=True
        )
        await check_that_turns_go_on(stream, "replica")
        assert await history_is_in_redis(stream, "before")
        assert available(cache)
        await client.config_set("replica-serve-stale-data", "no")
        await check_that_turns_go_on(stream, "replica without its leader")
        await command(client, "REPLICAOF", "NO", "ONE")
        await cache.service.core.histories.restore()
        for turn in ("before", "replica", "replica without its leader"):
            assert await history_is_in_redis(stream, turn)
        await check_that_turns_go_on(stream, "leader")


async def test_one_with_too_many_clients_is_done_without_until_there_is_room(
    unix_address: str, redis: RedisServer
) -> None:
    async with redis.client() as client:
        await client.config_set("maxclients", 1)
        async with running_cache(unix_address, redis_url=redis.url) as cache, cache.stream() as stream:
            await until(lambda: not available(cache))
            await check_that_turns_go_on(stream, "crowded")
            await client.config_set("maxclients", 100)
            await until(lambda: available(cache))
            await until(lambda: history_is_in_redis(stream, "crowded"))


async def test_one_that_still_loads_is_done_without_until_it_has_loaded(
    cache: Cache, redis: RedisServer
) -> None:
    async with cache.stream() as stream, redis.client() as client:
        await check_that_turns_go_on(stream, "before")
        for number in range(20):
            await client.set(f"theirs {number}", os.urandom(1024 * 1024))
        await client.save()
        await redis.kill()
        await redis.launch("--key-load-delay", "50000")  # µs; every 2 MiB it answers, `LOADING`
        assert (await stream.get(audio_key())).miss.degraded
        await check_that_turns_go_on(stream, "loading")
        await until(lambda: available(cache))
        await until(lambda: history_is_in_redis(stream, "loading"))
        assert await history_is_in_redis(stream, "before")


@pytest.mark.parametrize("rights", [("-@all", "+ping"), ("+@all", "-set", "-eval"), ("-@all",)])
async def test_one_that_forbids_is_done_without_and_is_no_reason_to_wait(
    unix_address: str, redis: RedisServer, rights: tuple[str, ...]
) -> None:
    async with redis.client() as client:
        await command(client, "ACL", "SETUSER", "voice", "on", ">word", "~*", "&*", *rights)
        url = redis.url.replace("unix://", "unix://voice:word@")
        async with running_cache(unix_address, redis_url=url) as cache, cache.stream() as stream:
            await check_that_turns_go_on(stream, "forbidden")
            await command(client, "ACL", "SETUSER", "voice", "+@all")
            await until(lambda: available(cache))
            await cache.service.core.histories.restore()
            await until(lambda: history_is_in_redis(stream, "forbidden"))
            assert "word" not in str(cache.runtime.readiness)


async def test_a_wrong_password_that_is_put_right_in_redis_is_found_out(
    unix_address: str, redis: RedisServer
) -> None:
    async with redis.client() as client:
        await command(client, "ACL", "SETUSER", "voice", "on", ">old", "~*", "&*", "+@all")
        url = redis.url.replace("unix://", "unix://voice:new@")
        async with running_cache(unix_address, redis_url=url) as cache, cache.stream() as stream:
            await until(lambda: not available(cache))
            await check_that_turns_go_on(stream, "refused")
            await command(client, "ACL", "SETUSER", "voice", ">new")
            await until(lambda: available(cache))
            await until(lambda: history_is_in_redis(stream, "refused"))


async def test_histories_of_another_type_and_of_another_layout_are_written_over(
    cache: Cache, redis: RedisServer
) -> None:
    async with cache.stream() as stream, redis.client() as client:
        for number, spoil in enumerate((b"VMC\x01\x03" + bytes(50), b"VMC\x02\x03", b"")):
            key = history_key(f"s{number}")
            await client.set(name_of(key), spoil)
            assert (await stream.get(key)).HasField("miss")
            assert (await stream.put(key, history("a"), 0)).done.version == 1
            assert (await stream.get(key)).hit.tier == REDIS
        await client.hset(name_of(audio_key()), "a", "b")
        assert (await stream.put(audio_key(), audio())).HasField("done")
        assert available(cache)
