"""What is asked for once costs Redis nothing, over the contract and with a real Redis."""

import pytest

from services.cache import instruments
from tests.contract.cache_harness import LEASE, Cache, Stream, audio, audio_key, running_cache, sound, until
from tests.support.redis_server import RedisServer, redis_server
from voicemesh.cache.v1 import cache_pb2


async def keys_in(server: RedisServer) -> int:
    async with server.client() as client:
        return int(await client.dbsize())


async def until_written(server: RedisServer, count: int) -> None:
    async def written() -> bool:
        return await keys_in(server) >= count

    await until(written)


async def ask_and_store(cache: Cache, stream: Stream, text: str) -> cache_pb2.ExchangeResponse:
    found = await stream.get(audio_key(text))
    assert found.WhichOneof("result") == "miss"
    return await stream.put(audio_key(text), audio())


async def test_the_second_request_brings_audio_to_redis(unix_address: str) -> None:
    async with (
        redis_server() as server,
        running_cache(unix_address, redis_url=server.url, cache_admit_requests=2) as cache,
        cache.stream() as stream,
    ):
        done = await ask_and_store(cache, stream, "Twice.")
        assert list(done.done.not_admitted) == [cache_pb2.CACHE_TIER_REDIS]
        await ask_and_store(cache, stream, "Once.")
        hit = await stream.get(audio_key("Twice."))
        assert hit.hit.tier == cache_pb2.CACHE_TIER_MEMORY
        await until_written(server, 1)
        stats = await cache.stats()
        assert (stats.redis_not_admitted, stats.redis_admitted_later, stats.memory_not_admitted) == (2, 1, 0)
        assert cache.measured.points(instruments.NOT_ADMITTED) == {("memory",): 0, ("redis",): 2}
    # A write would have left with its batch, or at the latest at the end of the service.


async def test_what_was_asked_for_once_is_not_written_at_the_end_either(unix_address: str) -> None:
    async with redis_server() as server:
        async with (
            running_cache(unix_address, redis_url=server.url, cache_admit_requests=2) as cache,
            cache.stream() as stream,
        ):
            await ask_and_store(cache, stream, "Once.")
        assert await keys_in(server) == 0


@pytest.mark.parametrize("on_miss", [cache_pb2.Get.ON_MISS_RETURN, LEASE])
async def test_a_request_can_say_that_it_is_worth_keeping(
    unix_address: str, on_miss: cache_pb2.Get.OnMiss.ValueType
) -> None:
    async with (
        redis_server() as server,
        running_cache(
            unix_address, redis_url=server.url, cache_admit_requests=3, cache_admit_memory_requests=2
        ) as cache,
        cache.stream() as stream,
    ):
        asked = await stream.ask(get=cache_pb2.Get(key=audio_key(), on_miss=on_miss, keep=True))
        if on_miss == LEASE:
            await stream.append(asked.granted.lease_id, sound())
            done = await stream.seal(asked.granted.lease_id)
        else:
            done = await stream.put(audio_key(), audio())
        assert not done.done.not_admitted
        await until_written(server, 1)


async def test_memory_alone_counts_no_requests_for_redis(unix_address: str) -> None:
    async with (
        running_cache(unix_address, cache_admit_requests=2) as cache,
        cache.stream() as stream,
    ):
        done = await ask_and_store(cache, stream, "Once.")
        assert not done.done.not_admitted
        assert (await cache.stats()).redis_not_admitted == 0
