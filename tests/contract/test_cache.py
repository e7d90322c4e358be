"""The contract of CacheService, over gRPC, from memory alone."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2

from services.cache.exchange import MAX_LEASES
from tests.contract.cache_harness import (
    GUARD_S,
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
)
from voicemesh.cache.v1 import cache_pb2
from voicemesh.runtime.status import reason_of

MEMORY = cache_pb2.CACHE_TIER_MEMORY


@pytest.fixture
async def cache(unix_address: str) -> AsyncIterator[Cache]:
    async with running_cache(unix_address) as running:
        yield running


def field_of(answer: cache_pb2.ExchangeResponse) -> str:
    """Return the field that an `error` names, and check the rest of it."""
    assert answer.WhichOneof("result") == "error", answer
    assert answer.error.code == code_pb2.INVALID_ARGUMENT
    assert reason_of(answer.error) == "INVALID_FIELD"
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in answer.error.details)
    return str(bad.field_violations[0].field)


@pytest.mark.parametrize(
    ("key", "value"), [(audio_key(), audio()), (reply_key(), reply()), (history_key(), history("a", "b"))]
)
async def test_what_is_put_is_got(cache: Cache, key: cache_pb2.CacheKey, value: cache_pb2.CacheValue) -> None:
    async with cache.stream() as one, cache.stream() as other:
        assert (await one.get(key)).miss == cache_pb2.Miss()
        done = await one.put(key, value)
        version = 1 if key.HasField("history") else 0
        assert done.done == cache_pb2.Done(version=version)
        answer = await other.get(key)
        assert answer.hit == cache_pb2.Hit(value=value, tier=MEMORY, version=version)


async def test_a_picture_in_a_history_comes_back(cache: Cache) -> None:
    value = history("See:")
    value.history.messages[0].parts.add().image.data = b"\x00\x01"
    value.history.messages[0].parts.add().image.url = "https://example.org/a.png"
    async with cache.stream() as stream:
        await stream.put(history_key(), value)
        assert (await stream.get(history_key())).hit.value == value


async def test_histories_are_compared_and_set(cache: Cache) -> None:
    async with cache.stream() as stream:
        assert (await stream.put(history_key(), history("a"), 1)).conflict.version == 0
        assert (await stream.put(history_key(), history("a"), 0)).done.version == 1
        conflict = await stream.put(history_key(), history("b"), 0)
        assert conflict.WhichOneof("result") == "conflict"
        assert conflict.conflict.version == 1
        assert (await stream.put(history_key(), history("a", "b"), 1)).done.version == 2


async def test_one_computes_and_the_others_hear_it(cache: Cache) -> None:
    async with cache.stream() as one, cache.stream() as two:
        granted = (await one.get(audio_key(), LEASE)).granted
        assert granted.ttl_ms == 2000
        assert granted.offset_samples == 0
        await one.append(granted.lease_id, sound(10, "Hello."))
        follow = await two.send(get=cache_pb2.Get(key=audio_key(), on_miss=LEASE))
        following = (await follow.next()).following
        assert following.so_far == sound(10, "Hello.")
        assert (await cache.stats()).active_leases == 1
        await one.append(granted.lease_id, sound(5))
        assert (await follow.next()).part == sound(5)
        assert (await one.seal(granted.lease_id)).done == cache_pb2.Done()
        assert (await follow.next()).WhichOneof("result") == "sealed"
        hit = (await two.get(audio_key(), LEASE)).hit
        assert hit.value.audio == sound(15, "Hello.")
        assert (await cache.stats()).active_leases == 0


@pytest.mark.parametrize("way", ["cancel", "finish", "release", "stall"])
async def test_a_follower_takes_over_where_the_holder_stopped(unix_address: str, way: str) -> None:
    ttl_ms = 50 if way == "stall" else 60_000
    async with (
        running_cache(unix_address, cache_lease_ttl_ms=ttl_ms) as cache,
        cache.stream() as one,
        cache.stream() as two,
    ):
        lease_id = (await one.get(audio_key(), LEASE)).granted.lease_id
        await one.append(lease_id, sound(10))
        follow = await two.send(get=cache_pb2.Get(key=audio_key(), on_miss=LEASE))
        follow_id = (await follow.next()).following.lease_id
        match way:
            case "cancel":
                one.call.cancel()
            case "finish":
                await one.finish()
            case "release":
                await one.release(lease_id)
            case _:
                pass
        granted = (await follow.next()).granted
        assert granted.lease_id == follow_id
        assert granted.offset_samples == 10
        await two.append(granted.lease_id, sound(7))
        await two.seal(granted.lease_id)
        assert (await two.get(audio_key())).hit.value.audio.audio == sound(17).audio


async def test_a_follower_may_stop(cache: Cache) -> None:
    async with cache.stream() as one, cache.stream() as two:
        lease_id = (await one.get(audio_key(), LEASE)).granted.lease_id
        follow_id = (await two.get(audio_key(), LEASE)).following.lease_id
        assert (await two.release(follow_id)).HasField("done")
        assert (await two.release(follow_id)).HasField("done")  # it cannot know what has ended already
        await one.append(lease_id, sound(1))
        await one.seal(lease_id)
        await two.finish()


async def test_a_slow_follower_does_not_hold_up_the_holder(cache: Cache) -> None:
    async with cache.stream() as one:
        slow = cache.stub.Exchange()  # never reads
        try:
            lease_id = (await one.get(audio_key(), LEASE)).granted.lease_id
            get = cache_pb2.Get(key=audio_key(), on_miss=LEASE)
            await slow.write(cache_pb2.ExchangeRequest(request_id=1, get=get))
            for _ in range(50):
                await one.append(lease_id, sound(10_000))
            assert (await one.seal(lease_id)).HasField("done")
            assert (await one.get(audio_key())).HasField("hit")
        finally:
            slow.cancel()


async def test_the_limit_of_leases_is_an_error_and_the_stream_goes_on(cache: Cache) -> None:
    async with cache.stream() as stream:
        for number in range(MAX_LEASES):
            assert (await stream.get(audio_key(str(number)), LEASE)).HasField("granted")
        assert field_of(await stream.get(audio_key("more"), LEASE)) == "get.on_miss"
        assert (await stream.get(audio_key("more"))).HasField("miss")


def bad_get(**changes: object) -> dict[str, object]:
    key = audio_key()
    for name, value in changes.items():
        setattr(key.audio, name, value)
    return {"get": cache_pb2.Get(key=key)}


BIG = cache_pb2.CacheValue(audio=sound(3 * 1024 * 1024 // 2 + 1))


@pytest.mark.parametrize(
    ("operation", "field"),
    [
        ({}, "operation"),
        ({"get": cache_pb2.Get()}, "get.key"),
        (bad_get(text=""), "get.key.audio.text"),
        (bad_get(text="x" * 16_385), "get.key.audio.text"),
        (bad_get(voice=""), "get.key.audio.voice"),
        (bad_get(speed_permille=0), "get.key.audio.speed_permille"),
        ({"get": cache_pb2.Get(key=reply_key(), on_miss=LEASE)}, "get.on_miss"),
        ({"get": cache_pb2.Get(key=history_key(), on_miss=LEASE)}, "get.on_miss"),
        ({"put": cache_pb2.Put()}, "put.key"),
        ({"put": cache_pb2.Put(key=audio_key())}, "put.value"),
        ({"put": cache_pb2.Put(key=audio_key(), value=reply())}, "put.value"),
        ({"put": cache_pb2.Put(key=audio_key(), value=audio(0))}, "put.value.audio.audio"),
        ({"put": cache_pb2.Put(key=audio_key(), value=BIG)}, "put.value.audio"),
        ({"put": cache_pb2.Put(key=audio_key(), value=audio(), expected_version=0)}, "put.expected_version"),
        ({"put": cache_pb2.Put(key=reply_key(), value=reply(""))}, "put.value.reply.text"),
        ({"append": cache_pb2.Append(lease_id="none", part=sound())}, "append.lease_id"),
        ({"seal": cache_pb2.Seal(lease_id="none")}, "seal.lease_id"),
    ],
)
async def test_an_unusable_request_names_its_field_and_the_stream_goes_on(
    cache: Cache, operation: dict[str, object], field: str
) -> None:
    async with cache.stream() as stream:
        assert field_of(await stream.ask(**operation)) == field
        assert (await stream.put(audio_key(), audio())).HasField("done")
        assert (await stream.get(audio_key())).HasField("hit")


@pytest.mark.parametrize("request_id", [0, 1])
async def test_request_ids_are_used_once(cache: Cache, request_id: int) -> None:
    async with cache.stream() as stream:
        assert (await stream.get(audio_key())).request_id == 1
        asked = await stream.send(request_id, get=cache_pb2.Get(key=audio_key()))
        answer = await asked.next()
        assert answer.request_id == request_id
        assert field_of(answer) == "request_id"
        assert (await stream.get(audio_key())).HasField("miss")


async def test_leases_of_another_stream_cannot_be_used(cache: Cache) -> None:
    async with cache.stream() as one, cache.stream() as two:
        lease_id = (await one.get(audio_key(), LEASE)).granted.lease_id
        assert field_of(await two.append(lease_id, sound())) == "append.lease_id"
        await two.release(lease_id)
        assert (await one.append(lease_id, sound())).HasField("done")


async def test_a_large_value_comes_whole(cache: Cache) -> None:
    value = audio(1_500_000)
    async with cache.stream() as stream:
        assert (await stream.put(audio_key(), value)).HasField("done")
        assert (await stream.get(audio_key())).hit.value == value


async def test_a_stream_that_ends_is_answered_to_its_end(cache: Cache) -> None:
    async with cache.stream() as stream:
        asked = [await stream.send(get=cache_pb2.Get(key=audio_key(str(number)))) for number in range(200)]
        await stream.finish()
        assert all(request.answers.qsize() == 1 for request in asked)


async def test_many_streams_share_one_computation(cache: Cache) -> None:
    async def turn(number: int) -> str:
        async with cache.stream() as stream:
            asked = await stream.send(get=cache_pb2.Get(key=audio_key(), on_miss=LEASE))
            audio_bytes = b""
            while True:
                answer = await asked.next()
                match answer.WhichOneof("result"):
                    case "hit":
                        assert answer.hit.value.audio.audio == sound(40).audio
                        return "hit"
                    case "granted":
                        offset = answer.granted.offset_samples
                        if number % 3 == 0 and offset < 20:
                            await stream.append(answer.granted.lease_id, sound(5))
                            return "gave up"  # the stream ends in the middle
                        for _ in range(offset, 40, 5):
                            await stream.append(answer.granted.lease_id, sound(5))
                        await stream.seal(answer.granted.lease_id)
                        return "made it"
                    case "following":
                        audio_bytes += answer.following.so_far.audio
                    case "part":
                        audio_bytes += answer.part.audio
                    case "sealed":
                        assert audio_bytes == sound(40).audio
                        return "heard it"
                    case other:
                        pytest.fail(f"unexpected {other}")

    async with asyncio.timeout(GUARD_S):
        outcomes = await asyncio.gather(*(turn(number) for number in range(30)))
    assert outcomes.count("made it") == 1
    assert (await cache.stats()).active_leases == 0


async def test_invalidation(cache: Cache) -> None:
    async with cache.stream() as stream:

        async def fill() -> None:
            await stream.put(audio_key(voice="a", tenant="t"), audio())
            await stream.put(audio_key(voice="b"), audio())
            await stream.put(reply_key(), reply())
            await stream.put(history_key(tenant="t"), history("a"))

        for target, entries in (
            ({"key": audio_key(voice="b")}, 1),
            ({"voice": "a"}, 1),
            ({"model_revision": "r1"}, 2),
            ({"tenant": "t"}, 2),
            ({"all": True}, 4),
        ):
            await fill()
            removed = await cache.invalidate(**target)
            assert (removed.memory_entries, removed.redis_entries) == (entries, 0), target
        assert (await cache.stats()).memory_bytes == 0


@pytest.mark.parametrize("target", [{}, {"all": False}, {"voice": ""}, {"key": cache_pb2.CacheKey()}])
async def test_an_unusable_target_is_refused(cache: Cache, target: dict[str, object]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await cache.invalidate(**target)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_stats_count(cache: Cache) -> None:
    async with cache.stream() as stream:
        await stream.get(audio_key())
        await stream.put(audio_key(), audio())
        await stream.get(audio_key())
        await stream.get(audio_key())
    stats = await cache.stats()
    kinds = {kind.kind: kind for kind in stats.kinds}
    assert set(kinds) == {"audio", "reply", "history"}
    assert (kinds["audio"].entries, kinds["audio"].memory_hits, kinds["audio"].misses) == (1, 2, 1)
    assert stats.memory_bytes == kinds["audio"].bytes > 200
    assert stats.memory_limit_bytes == 256 * 1024 * 1024
    assert not stats.redis_configured


async def test_a_stream_is_one_span_of_its_turn(cache: Cache) -> None:
    trace_id, parent_id = "ab" * 16, "cd" * 8
    async with cache.stream([("traceparent", f"00-{trace_id}-{parent_id}-01")]) as stream:
        await stream.get(audio_key("secret text"))
        await stream.put(audio_key("secret text"), audio())
        await stream.get(audio_key("secret text"))
        await stream.ask()
        await stream.finish()
    (span,) = cache.spans()
    assert span.name == "voicemesh.cache.v1.CacheService/Exchange"
    assert format(span.context.trace_id, "032x") == trace_id
    assert span.parent is not None
    assert format(span.parent.span_id, "016x") == parent_id
    assert span.attributes is not None
    assert span.attributes["voicemesh.cache.memory_hits"] == 1
    assert span.attributes["voicemesh.cache.misses"] == 1
    assert span.attributes["voicemesh.cache.errors"] == 1
    assert "secret" not in span.to_json()


async def test_an_answer_tells_how_long_it_took(cache: Cache) -> None:
    async with cache.stream() as stream:
        before = asyncio.get_running_loop().time()
        answer = await stream.get(audio_key())
        passed_us = (asyncio.get_running_loop().time() - before) * 1e6
    assert 0 <= answer.server_us <= passed_us


async def test_it_serves_at_once(cache: Cache) -> None:
    assert cache.runtime.readiness.serving
