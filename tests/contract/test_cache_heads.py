"""The head of an entry before the rest: from memory, from Redis, and where the rest is lost."""

import pathlib
from collections.abc import Callable

import pytest

from tests.contract.cache_harness import (
    FORMAT,
    LEASE,
    Cache,
    audio,
    audio_key,
    history_key,
    joined,
    name_of,
    running_cache,
    sound,
    speech,
    until,
)
from tests.support.redis_proxy import redis_proxy
from tests.support.redis_server import RedisServer
from voicemesh.cache.v1 import cache_pb2
from voicemesh.common.v1 import common_pb2

REDIS = cache_pb2.CACHE_TIER_REDIS
MEMORY = cache_pb2.CACHE_TIER_MEMORY
LONG = speech(20)  # 882 kB


async def put(cache: Cache, redis: RedisServer, value: cache_pb2.CacheValue) -> None:
    """Put an entry and wait until it is in Redis."""
    async with cache.stream() as stream, redis.client() as client:
        assert (await stream.put(audio_key(), value)).HasField("done")
        await until(lambda: client.exists(name_of(audio_key())))


@pytest.mark.parametrize("on_miss", [0, LEASE])
async def test_the_head_comes_first_from_redis_and_then_from_memory(
    cache: Cache, second: Cache, redis: RedisServer, on_miss: int
) -> None:
    await put(cache, redis, LONG)
    async with second.stream() as stream:
        for tier in (REDIS, MEMORY):
            answers = await stream.get_head(audio_key(), on_miss=on_miss)
            head = answers[0].hit
            assert head.tier == tier
            assert head.more
            assert 2 * 22050 // 5 <= len(head.value.audio.audio) < 65_536
            assert joined(answers) == LONG
        assert (await stream.get(audio_key())).hit == cache_pb2.Hit(value=LONG, tier=MEMORY)
    stats = await second.stats()
    assert [(kind.memory_hits, kind.redis_hits) for kind in stats.kinds if kind.kind == "audio"] == [(2, 1)]


async def test_a_short_entry_comes_whole(cache: Cache, second: Cache, redis: RedisServer) -> None:
    await put(cache, redis, speech(1))
    async with second.stream() as stream:
        for tier in (REDIS, MEMORY):
            (answer,) = await stream.get_head(audio_key())
            assert answer.hit == cache_pb2.Hit(value=speech(1), tier=tier)


async def test_a_head_of_more_than_is_there_is_the_whole(
    cache: Cache, second: Cache, redis: RedisServer
) -> None:
    await put(cache, redis, LONG)
    async with second.stream() as stream:
        for head_ms, pieces in ((60_000, 1), (4_294_967_295, 1), (10_000, 3)):
            answers = await stream.get_head(audio_key(), head_ms)
            assert len(answers) >= pieces
            if pieces == 1:
                assert answers[0].hit.value == LONG
            else:
                assert len(answers[0].hit.value.audio.audio) == 10 * 2 * 22050
                assert joined(answers) == LONG


async def test_a_head_is_missed_as_an_entry_is(cache: Cache) -> None:
    async with cache.stream() as stream:
        (answer,) = await stream.get_head(audio_key())
        assert answer.miss == cache_pb2.Miss()
        asked = await stream.send(get=cache_pb2.Get(key=audio_key(), on_miss=LEASE, head_ms=200))
        lease_id = (await asked.next()).granted.lease_id
        await stream.append(lease_id, sound(10))
        await stream.seal(lease_id)
        (answer,) = await stream.get_head(audio_key())
        assert not answer.hit.more


async def test_heads_of_one_stream_do_not_mix(cache: Cache, redis: RedisServer) -> None:
    await put(cache, redis, LONG)
    async with cache.stream() as stream:
        asked = [
            await stream.send(get=cache_pb2.Get(key=audio_key(), head_ms=200)) for _ in range(100)
        ]  # more than may be under way
        await stream.call.done_writing()
        for request in asked:
            answers = [await request.next()]
            while not answers[-1].HasField("sealed"):
                answers.append(await request.next())
            assert joined(answers) == LONG


