"""CacheService with a real Redis behind it: shared, killed, restarted, stopped, full, and spoiled."""

import asyncio
import contextlib
import pathlib
import socket
from collections.abc import Callable

import grpc
import pytest
from opentelemetry.trace import SpanKind
from pydantic import SecretStr

from services.cache import instruments
from services.cache.announcements import STREAM
from services.cache.settings import CacheSettings
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
from tests.support.redis_server import RedisServer, redis_server
from voicemesh.cache.v1 import cache_pb2

REDIS = cache_pb2.CACHE_TIER_REDIS
MEMORY = cache_pb2.CACHE_TIER_MEMORY


async def stored(redis: RedisServer, key: cache_pb2.CacheKey) -> bytes:
    """Wait until an entry has been written behind, and return its bytes."""
    async with redis.client() as client:
        await until(lambda: client.exists(name_of(key)))
        data = await client.get(name_of(key))
    assert isinstance(data, bytes)
    return data


def available(cache: Cache, *, wanted: bool = True) -> Callable[[], bool]:
    return lambda: cache.service.core.stats().redis_available is wanted


@pytest.mark.parametrize(("key", "value"), [(audio_key(), audio()), (reply_key(), reply())])
async def test_another_process_finds_what_one_has_put(
    cache: Cache, second: Cache, redis: RedisServer, key: cache_pb2.CacheKey, value: cache_pb2.CacheValue
) -> None:
    async with cache.stream() as one, second.stream() as two:
        assert (await one.put(key, value)).done == cache_pb2.Done()
        await stored(redis, key)
        assert (await two.get(key)).hit == cache_pb2.Hit(value=value, tier=REDIS)
        assert (await two.get(key)).hit == cache_pb2.Hit(value=value, tier=MEMORY)


async def test_sealed_audio_is_shared_too(cache: Cache, second: Cache, redis: RedisServer) -> None:
    async with cache.stream() as one, second.stream() as two:
        lease_id = (await one.get(audio_key(), LEASE)).granted.lease_id
        await one.append(lease_id, sound(10))
        await one.seal(lease_id)
        await stored(redis, audio_key())
        assert (await two.get(audio_key(), LEASE)).hit.tier == REDIS


async def test_entries_expire_in_redis(cache: Cache, redis: RedisServer) -> None:
    async with cache.stream() as stream:
        await stream.put(audio_key(), audio())
        await stream.put(reply_key(), reply())
        await stream.put(history_key(), history("a"))
    for key, seconds in ((audio_key(), 7200), (reply_key(), 1800), (history_key(), 3600)):
        await stored(redis, key)
        async with redis.client() as client:
            assert seconds - 60 < await client.ttl(name_of(key)) <= seconds


async def test_histories_of_two_processes_never_overwrite_each_other(cache: Cache, second: Cache) -> None:
    async with cache.stream() as one, second.stream() as two:
        assert (await one.put(history_key(), history("a"), 0)).done.version == 1
        assert (await two.put(history_key(), history("b"), 0)).conflict.version == 1
        assert (await two.get(history_key())).hit == cache_pb2.Hit(value=history("a"), tier=REDIS, version=1)
        assert (await two.put(history_key(), history("a", "b"), 1)).done.version == 2
        assert (await one.put(history_key(), history("a", "c"), 1)).conflict.version == 2
        assert (await one.get(history_key())).hit.value == history("a", "b")

        async def add(stream: Stream, text: str) -> None:
            while True:
                found = (await stream.get(history_key())).hit
                found.value.history.messages.extend(history(text).history.messages)
                answer = await stream.put(history_key(), found.value, found.version)
                if answer.HasField("done"):
                    return

        await asyncio.gather(*(add(stream, str(number)) for number in range(10) for stream in (one, two)))
        found = (await one.get(history_key())).hit
        texts = [message.parts[0].text for message in found.value.history.messages]
        assert sorted(texts) == sorted(["a", "b", *[str(number) for number in range(10)] * 2])
        assert found.version == 22


