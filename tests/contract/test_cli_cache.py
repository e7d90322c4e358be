"""`voicemesh cache`, against cache services in this process and a real Redis."""

import json
from collections.abc import AsyncIterator
from functools import partial

import pytest

from tests.contract.cache_harness import (
    Cache,
    audio,
    audio_key,
    name_of,
    reply,
    reply_key,
    running_cache,
    until,
)
from tests.contract.test_cli import Cli, nowhere
from tests.support.redis_server import RedisServer
from voicemesh.cache.v1 import cache_pb2

__all__ = ["nowhere"]


@pytest.fixture
async def caches(unix_address: str, redis: RedisServer) -> AsyncIterator[tuple[Cache, Cache]]:
    async with (
        running_cache(unix_address, redis_url=redis.url) as one,
        running_cache(f"{unix_address}-2", redis_url=redis.url) as two,
    ):
        yield one, two


@pytest.fixture
def cli(unix_address: str, tmp_path) -> Cli:
    return Cli("127.0.0.1:1", None, tmp_path)


@pytest.fixture
def both(unix_address: str) -> list[str]:
    return ["--cache-addr", f"{unix_address},{unix_address}-2"]


async def fill(caches: tuple[Cache, Cache], redis: RedisServer) -> None:
    """Have both services keep two entries in memory, and Redis too."""
    one, two = caches
    entries = ((audio_key(tenant="acme"), audio()), (reply_key(), reply()))
    async with one.stream() as first, two.stream() as second, redis.client() as client:
        for key, value in entries:
            await first.ask(put=cache_pb2.Put(key=key, value=value, tags=["lesson"]))
            await until(partial(client.exists, name_of(key)))
            assert (await second.get(key)).HasField("hit")


async def entries(caches: tuple[Cache, Cache]) -> int:
    """Return how many entries both have in memory."""
    return sum([kind.entries for cache in caches for kind in (await cache.stats()).kinds])


@pytest.mark.parametrize(
    ("arguments", "memory", "in_redis"),
    [
        (["--voice", "espeak/en"], 2, 1),
        (["--model-revision", "r1"], 2, 1),
        (["--tag", "lesson"], 4, 2),
        (["--tag", "lesson", "--tenant", "acme"], 2, 1),
        (["--tag", "lesson", "--tenant", ""], 2, 1),
        (["--tenant", "acme"], 2, 1),
        (["--tenant", ""], 2, 1),
        (["--tenant", "*"], 0, 0),
        (["--voice", "another"], 0, 0),
        (["--all"], 4, 2),
    ],
)
async def test_every_memory_and_redis_are_reached(
    cli: Cli,
    caches: tuple[Cache, Cache],
    redis: RedisServer,
    both: list[str],
    arguments: list[str],
    memory: int,
    in_redis: int,
) -> None:
    await fill(caches, redis)
    result = await cli.run("cache", "invalidate", *arguments, "--json", *both)
    assert (result.status, result.err) == (0, "")
    told = json.loads(result.out)
    assert told["redis_entries"] == in_redis
    assert told["memory_entries"] == memory
    assert [(await cache.stats()).invalidations for cache in caches] == [1, 1]
    assert await entries(caches) == 4 - memory
    assert [one["error"] for one in told["caches"]] == [None, None]


async def test_one_entry_by_its_key(
    cli: Cli, caches: tuple[Cache, Cache], redis: RedisServer, both: list[str]
) -> None:
    await fill(caches, redis)
    key = {
        "audio": {
            "engine": "espeak",
            "model_revision": "r1",
            "voice": "espeak/en",
            "language": "en",
            "speed_permille": 1000,
            "format": {"encoding": "AUDIO_ENCODING_PCM_S16LE", "sample_rate_hz": 22050, "channels": 1},
            "text": "Hello.",
            "tenant": "acme",
        }
    }
    result = await cli.run("cache", "invalidate", "--key", json.dumps(key), *both)
    assert result.status == 0
    assert result.out == "removed 2 entries from the memory of 2 cache services, and 1 from Redis\n"
    assert await entries(caches) == 2


async def test_a_service_that_cannot_be_reached_is_named_and_the_others_are_done(
    cli: Cli, caches: tuple[Cache, Cache], redis: RedisServer, both: list[str]
) -> None:
    await fill(caches, redis)
    partly = [*both[:1], f"{both[1]},unix:nobody.sock"]
    result = await cli.run("cache", "invalidate", "--all", *partly)
    assert result.status == 1
    assert "from the memory of 2 cache services, and 2 from Redis" in result.out
    assert "unix:nobody.sock" in result.err


async def test_a_redis_that_is_gone_is_told(
    cli: Cli, caches: tuple[Cache, Cache], redis: RedisServer, both: list[str]
) -> None:
    await fill(caches, redis)
    await redis.kill()
    result = await cli.run("cache", "invalidate", "--all", *both)
    assert result.status == 1
    assert result.err.count("2 entries were removed from memory, but Redis did not answer") == 2
    assert result.out == ""


async def test_that_nothing_matched_is_said(
    cli: Cli, caches: tuple[Cache, Cache], redis: RedisServer, both: list[str]
) -> None:
    await fill(caches, redis)
    result = await cli.run("cache", "invalidate", "--tag", "nosuch", *both)
    assert result.status == 0
    assert result.out.splitlines()[1].startswith("nothing matched")
    assert await entries(caches) == 4


async def test_stats(cli: Cli, caches: tuple[Cache, Cache], redis: RedisServer, both: list[str]) -> None:
    await fill(caches, redis)
    await cli.run("cache", "invalidate", "--voice", "espeak/en", *both)
    result = await cli.run("cache", "stats", "--json", *both)
    assert (result.status, result.err) == (0, "")
    one, two = json.loads(result.out)["caches"]
    # Its own, and perhaps the other's, which is announced.
    assert all(each["invalidations"] in (1, 2) for each in (one, two))
    assert [each["invalidated_memory_entries"] for each in (one, two)] == [1, 1]
    # They are asked at once: one of them finds it.
    assert one["invalidated_redis_entries"] + two["invalidated_redis_entries"] == 1
    kinds = {kind["kind"]: kind for kind in two["kinds"]}
    assert (kinds["audio"]["entries"], kinds["audio"]["redis_hits"], kinds["reply"]["entries"]) == (0, 1, 1)
    table = await cli.run("cache", "stats", *both)
    assert table.status == 0
    assert "Redis answers" in table.out
    assert max(len(line) for line in table.out.splitlines() if "unix:" not in line) <= 80


async def test_stats_of_nobody(nowhere: Cli) -> None:
    result = await nowhere.run("cache", "stats", "--cache-addr", nowhere.address)
    assert result.status == 3
    assert "no cache service answers" in result.err
