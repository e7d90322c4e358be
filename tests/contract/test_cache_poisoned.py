"""Somebody writes to Redis who should not: it is a miss and a complaint, and no stream ends for it."""

import json
import random
import struct
from typing import Any

import pytest
from redis.asyncio import Redis

from services.cache import codec, lease_scripts
from services.cache.announcements import STREAM
from services.cache.sums import Sums, check
from services.cache.values import AudioValue
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
    speech,
    until,
)
from tests.support.redis_server import RedisServer
from tests.unit.cache.values_for_tests import FORMAT
from voicemesh.cache.v1 import cache_pb2

SIGNING = "s" * 32
OLD = "o" * 32
MOST = codec.HEAD_BYTES * 4


async def written(redis: RedisServer, key: cache_pb2.CacheKey) -> bytes:
    async with redis.client() as client:
        await until(lambda: client.exists(name_of(key)))
        data = await client.get(name_of(key))
    assert isinstance(data, bytes)
    return data


def entry(name: str, kind: int, header: object, body: bytes = b"", version: int = 0) -> bytes:
    """Write what passes for an entry, whose header says anything."""
    encoded = json.dumps(header).encode()
    rest = struct.pack(">I", len(encoded)) + encoded
    named = struct.pack(">BI", kind, len(name)) + name.encode()
    return struct.pack(">4sBQ16s", codec.MAGIC, kind, version, check(named + rest)) + rest + body


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return `data` with something cut out, put in, or changed."""
    spoilt = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(spoilt) + 1)
        match chance.randrange(4):
            case 0:
                del spoilt[at:]
            case 1:
                spoilt[at:at] = chance.randbytes(chance.randint(1, 64))
            case 2:
                del spoilt[at : at + chance.randint(1, 64)]
            case _ if at < len(spoilt):
                spoilt[at] ^= chance.randint(1, 255)
    return bytes(spoilt)


@pytest.mark.parametrize("keys", ["", SIGNING], ids=["plain", "signed"])
async def test_random_and_mutated_entries_are_misses_and_the_stream_goes_on(
    redis: RedisServer, unix_address: str, keys: str
) -> None:
    chance = random.Random(7)
    keyed = ((audio_key(), speech(1.0)), (reply_key(), reply()), (history_key(), history("a", "b")))
    async with (
        running_cache(unix_address, redis_url=redis.url, cache_hmac_keys=keys or None) as one,
        one.stream() as writing,
        redis.client() as client,
    ):
        kept = []
        for key, value in keyed:
            assert (await writing.put(key, value)).HasField("done")
            kept.append((key, value, await written(redis, key)))
        async with (
            running_cache(f"{unix_address}-2", redis_url=redis.url, cache_hmac_keys=keys or None) as two,
            two.stream() as stream,
        ):
            for number in range(150):
                key, value, data = chance.choice(kept)
                other = chance.choice(kept)[2]
                spoilt = chance.choice((mutated(data, chance), chance.randbytes(200), other, b""))
                await client.set(name_of(key), spoilt)
                head_ms = chance.choice((0, 200)) if key.HasField("audio") else 0
                answers = await stream.get_head(key, head_ms=head_ms)
                results = [answer.WhichOneof("result") for answer in answers]
                if results[0] == "hit":  # the history's version alone, or the bytes that were there before
                    assert answers[0].hit.value == value or head_ms, number
                    assert results[-1] in ("hit", "sealed", "error"), number
                else:
                    assert results == ["miss"], number
                await two.service.core.invalidation.forget_copies()  # so that Redis is asked again
            stats = await two.stats()
            assert stats.redis_corrupt > 50
            assert stats.redis_available


async def test_what_is_longer_than_any_entry_is_not_read(redis: RedisServer, unix_address: str) -> None:
    limits = {"cache_max_value_bytes": 64 * 1024}
    async with (
        running_cache(unix_address, redis_url=redis.url, **limits) as cache,
        cache.stream() as stream,
        redis.client() as client,
    ):
        for head_ms in (0, 200):
            await client.set(name_of(audio_key()), codec.MAGIC + b"\x01" + bytes(8_000_000))
            (answer,) = await stream.get_head(audio_key(), head_ms=head_ms)
            assert answer.HasField("miss")
            assert not await client.exists(name_of(audio_key()))
        assert (await cache.stats()).redis_corrupt == 2


@pytest.mark.parametrize("theirs", ["plain", "other key", "another tenant's"])
async def test_signed_entries_are_nobody_elses(redis: RedisServer, unix_address: str, theirs: str) -> None:
    key, name = audio_key("Pay him."), name_of(audio_key("Pay him."))
    value = AudioValue(FORMAT, b"\x01\x02" * 100)
    async with (
        running_cache(unix_address, redis_url=redis.url, cache_hmac_keys=f"{SIGNING},{OLD}") as cache,
        cache.stream() as stream,
        redis.client() as client,
    ):
        # One of a key that is on its way out is read.
        await client.set(name, codec.encode(value, name, sums=Sums((OLD.encode(),))))
        assert (await stream.get(key)).hit.value.audio.audio == value.audio
        await cache.service.core.invalidation.forget_copies()  # so that Redis is asked again
        forged = {
            "plain": codec.encode(value, name),
            "other key": codec.encode(value, name, sums=Sums((b"x" * 32,))),
            "another tenant's": codec.encode(
                value, name_of(audio_key("Pay him.", tenant="b")), sums=Sums((SIGNING.encode(),))
            ),
        }
        await client.set(name, forged[theirs])
        assert (await stream.get(key)).HasField("miss")
        assert not await client.exists(name)
        assert (await cache.stats()).redis_corrupt == 1


async def test_without_a_key_what_others_signed_is_left_to_them(cache: Cache, redis: RedisServer) -> None:
    name = name_of(audio_key())
    value = AudioValue(FORMAT, b"\x01\x02" * 100)
    async with cache.stream() as stream, redis.client() as client:
        await client.set(name, codec.encode(value, name, sums=Sums((b"x" * 32,))))
        assert (await stream.get(audio_key())).HasField("miss")
        assert await client.exists(name)
        assert (await cache.stats()).redis_corrupt == 0


async def test_with_keys_nothing_that_is_being_made_is_taken_from_redis(
    redis: RedisServer, unix_address: str
) -> None:
    record = lease_scripts.PREFIX + name_of(audio_key())
    async with (
        running_cache(unix_address, redis_url=redis.url, cache_hmac_keys=SIGNING) as cache,
        cache.stream() as stream,
        redis.client() as client,
    ):
        await poison(client, record, sound_=b"\x01\x02" * 100)
        granted = (await stream.get(audio_key(), LEASE)).granted
        assert granted.lease_id
        assert granted.offset_samples == 0


async def poison(
    client: Redis, record: str, *, sound_: bytes = b"\x01\x02", words: tuple[bytes, ...] = (), **fields: bytes
) -> None:
    """Write a record of a lease that some replica seems to hold."""
    parts = (record, f"{record}:audio", f"{record}:words")
    await client.delete(*parts)
    held: dict[Any, Any] = {"token": "t", "generation": "g", "replica": "nobody", "state": "held"}
    held |= {"followers": "", "format": "1 22050 1", "trace": "", **fields}
    await client.hset(record, mapping=held)
    await client.set(parts[1], sound_)
    if words:
        await client.rpush(parts[2], *words)
    for part in parts:
        await client.pexpire(part, 60_000)


@pytest.mark.parametrize(
    "poisoned",
    [
        {"words": (b"[" * 100_000,)},
        {"words": (b'["a",0,1,-1,false]',)},
        {"words": (b'["\\ud800",0,1,1,false]',)},
        {"words": (b"\xff",) * 1000},
        {"format": "1 22050 1 9"},
        {"format": "1 0 1"},
        {"format": "x"},
        {"format": "1 8000 1"},
        {"sound_": b"\x01\x02\x03"},
        {"sound_": bytes(8_000_000)},
        {"generation": "\udcff"},
        {"trace": "x" * 8_000_000},
        {"state": "nonsense"},
    ],
    ids=lambda poisoned: str(*poisoned),
)
async def test_a_poisoned_lease_is_no_more_than_a_lease_of_ones_own(
    redis: RedisServer, unix_address: str, poisoned: dict[str, object]
) -> None:
    record = lease_scripts.PREFIX + name_of(audio_key())
    async with (
        running_cache(
            unix_address, redis_url=redis.url, cache_max_value_bytes=MOST, cache_lease_heartbeat_ms=10,
            cache_lease_ttl_ms=50,
        ) as cache,
        cache.stream() as stream,
        redis.client() as client,
    ):  # fmt: skip
        await until(lambda: cache.service.shared is not None and cache.service.shared.available)
        fields = {
            name: value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            for name, value in poisoned.items()
        }
        await poison(client, record, **fields)  # type: ignore[arg-type]
        asked = await stream.send(get=cache_pb2.Get(key=audio_key(), on_miss=LEASE))
        answer = await asked.next()
        while not answer.HasField("granted"):  # at once, or once the holder is found to be none
            assert answer.WhichOneof("result") in ("following", "part")
            answer = await asked.next()
        assert (await stream.get(reply_key())).HasField("miss")  # the stream goes on
        assert cache.service.core.stats().redis_available


async def test_poisoned_announcements_and_mail_end_nothing(cache: Cache, redis: RedisServer) -> None:
    selectors = [b"", b"[" * 100_000, b"\xff", b"5", b'{"target": "all"}', b'{"target": [], "name": ""}']
    async with cache.stream() as stream, redis.client() as client:
        await until(lambda: cache.service.shared is not None and cache.service.shared.available)
        found: list[Any] = await client.pubsub_channels(lease_scripts.MAILBOX + "*")
        mailboxes = [name.decode() for name in found]
        for selector in selectors:
            await client.xadd(STREAM, {b"by": b"x", b"selector": selector, b"removal": b"\xff"})
            for mailbox in mailboxes:
                await client.publish(mailbox, selector)
        await client.xadd(STREAM, {b"\xff": b"\xff"})
        assert mailboxes
        await until(lambda: _gaps(cache) >= len(selectors))
        await stream.put(audio_key(), audio())
        assert (await stream.get(audio_key())).HasField("hit")
        lease_id = (await stream.get(audio_key("another"), LEASE)).granted.lease_id
        assert (await stream.append(lease_id, sound())).HasField("done")
        assert cache.service.core.stats().redis_available


def _gaps(cache: Cache) -> int:
    redis = cache.service._redis
    assert redis is not None
    return redis.announcements.gaps