async def test_a_history_outlives_the_process(unix_address: str, redis: RedisServer) -> None:
    async with running_cache(unix_address, redis_url=redis.url) as cache, cache.stream() as stream:
        await stream.put(history_key(), history("a"), 0)
    async with running_cache(f"{unix_address}-2", redis_url=redis.url) as cache, cache.stream() as stream:
        assert (await stream.get(history_key())).hit == cache_pb2.Hit(
            value=history("a"), tier=REDIS, version=1
        )


async def test_what_waits_to_be_written_is_written_at_the_end(unix_address: str, redis: RedisServer) -> None:
    async with running_cache(unix_address, redis_url=redis.url) as cache, cache.stream() as stream:
        for number in range(100):
            await stream.put(audio_key(str(number)), audio())
    async with redis.client() as client:
        assert await client.dbsize() == 100


async def test_a_redis_that_is_not_there_yet_is_found_when_it_comes(unix_address: str) -> None:
    async with (
        redis_server(start=False) as redis,
        running_cache(unix_address, redis_url=redis.url) as cache,
        cache.stream() as stream,
    ):
        assert cache.runtime.readiness.serving
        await until(available(cache, wanted=False))
        assert (await stream.get(audio_key())).miss.degraded
        assert (await stream.put(audio_key(), audio())).done.degraded
        assert (await stream.put(history_key(), history("a"), 0)).done == cache_pb2.Done(
            version=1, degraded=True
        )
        assert (await stream.get(audio_key())).hit.tier == MEMORY
        await redis.start()
        await until(available(cache))
        assert not (await stream.get(audio_key("other"))).miss.degraded
        # What was put meanwhile is there now.
        await stored(redis, audio_key())
        await stored(redis, history_key())
        assert (await stream.put(history_key(), history("a", "b"), 1)).done == cache_pb2.Done(version=2)


async def test_a_redis_that_is_killed_and_restarted_costs_no_history(
    cache: Cache, redis: RedisServer
) -> None:
    async with cache.stream() as stream:
        await stream.put(history_key("quiet"), history("q"), 0)
        await stream.put(history_key(), history("a"), 0)
        await redis.kill()
        assert (await stream.get(audio_key())).miss.degraded
        assert (await stream.get(history_key())).hit == cache_pb2.Hit(
            value=history("a"), tier=MEMORY, version=1
        )
        assert (await stream.put(history_key(), history("a", "b"), 1)).done == cache_pb2.Done(
            version=2, degraded=True
        )
        assert not (await cache.stats()).redis_available
        assert (await cache.stats()).redis_errors > 0
        await redis.start()  # and it has forgotten everything
        await until(available(cache))
        await stored(redis, history_key("quiet"))
        await stored(redis, history_key())
        assert (await stream.get(history_key())).hit == cache_pb2.Hit(
            value=history("a", "b"), tier=REDIS, version=2
        )
        assert (await stream.put(history_key(), history("c"), 2)).done == cache_pb2.Done(version=3)


async def test_a_redis_that_stops_answering_is_held_off(unix_address: str, redis: RedisServer) -> None:
    async with (
        running_cache(unix_address, redis_url=redis.url, cache_redis_timeout_ms=50) as cache,
        cache.stream() as stream,
    ):
        assert (await stream.put(history_key(), history("a"), 0)).done.version == 1
        redis.pause()
        asked = [await stream.send(get=cache_pb2.Get(key=audio_key(str(number)))) for number in range(20)]
        for request in asked:
            assert (await request.next()).miss.degraded
        # Held off: nobody waits any more. Memory answers within the time that one wait would take.
        answers = [await stream.get(history_key()) for _ in range(20)]
        assert all(answer.hit.tier == MEMORY for answer in answers)
        redis.resume()
        await until(available(cache))
        assert (await stream.get(history_key())).hit.tier == REDIS


async def test_a_memory_hit_does_not_wait_behind_redis(cache: Cache, redis: RedisServer) -> None:
    async with cache.stream() as stream:
        await stream.put(audio_key("here"), audio())
        await stored(redis, audio_key("here"))
        redis.pause()
        slow = await stream.send(get=cache_pb2.Get(key=audio_key("not here")))
        assert (await stream.get(audio_key("here"))).hit.tier == MEMORY
        assert slow.answers.empty()
        redis.resume()
        assert (await slow.next()).HasField("miss")


