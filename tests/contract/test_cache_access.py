"""What docs/cache.md says a user of Redis must be allowed is what the service needs, and no more."""

import pathlib
import re
from contextlib import AsyncExitStack
from typing import Final

from structlog.testing import capture_logs

from tests.contract.cache_harness import (
    LEASE,
    Cache,
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
from voicemesh.cache.v1 import cache_pb2

PAGE: Final = pathlib.Path(__file__).parents[2] / "docs" / "cache.md"
LEASES: Final = {"cache_lease_ttl_ms": 60_000, "cache_lease_heartbeat_ms": 2000}


def documented() -> list[str]:
    """Return the words of the command that the page gives."""
    found = re.search(r"ACL SETUSER (.*?)\n```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1].replace("\\\n", " ").split()


async def run_all(one: Cache, two: Cache, redis: RedisServer) -> None:
    """Use every part of the service that asks Redis for anything."""
    long = speech(5)
    async with one.stream() as first, two.stream() as second, redis.client() as client:
        for key, value in ((audio_key("long"), long), (reply_key(), reply())):
            assert (await first.put(key, value)).HasField("done")
            await until(lambda key=key: client.exists(name_of(key)))  # type: ignore[misc]
        assert (await second.get_head(audio_key("long")))[-1].HasField("sealed")
        assert (await second.get(reply_key())).hit.tier == cache_pb2.CACHE_TIER_REDIS
        assert (await first.put(history_key(), history("a"), 0)).done.version == 1
        assert (await second.put(history_key(), history("b"), 1)).done.version == 2

        lease_id = (await first.get(audio_key("made"), LEASE)).granted.lease_id
        await first.append(lease_id, sound(10, "one"))
        following = await second.send(get=cache_pb2.Get(key=audio_key("made"), on_miss=LEASE))
        assert (await following.next()).HasField("following")
        await first.append(lease_id, sound(10, "two"))
        await first.seal(lease_id)
        while not (await following.next()).HasField("sealed"):
            pass
        lease_id = (await first.get(audio_key("given back"), LEASE)).granted.lease_id
        await first.append(lease_id, sound(10, "one"))
        following = await second.send(get=cache_pb2.Get(key=audio_key("given back"), on_miss=LEASE))
        await first.release(lease_id)
        while not (await following.next()).HasField("granted"):
            pass

        await client.set(name_of(audio_key("foreign")), b"not an entry")
        assert (await second.get(audio_key("foreign"))).HasField("miss")
        for target in ({"tag": "none"}, {"key": reply_key()}, {"all": True}):
            await one.invalidate(**target)
        await until(lambda: two.service.core.removals.total == 3)


async def test_a_user_with_the_documented_rights_and_no_others_is_enough(
    redis: RedisServer, unix_address: str
) -> None:
    name, *rights = documented()
    password = next(word[1:] for word in rights if word.startswith(">"))
    async with redis.client() as client, AsyncExitStack() as stack:
        await client.execute_command("ACL", "SETUSER", name, *rights)  # type: ignore[no-untyped-call]
        url = redis.url.replace("unix://", f"unix://{name}:{password}@")
        services = [
            await stack.enter_async_context(
                running_cache(f"{unix_address}-{number}", redis_url=url, **LEASES)
            )
            for number in range(2)
        ]
        for service in services:
            shared = service.service.shared
            assert shared is not None
            await until(lambda shared=shared: shared.available)  # type: ignore[misc]
        await run_all(services[0], services[1], redis)
        refused = await client.execute_command("ACL", "LOG")  # type: ignore[no-untyped-call]
        assert refused == []
        assert [(await service.stats()).redis_errors for service in services] == [0, 0]


async def test_no_right_is_documented_that_nothing_uses(redis: RedisServer, unix_address: str) -> None:
    allowed = {word[1:].partition("|")[0] for word in documented() if word.startswith("+")}
    async with redis.client() as client, AsyncExitStack() as stack:
        await client.config_resetstat()
        one, two = [
            await stack.enter_async_context(
                running_cache(f"{unix_address}-{number}", redis_url=redis.url, **LEASES)
            )
            for number in range(2)
        ]
        for service in (one, two):
            shared = service.service.shared
            assert shared is not None
            await until(lambda shared=shared: shared.available)  # type: ignore[misc]
        await run_all(one, two, redis)
        used = {name.removeprefix("cmdstat_").partition("|")[0] for name in await client.info("commandstats")}
    assert allowed <= used


async def test_a_redis_that_refuses_everything_is_not_a_line_for_each_request(
    redis: RedisServer, unix_address: str
) -> None:
    async with redis.client() as client:
        await client.execute_command("ACL", "SETUSER", "nobody", "on", ">x", "-@all", "+ping", "+client")  # type: ignore[no-untyped-call]
        url = redis.url.replace("unix://", "unix://nobody:x@")
        with capture_logs() as logs:
            async with running_cache(unix_address, redis_url=url) as cache, cache.stream() as stream:
                for number in range(30):
                    assert (await stream.get(audio_key(str(number)))).HasField("miss")
                    assert (await stream.put(audio_key(str(number)), speech(0.1))).HasField("done")
                await until(lambda: cache.service.core.stats().redis_dropped == 30)
        refusals = [line for line in logs if line["event"].startswith("Redis refused")]
        assert {line["event"] for line in refusals} == {"Redis refused", "Redis refused writes"}
        assert len(refusals) <= 6
