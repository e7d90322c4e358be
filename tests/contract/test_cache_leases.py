"""Leases across two cache services with one real Redis, in this process and as processes."""

import asyncio
import os
import pathlib
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from services.cache.keys import stored_key
from services.cache.records import KEEP_MS
from services.cache.translation import _key
from tests.contract.cache_harness import (
    FORMAT,
    GUARD_S,
    LEASE,
    Asked,
    Cache,
    Stream,
    audio_key,
    name_of,
    running_cache,
    until,
)
from tests.support.redis_server import RedisServer
from voicemesh.cache.v1 import cache_pb2, cache_pb2_grpc
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.channels import open_channel

PATIENT = {"cache_lease_ttl_ms": 60_000, "cache_lease_heartbeat_ms": 2000}
"""On a busy machine nobody is to be taken for stalled or dead who is not."""
ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
async def one(unix_address: str, redis: RedisServer) -> AsyncIterator[Cache]:
    async with running_cache(unix_address, redis_url=redis.url, **PATIENT) as cache:
        await shares(cache)
        yield cache


@pytest.fixture
async def two(unix_address: str, redis: RedisServer) -> AsyncIterator[Cache]:
    async with running_cache(f"{unix_address}-2", redis_url=redis.url, **PATIENT) as cache:
        await shares(cache)
        yield cache


async def shares(cache: Cache) -> None:
    """Wait until a service listens to what the others say."""
    shared = cache.service.shared
    assert shared is not None
    await until(lambda: shared.available)


def part(start: int, end: int) -> cache_pb2.AudioValue:
    """Return samples that are their own numbers, each with a word."""
    words = [
        common_pb2.WordTiming(word=str(number), text_offset=number, text_length=1, offset_samples=number)
        for number in range(start, end)
    ]
    data = b"".join(number.to_bytes(2, "little") for number in range(start, end))
    return cache_pb2.AudioValue(format=FORMAT, audio=data, words=words)