async def test_a_stream_that_goes_away_while_redis_is_slow_leaves_nothing(
    cache: Cache, redis: RedisServer
) -> None:
    await until(available(cache))
    async with cache.stream() as stream:
        redis.pause()
        for number in range(100):  # more than may be under way
            get = cache_pb2.Get(key=audio_key(str(number)), on_miss=LEASE)
            await stream.send(get=get)
        await until(lambda: len(cache.runtime.sessions) > 60)
        stream.call.cancel()
        await until(lambda: len(cache.runtime.sessions) == 0)
    redis.resume()
    assert (await cache.stats()).active_leases == 0


@pytest.mark.parametrize("kind", ["foreign", "empty", "list", "other kind", "cut", "changed"])
async def test_what_is_not_an_entry_is_a_miss_and_is_removed(
    cache: Cache, second: Cache, redis: RedisServer, kind: str
) -> None:
    name = name_of(audio_key())
    async with cache.stream() as one, second.stream() as two, redis.client() as client:
        await one.put(audio_key(), audio())
        data = await stored(redis, audio_key())
        await one.put(reply_key(), reply())
        other = await stored(redis, reply_key())
        if kind == "list":
            await client.delete(name)
            await client.rpush(name, "x")
        else:
            spoiled = {
                "foreign": b"\x80\x04\x95 not ours",
                "empty": b"",
                "other kind": other,
                "cut": data[:-1],
                "changed": data[:-1] + b"\xff",
            }
            await client.set(name, spoiled[kind])
        assert (await two.get(audio_key())).miss == cache_pb2.Miss()
        assert not await client.exists(name)
        assert (await second.stats()).redis_corrupt == 1
        assert second.measured.value(instruments.REDIS_ERRORS, "corrupt") == 1
        assert (await second.stats()).redis_available
        await two.put(audio_key(), audio())
        assert await stored(redis, audio_key()) == data


@pytest.mark.parametrize("kind", ["foreign", "list", "short"])
async def test_a_history_is_written_over_foreign_data(cache: Cache, redis: RedisServer, kind: str) -> None:
    name = name_of(history_key())
    async with cache.stream() as stream, redis.client() as client:
        if kind == "list":
            await client.rpush(name, "x")
        else:
            await client.set(name, b"x" * 100 if kind == "foreign" else b"VMC")
        assert (await stream.put(history_key(), history("a"), 0)).done.version == 1
        assert (await stream.get(history_key())).hit.tier == REDIS


async def test_a_full_redis_takes_nothing_and_loses_nothing(cache: Cache, redis: RedisServer) -> None:
    async with cache.stream() as stream, redis.client() as client:
        await stream.put(history_key(), history("a"), 0)
        await client.config_set("maxmemory", 1)
        assert (await stream.put(history_key(), history("a", "b"), 1)).done == cache_pb2.Done(
            version=2, degraded=True
        )
        assert (await stream.get(history_key())).hit == cache_pb2.Hit(
            value=history("a", "b"), tier=MEMORY, version=2
        )
        assert (await stream.put(audio_key(), audio(100_000))).HasField("done")
        await until(lambda: cache.service.core.stats().redis_dropped == 1)
        assert cache.measured.value(instruments.REDIS_ERRORS, "dropped") == 1
        assert (await cache.stats()).redis_available  # it still reads
        assert (await stream.get(audio_key())).hit.tier == MEMORY
        await client.config_set("maxmemory", 0)
        await cache.service.core.histories.restore()
        assert (await stream.get(history_key())).hit.tier == REDIS