async def test_a_head_is_for_audio_that_can_be_counted(cache: Cache) -> None:
    opus = audio_key()
    opus.audio.format.encoding = common_pb2.AUDIO_ENCODING_OPUS
    async with cache.stream() as stream:
        (answer,) = await stream.get_head(history_key())
        assert "get.head_ms" in answer.error.message
        (answer,) = await stream.get_head(opus)
        assert "get.key.audio.format.encoding" in answer.error.message


Spoil = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    ("spoil", "whole"),
    [
        (lambda data: data[:-1], True),
        (lambda data: data + b"\x00", True),
        (lambda data: data[:100] + b"\xff" + data[101:], True),
        (lambda data: data[:10_000] + b"\xff" + data[10_001:], True),
        (lambda data: b"\x80\x04\x95 not ours", True),
        (lambda data: b"", True),
        (lambda data: data[:-1] + b"\xff", False),
        (lambda data: data[:400_000] + b"\xff" + data[400_001:], False),
    ],
    ids=["cut", "longer", "header", "head", "foreign", "empty", "end", "middle"],
)
async def test_what_is_spoilt_is_a_miss_or_ends_behind_the_head(
    cache: Cache, second: Cache, redis: RedisServer, spoil: Spoil, whole: bool
) -> None:
    await put(cache, redis, LONG)
    name = name_of(audio_key())
    async with second.stream() as stream, redis.client() as client:
        data = await client.get(name)
        assert isinstance(data, bytes)
        await client.set(name, spoil(data))
        answers = await stream.get_head(audio_key())
        if whole:
            assert [answer.WhichOneof("result") for answer in answers] == ["miss"]
        else:
            assert [answer.WhichOneof("result") for answer in answers] == ["hit", "error"]
            assert LONG.audio.audio.startswith(answers[0].hit.value.audio.audio)
            assert "the rest" in answers[1].error.message
        await until(lambda: second.service.core.stats().redis_corrupt == 1)
        assert not await client.exists(name)
        assert (await second.stats()).redis_available
        assert (await stream.get(audio_key())).HasField("miss")


async def test_a_list_in_its_place_is_a_miss(cache: Cache, redis: RedisServer) -> None:
    async with cache.stream() as stream, redis.client() as client:
        await client.rpush(name_of(audio_key()), "x")
        (answer,) = await stream.get_head(audio_key())
        assert answer.HasField("miss")
        assert not await client.exists(name_of(audio_key()))


async def test_an_entry_of_another_layout_is_a_miss_and_stays(cache: Cache, redis: RedisServer) -> None:
    async with cache.stream() as stream, redis.client() as client:
        await client.set(name_of(audio_key()), b"VMC\x01" + bytes(100))
        assert (await stream.get(audio_key())).HasField("miss")
        (answer,) = await stream.get_head(audio_key())
        assert answer.HasField("miss")
        assert await client.exists(name_of(audio_key()))
        assert (await cache.stats()).redis_corrupt == 0
        await stream.put(audio_key(), audio())  # which writes over it


@pytest.mark.parametrize("broken", ["before", "within"])
async def test_a_rest_that_does_not_come_ends_behind_the_head(
    cache: Cache, redis: RedisServer, unix_address: str, socket_folder: pathlib.Path, broken: str
) -> None:
    await put(cache, redis, LONG)
    async with (
        redis_proxy(socket_folder, redis.url) as proxy,
        running_cache(f"{unix_address}-2", redis_url=proxy.url) as second,
        second.stream() as stream,
    ):
        await stream.get(history_key())
        if broken == "before":
            async with redis.client() as client:
                last = await client.strlen(name_of(audio_key())) - 1
            proxy.cut_before = f"\r\n{last}\r\n".encode()
        else:
            proxy.cut_within = 100_000
        answers = await stream.get_head(audio_key())
        assert [answer.WhichOneof("result") for answer in answers] == ["hit", "error"]
        assert answers[0].hit.value.audio.format == FORMAT
        assert proxy.cuts  # more than one where another of its connections spoke just then
        proxy.cut_before, proxy.cut_within = b"", None
        await until(lambda: second.service.core.stats().redis_available)
        assert joined(await stream.get_head(audio_key())) == LONG
