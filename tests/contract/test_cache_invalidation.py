"""Invalidation by tag, and of what is under way, in memory and in a real Redis, over two replicas."""

from functools import partial

import grpc
import pytest

from services.cache import codec, instruments
from services.cache.keys import tag
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
    sound,
    until,
)
from tests.support.redis_server import RedisServer
from voicemesh.cache.v1 import cache_pb2


async def put(
    stream: Stream, key: cache_pb2.CacheKey, value: cache_pb2.CacheValue, *tags: str, age_ms: int = 0
) -> cache_pb2.Done:
    answer = await stream.ask(put=cache_pb2.Put(key=key, value=value, tags=tags, age_ms=age_ms))
    assert answer.HasField("done"), answer
    return answer.done


async def in_redis(redis: RedisServer, *keys: cache_pb2.CacheKey) -> None:
    """Wait until entries have been written behind."""
    async with redis.client() as client:
        for key in keys:
            await until(partial(client.exists, name_of(key)))


async def test_a_tag_is_found_in_both_tiers_and_in_no_other_entry(
    cache: Cache, second: Cache, redis: RedisServer
) -> None:
    lesson, other, plain = audio_key("one"), audio_key("two"), audio_key("three")
    async with cache.stream() as one, second.stream() as two, redis.client() as client:
        await put(one, lesson, audio(), "lesson-3", "class")
        await put(one, reply_key(), reply(), "lesson-3")
        await put(one, other, audio(), "lesson-4", "class")
        await put(one, plain, audio())
        await one.put(history_key(), history("a"))
        await in_redis(redis, lesson, reply_key(), other, plain)
        await client.rpush("voicemesh:v3:audio:a:b:c:d", "a list, not an entry")
        assert (await two.get(lesson)).hit.value == audio()  # its memory has it, with its tags
        removed = await cache.invalidate(tag="lesson-3")
        assert (removed.memory_entries, removed.redis_entries) == (2, 2)
        # It was told to the other one, or is now.
        assert (await second.invalidate(tag="lesson-3")).redis_entries == 0
        for stream in (one, two):
            assert (await stream.get(lesson)).HasField("miss")
            assert (await stream.get(reply_key())).HasField("miss")
            assert (await stream.get(other)).hit.value == audio()
            assert (await stream.get(plain)).hit.value == audio()
            assert (await stream.get(history_key())).hit.value == history("a")


async def test_a_tag_is_found_before_the_head_of_long_audio_was_read_whole(
    cache: Cache, second: Cache, redis: RedisServer
) -> None:
    long = audio(200_000)
    async with cache.stream() as one, second.stream() as two:
        await put(one, audio_key(), long, "lesson")
        await in_redis(redis, audio_key())
        asked = await two.send(get=cache_pb2.Get(key=audio_key(), head_ms=200))
        assert (await asked.next()).hit.more
        while not (await asked.next()).HasField("sealed"):
            pass
        assert (await second.invalidate(tag="lesson")).memory_entries == 1


async def test_a_tag_of_one_tenant_leaves_the_others_alone(cache: Cache, redis: RedisServer) -> None:
    ours, theirs = audio_key(tenant="acme"), audio_key(tenant="rival")
    async with cache.stream() as stream:
        await put(stream, ours, audio(), "lesson")
        await put(stream, theirs, audio(), "lesson")
        await in_redis(redis, ours, theirs)
        removed = await cache.invalidate(tag="lesson", only_tenant="acme")
        assert (removed.memory_entries, removed.redis_entries) == (1, 1)
        assert (await stream.get(ours)).HasField("miss")
        assert (await stream.get(theirs)).HasField("hit")


async def test_what_was_begun_before_an_invalidation_is_not_stored_after_it(
    cache: Cache, redis: RedisServer
) -> None:
    async with cache.stream() as stream, redis.client() as client:
        assert (await stream.get(reply_key())).HasField("miss")
        await cache.invalidate(tag="lesson")
        done = await put(stream, reply_key(), reply(), "lesson", age_ms=3_600_000)
        assert done.stale
        assert (await stream.get(reply_key())).HasField("miss")
        assert not (await put(stream, reply_key(), reply(), "another", age_ms=3_600_000)).stale
        assert (await stream.get(reply_key())).HasField("hit")
        assert not (await put(stream, audio_key(), audio(), "lesson")).stale  # made just now
        await in_redis(redis, reply_key(), audio_key())
        written = await client.get(name_of(audio_key()))
        assert isinstance(written, bytes)
        assert codec.has_tag(written, tag("lesson"))
        stats = await cache.stats()
        assert (stats.invalidations, stats.stale_writes) == (1, 1)
        assert cache.measured.value(instruments.INVALIDATIONS) == 1
        assert cache.measured.value(instruments.STALE) == 1


async def test_audio_that_is_being_made_is_heard_and_not_kept(cache: Cache, redis: RedisServer) -> None:
    async with cache.stream() as holder, cache.stream() as follower, redis.client() as client:
        lease_id = (await holder.get(audio_key(), LEASE)).granted.lease_id
        await holder.append(lease_id, sound(10))
        following = await follower.send(get=cache_pb2.Get(key=audio_key(), on_miss=LEASE))
        assert (await following.next()).HasField("following")
        await cache.invalidate(voice="espeak/en")
        # The follower goes on by itself, behind what it heard; the holder as if nothing had been.
        granted = (await following.next()).granted
        assert granted.offset_samples == 10
        await holder.append(lease_id, sound(10))
        assert (await holder.seal(lease_id)).HasField("done")
        assert (await holder.get(audio_key())).HasField("miss")
        assert not await client.exists(name_of(audio_key()))


async def test_what_is_removed_is_counted(cache: Cache, redis: RedisServer) -> None:
    async with cache.stream() as stream:
        await put(stream, audio_key("one"), audio())
        await put(stream, audio_key("two"), audio())
        await in_redis(redis, audio_key("one"), audio_key("two"))
        await cache.invalidate(key=audio_key("one"))
        await cache.invalidate(all=True)
    stats = await cache.stats()
    assert stats.invalidations == 2
    assert (stats.invalidated_memory_entries, stats.invalidated_redis_entries) == (2, 2)


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        (cache_pb2.Put(key=audio_key(), value=audio(), tags=[""]), "put.tags[0]"),
        (cache_pb2.Put(key=audio_key(), value=audio(), tags=["x" * 129]), "put.tags[0]"),
        (cache_pb2.Put(key=audio_key(), value=audio(), tags=list("abcdefghi")), "put.tags"),
        (cache_pb2.Put(key=history_key(), value=history("a"), tags=["a"]), "put.tags"),
    ],
)
async def test_an_unusable_tag_is_named(cache: Cache, operation: cache_pb2.Put, said: str) -> None:
    async with cache.stream() as stream:
        assert said in (await stream.ask(put=operation)).error.message


async def test_a_tag_must_be_named(cache: Cache) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="tag: must not be empty"):
        await cache.invalidate(tag="")