async def test_invalidation_reaches_both_tiers_and_only_ours(
    cache: Cache, second: Cache, redis: RedisServer
) -> None:
    async with cache.stream() as one, second.stream() as two, redis.client() as client:
        await client.set("theirs", b"1")
        await client.set("voicemesh:v3x", b"1")
        for number in range(1200):  # more than one step of SCAN
            await one.put(audio_key(str(number), voice="a"), audio(1))
        await one.put(audio_key(voice="b", tenant="t"), audio())
        await one.put(history_key(tenant="t"), history("a"))
        await stored(redis, audio_key(voice="b", tenant="t"))
        removed = await cache.invalidate(voice="a")
        assert removed.memory_entries == 1200
        assert removed.redis_entries == 1200
        assert (await two.get(audio_key("7", voice="a"))).HasField("miss")
        assert (await cache.invalidate(key=audio_key(voice="b", tenant="t"))).redis_entries == 1
        assert (await cache.invalidate(tenant="t")).redis_entries == 1
        assert (await two.get(history_key(tenant="t"))).HasField("miss")
        await one.put(reply_key(), reply())
        await stored(redis, reply_key())
        assert (await second.invalidate(all=True)).redis_entries == 1
        assert sorted(await client.keys()) == [b"theirs", STREAM.encode(), b"voicemesh:v3x"]


async def test_invalidation_without_redis_says_that_it_is_not_done(cache: Cache, redis: RedisServer) -> None:
    await redis.kill()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await cache.invalidate(all=True)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_round_trip_that_a_turn_waits_for_is_a_span_and_nothing_else_is(
    cache: Cache, redis: RedisServer
) -> None:
    async with cache.stream() as stream:
        await stream.get(audio_key("secret text"))
        await stream.put(audio_key("secret text"), audio())
        await stored(redis, audio_key("secret text"))
        await stream.get(audio_key("secret text"))
        await stream.put(history_key("secret"), history("secret text"), 0)
        await stream.finish()
    (call,) = cache.spans("voicemesh.cache.v1.CacheService/Exchange")
    trips = [span for span in cache.spans() if span is not call]
    assert [span.name for span in trips] == ["GET", "EVAL"]
    for span in trips:
        assert span.kind is SpanKind.CLIENT
        assert span.parent is not None
        assert span.parent.span_id == call.context.span_id
        assert span.attributes is not None
        assert span.attributes["db.system.name"] == "redis"
        assert span.attributes["db.operation.name"] == span.name
        assert "secret" not in span.to_json()


async def test_a_peer_that_is_no_redis_is_held_off(unix_address: str, socket_folder: pathlib.Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(1000):
                writer.write(b":HTTP/1.1 400 Bad Request\r\n\r\n")
                await writer.drain()
        writer.close()

    path = socket_folder / "web.sock"
    server = await asyncio.start_unix_server(answer, path)
    try:
        async with running_cache(unix_address, redis_url=f"unix://{path}") as cache, cache.stream() as stream:
            assert (await stream.get(audio_key())).miss.degraded
            assert (await stream.put(audio_key(), audio())).HasField("done")
            assert (await stream.get(audio_key())).hit.tier == MEMORY
    finally:
        server.close()
        await server.wait_closed()


async def test_a_password_is_used_and_never_shown(
    unix_address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with redis_server(password="sesame") as redis:
        wrong = redis.url.replace("sesame", "barley")
        async with running_cache(unix_address, redis_url=redis.url) as cache, cache.stream() as stream:
            assert (await stream.get(audio_key())).miss == cache_pb2.Miss()
        async with running_cache(f"{unix_address}-2", redis_url=wrong) as cache, cache.stream() as stream:
            assert (await stream.get(audio_key())).miss.degraded
    shown = "".join(capsys.readouterr())
    assert "sesame" not in shown
    assert "barley" not in shown
    settings = CacheSettings(redis_url=SecretStr("redis://:sesame@host:1/0"))
    assert "sesame" not in repr(settings)


async def test_a_host_that_nobody_answers_for_costs_one_timeout(unix_address: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        url = f"redis://127.0.0.1:{bound.getsockname()[1]}/0"
        async with running_cache(unix_address, redis_url=url) as cache, cache.stream() as stream:
            assert cache.runtime.readiness.serving
            assert (await stream.get(audio_key())).miss.degraded