class Follower:
    """One who follows, and what it has heard."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self.heard = cache_pb2.AudioValue(format=FORMAT)
        self.granted: cache_pb2.LeaseGranted | None = None

    async def begin(self) -> "Follower":
        answer = await self._asked.next()
        assert answer.HasField("following"), answer
        self._add(answer.following.so_far)
        return self

    def _add(self, value: cache_pb2.AudioValue) -> None:
        self.heard.audio += value.audio
        self.heard.words.extend(value.words)

    async def until(self, samples: int) -> None:
        """Hear as many samples, and nothing that is not theirs."""
        while len(self.heard.audio) < 2 * samples:
            answer = await self._asked.next()
            assert answer.HasField("part"), answer
            self._add(answer.part)
        assert self.heard == part(0, samples)

    async def end(self, samples: int) -> None:
        await self.until(samples)
        assert (await self._asked.next()).HasField("sealed")

    async def grant(self) -> cache_pb2.LeaseGranted:
        answer = await self._asked.next()
        assert answer.HasField("granted"), answer
        return answer.granted


async def lead(stream: Stream) -> str:
    answer = await stream.get(audio_key(), LEASE)
    assert answer.HasField("granted"), answer
    return answer.granted.lease_id


async def follow(stream: Stream) -> Follower:
    asked = await stream.send(get=cache_pb2.Get(key=audio_key(), on_miss=LEASE))
    return await Follower(asked).begin()


async def test_followers_at_another_replica_hear_what_is_appended_as_it_comes(one: Cache, two: Cache) -> None:
    async with one.stream() as at_one, two.stream() as at_two, two.stream() as late_at_two:
        lease_id = await lead(at_one)
        beside, away = await follow(at_one), await follow(at_two)
        for end in (10, 20, 30):
            await at_one.append(lease_id, part(end - 10, end))
            await away.until(end)
            await beside.until(end)
        late = await follow(late_at_two)
        assert late.heard == part(0, 30)
        await at_one.append(lease_id, part(30, 40))
        assert (await at_one.seal(lease_id)).done == cache_pb2.Done()
        for follower in (beside, away, late):
            await follower.end(40)
        for stream in (at_one, at_two):
            hit = (await stream.get(audio_key(), LEASE)).hit
            assert hit.tier == cache_pb2.CACHE_TIER_MEMORY
            assert hit.value.audio == part(0, 40)


async def test_followers_anywhere_are_told_whose_trace_has_the_work(one: Cache, two: Cache) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    metadata = (("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"),)
    async with (
        one.stream(metadata) as maker,
        one.stream() as beside,
        two.stream() as away,
        two.stream() as late,
    ):
        await lead(maker)
        for stream in (beside, away, late):
            answer = await stream.get(audio_key(), LEASE)
            assert answer.following.traceparent.split("-")[1] == trace_id
    # Nobody records this one, so nobody is told of it.
    unseen = (("traceparent", f"00-{trace_id}-b7ad6b7169203331-00"),)
    other = audio_key("another text")
    async with one.stream(unseen) as maker, two.stream() as away:
        assert (await maker.get(other, LEASE)).HasField("granted")
        assert (await away.get(other, LEASE)).following.traceparent == ""


async def test_what_was_sealed_at_one_is_never_made_again_at_another(one: Cache, two: Cache) -> None:
    for number in range(30):
        key = audio_key(str(number))
        async with one.stream() as at_one, two.stream() as at_two:
            lease_id = (await at_one.get(key, LEASE)).granted.lease_id
            await at_one.append(lease_id, part(0, 10))
            await at_one.seal(lease_id)
            asked = await at_two.send(get=cache_pb2.Get(key=key, on_miss=LEASE))
            answer = await asked.next()
            if not answer.HasField("hit"):  # its storing was still under way
                follower = Follower(asked)
                assert answer.HasField("following"), answer
                follower.heard.CopyFrom(answer.following.so_far)
                await follower.end(10)


async def test_the_value_is_in_redis_once_and_nothing_of_its_making(
    one: Cache, two: Cache, redis: RedisServer
) -> None:
    async with one.stream() as at_one, two.stream() as at_two, redis.client() as client:
        lease_id = await lead(at_one)
        away = await follow(at_two)
        await at_one.append(lease_id, part(0, 10))
        await away.until(10)
        for key in await client.keys("voicemesh:lease:*"):
            assert 0 < await client.pttl(key) <= 4 * PATIENT["cache_lease_heartbeat_ms"] + KEEP_MS
        assert await client.dbsize() == 3
        await at_one.seal(lease_id)
        await away.end(10)
        assert await client.dbsize() == 1


async def test_a_thousand_misses_at_two_replicas_make_one_holder(one: Cache, two: Cache) -> None:
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(cache.stream()) for _ in range(10) for cache in (one, two)]
        asked = await asyncio.gather(
            *(
                stream.send(get=cache_pb2.Get(key=audio_key(), on_miss=LEASE))
                for stream in streams
                for _ in range(50)
            )
        )
        first = await asyncio.gather(*(each.next() for each in asked))
        (leader,) = [index for index, answer in enumerate(first) if answer.HasField("granted")]
        followers = [
            Follower(each) for each, answer in zip(asked, first, strict=True) if answer.HasField("following")
        ]
        assert len(followers) == 999
        stream, lease_id = streams[leader // 50], first[leader].granted.lease_id
        await stream.append(lease_id, part(0, 20))
        await asyncio.gather(*(follower.until(20) for follower in followers))
        await stream.append(lease_id, part(20, 40))
        await stream.seal(lease_id)
        await asyncio.gather(*(follower.end(40) for follower in followers))


async def test_a_leader_whose_stream_ends_is_followed_by_one_at_another_replica(
    one: Cache, two: Cache
) -> None:
    async with two.stream() as at_two, two.stream() as also_at_two:
        async with one.stream() as at_one:
            lease_id = await lead(at_one)
            next_one = await follow(at_two)
            other = await follow(also_at_two)
            await at_one.append(lease_id, part(0, 15))
            await next_one.until(15)
        granted = await next_one.grant()
        assert granted.offset_samples == 15
        await other.until(15)
        await at_two.append(granted.lease_id, part(15, 20))
        await at_two.seal(granted.lease_id)
        await other.end(20)


async def test_a_leader_that_stalls_loses_its_lease_to_another_replica(
    unix_address: str, redis: RedisServer
) -> None:
    async with (
        running_cache(
            unix_address, redis_url=redis.url, cache_lease_ttl_ms=100, cache_lease_heartbeat_ms=20
        ) as one,
        running_cache(f"{unix_address}-2", redis_url=redis.url) as two,
    ):
        await shares(one)
        await shares(two)
        async with one.stream() as at_one, two.stream() as at_two:
            lease_id = await lead(at_one)
            await at_one.append(lease_id, part(0, 5))
            away = await follow(at_two)
            await away.until(5)
            assert (await away.grant()).offset_samples == 5
            late = await at_one.append(lease_id, part(5, 10))
            assert late.HasField("error"), late


@pytest.mark.parametrize("at", ["one", "two"])
async def test_invalidation_at_either_makes_it_come_apart_at_both(one: Cache, two: Cache, at: str) -> None:
    async with one.stream() as at_one, two.stream() as at_two:
        lease_id = await lead(at_one)
        away = await follow(at_two)
        await at_one.append(lease_id, part(0, 10))
        await away.until(10)
        await (one if at == "one" else two).invalidate(voice="espeak/en")
        assert (await away.grant()).offset_samples == 10
        await at_one.append(lease_id, part(10, 20))
        assert (await at_one.seal(lease_id)).done == cache_pb2.Done()
        assert (await at_two.get(audio_key())).HasField("miss")


async def test_what_was_invalidated_and_sealed_elsewhere_is_not_stored(
    one: Cache, two: Cache, redis: RedisServer
) -> None:
    async with one.stream() as at_one, redis.client() as client:
        lease_id = await lead(at_one)
        await at_one.append(lease_id, part(0, 10))
        await two.invalidate(key=audio_key())
        await at_one.seal(lease_id)
        await until(lambda: one.service.shared is not None and not one.service.shared.replication.records)
        assert not await client.exists(name_of(audio_key()))


async def test_redis_killed_in_the_middle_costs_no_sample(one: Cache, two: Cache, redis: RedisServer) -> None:
    async with one.stream() as at_one, two.stream() as at_two:
        lease_id = await lead(at_one)
        beside, away = await follow(at_one), await follow(at_two)
        await at_one.append(lease_id, part(0, 10))
        await away.until(10)
        await redis.kill()
        await at_one.append(lease_id, part(10, 20))
        await beside.until(20)
        granted = await away.grant()
        assert granted.offset_samples == 10
        await at_two.append(granted.lease_id, part(10, 30))
        await at_two.seal(granted.lease_id)
        await redis.start()
        await at_one.append(lease_id, part(20, 30))
        await at_one.seal(lease_id)
        await beside.end(30)
        await shares(one)
        await shares(two)
        # What was sealed while Redis was away, or had forgotten the lease, is written when it is back.
        async with redis.client() as client:
            await until(client.dbsize)
        lease_id = (await at_one.get(audio_key("next"), LEASE)).granted.lease_id
        asked = await at_two.send(get=cache_pb2.Get(key=audio_key("next"), on_miss=LEASE))
        assert (await asked.next()).HasField("following")


async def test_a_redis_that_refuses_scripts_leaves_leases_to_each_replica(
    one: Cache, two: Cache, redis: RedisServer
) -> None:
    async with redis.client() as client:
        await client.config_set("maxmemory", "1")
    async with one.stream() as at_one, two.stream() as at_two:
        first, second = await lead(at_one), await lead(at_two)
        for stream, lease_id in ((at_one, first), (at_two, second)):
            await stream.append(lease_id, part(0, 10))
            await stream.seal(lease_id)
            assert (await stream.get(audio_key())).hit.value.audio == part(0, 10)


@pytest.mark.parametrize("command", [("SET", "x"), ("RPUSH", "x"), ("HSET", "token", "x")])
async def test_foreign_data_at_the_record_harms_nobody(
    one: Cache, two: Cache, redis: RedisServer, command: tuple[str, ...]
) -> None:
    async with one.stream() as at_one, two.stream() as at_two, redis.client() as client:
        lease_id = await lead(at_one)
        (record,) = await client.keys("voicemesh:lease:*")
        await at_one.release(lease_id)
        await until(lambda: not_there(redis, record))
        await client.execute_command(command[0], record, *command[1:])  # type: ignore[no-untyped-call]
        lease_id = await lead(at_one)
        away = await at_two.send(get=cache_pb2.Get(key=audio_key(), on_miss=LEASE))
        await away.next()
        await at_one.append(lease_id, part(0, 10))
        assert (await at_one.seal(lease_id)).done == cache_pb2.Done()


async def test_an_entry_that_another_version_wrote_keeps_nobody_waiting(
    one: Cache, redis: RedisServer
) -> None:
    stored = stored_key(_key(audio_key(), "key"), "key", max_text_chars=1000)
    async with one.stream() as at_one, redis.client() as client:
        await client.set(stored.name, b"VMC\x09 whatever that one writes")
        lease_id = await lead(at_one)
        await at_one.append(lease_id, part(0, 10))
        assert (await at_one.seal(lease_id)).done == cache_pb2.Done()


async def not_there(redis: RedisServer, key: bytes | str) -> bool:
    async with redis.client() as client:
        return not await client.exists(key)


@asynccontextmanager
async def process(
    address: str, redis: RedisServer
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Stream]]:
    """Run a service of its own, with a stream to it."""
    environment = {
        "VOICEMESH_CACHE_LISTEN": address,
        "VOICEMESH_REDIS_URL": redis.url,
        "VOICEMESH_CACHE_LEASE_HEARTBEAT_MS": "100",
        "VOICEMESH_CACHE_REDIS_TIMEOUT_MS": "10000",
    }
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cache"),
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with open_channel(address) as channel:
            async with asyncio.timeout(GUARD_S):
                await channel.channel_ready()
            async with Stream(cache_pb2_grpc.CacheServiceStub(channel)) as stream:
                yield running, stream
    finally:
        if running.returncode is None:
            running.kill()  # also ends a process that is paused
        await running.wait()


async def mailboxes(redis: RedisServer) -> int:
    async with redis.client() as client:
        return len(await client.pubsub_channels("voicemesh:lease-mail:*"))


async def both_listen(redis: RedisServer) -> bool:
    return await mailboxes(redis) == 2


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_replica_that_is_killed_or_stopped_loses_its_leases(
    unix_address: str, redis: RedisServer, way: signal.Signals
) -> None:
    async with (
        process(unix_address, redis) as (running, at_one),
        process(f"{unix_address}-2", redis) as (_, at_two),
    ):
        await until(lambda: both_listen(redis))
        lease_id = await lead(at_one)
        beside, next_one, other = await follow(at_one), await follow(at_two), await follow(at_two)
        await at_one.append(lease_id, part(0, 25))
        for follower in (beside, next_one, other):
            await follower.until(25)
        running.send_signal(way)
        granted = await next_one.grant()
        assert granted.offset_samples == 25
        await at_two.append(granted.lease_id, part(25, 30))
        await other.until(30)
        if way == signal.SIGSTOP:
            running.send_signal(signal.SIGCONT)
            await beside.until(30)
            assert (await at_one.append(lease_id, part(25, 27))).HasField("error")
        await at_two.append(granted.lease_id, part(30, 40))
        await at_two.seal(granted.lease_id)
        await other.end(40)
        if way == signal.SIGSTOP:
            await beside.end(40)
        async with redis.client() as client:
            await until(lambda: stored_alone(redis))
            assert await client.dbsize() == 1


async def stored_alone(redis: RedisServer) -> bool:
    async with redis.client() as client:
        return not await client.keys("voicemesh:lease:*")


async def test_a_replica_that_ends_in_order_hands_its_leases_on_at_once(
    unix_address: str, redis: RedisServer
) -> None:
    async with (
        process(unix_address, redis) as (running, at_one),
        process(f"{unix_address}-2", redis) as (_, at_two),
    ):
        await until(lambda: both_listen(redis))
        lease_id = await lead(at_one)
        away = await follow(at_two)
        await at_one.append(lease_id, part(0, 25))
        await away.until(25)
        running.send_signal(signal.SIGTERM)
        at_one.call.cancel()
        assert (await away.grant()).offset_samples == 25
        assert await running.wait() == 0


async def test_who_needs_audio_much_sooner_is_granted_it_beside_who_can_wait(one: Cache) -> None:
    async with one.stream() as at_warming, one.stream() as at_listener, one.stream() as at_late:
        get = cache_pb2.Get(key=audio_key(), on_miss=LEASE, due_ms=60_000, begin_ms=60_000)
        warming = (await at_warming.ask(get=get)).granted.lease_id
        listener = await lead(at_listener)
        late = await follow(at_late)
        await at_listener.append(listener, part(0, 10))
        await late.until(10)
        refused = await at_warming.append(warming, part(0, 10))
        assert "not held" in refused.error.message or "no lease" in refused.error.message, refused
        await at_listener.seal(listener)
        await late.end(10)


async def test_a_holder_that_has_not_begun_in_time_is_contended_and_may_still_be_first(one: Cache) -> None:
    async with one.stream() as at_holder, one.stream() as at_follower, one.stream() as at_late:
        holder = await lead(at_holder)
        get = cache_pb2.Get(key=audio_key(), on_miss=LEASE, begin_ms=1)
        contender = await at_follower.send(get=get)
        answer = await contender.next()
        if answer.HasField("following"):  # asked within the millisecond
            answer = await contender.next()
        assert answer.HasField("granted"), answer
        assert (await at_holder.append(holder, part(0, 10))).HasField("done")
        late = await follow(at_late)
        assert late.heard == part(0, 10)
        await at_holder.seal(holder)
        await late.end(10)
