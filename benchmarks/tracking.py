"""How replicas hear of removals: Redis's client-side tracking (RESP3, BCAST), or a stream of announcements.

    .venv/bin/python -m benchmarks.tracking [--writes 2000] [--replicas 1 2 8]

One process writes entries of a second of audio behind, as a cache service does, in pipelines of 16; beside it
as many connections as there are replicas hear of it: by nothing, by `CLIENT TRACKING ON BCAST PREFIX`, or by
`XREAD BLOCK` on the stream of `services.cache.announcements`, on which nothing comes. Then one entry is
removed, 200 times, and what is timed is until the last replica has heard. Last, what tracking could save: a
history that is read from Redis at each turn could be read from memory. Redis is a real one, on a Unix socket.
"""

import argparse
import asyncio
import math
import os
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from redis.asyncio import ConnectionPool, Redis

from benchmarks.meshes import HEADER, row
from services.cache.announcements import STREAM
from services.cache.keys import PREFIX
from tests.support.redis_server import RedisServer, redis_server

ENTRY: Final = os.urandom(44_100)
BATCH: Final = 16
REMOVALS: Final = 200


class Heard:
    """Counts what one replica hears."""

    def __init__(self) -> None:
        self.messages = 0
        self.removed = asyncio.Event()


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task that reads; again and again, because redis-py may lose a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.05)


@asynccontextmanager
async def tracked(redis: Redis, heard: Heard) -> AsyncIterator[None]:
    """Hear of every change below the prefix."""
    pool = redis.connection_pool
    connection: Any = pool.connection_class(**{**pool.connection_kwargs, "protocol": 3})
    await connection.connect()
    await connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", PREFIX)
    await connection.read_response()

    async def take(message: list[Any]) -> None:
        heard.messages += len(message[1])
        heard.removed.set()

    connection._parser.set_invalidation_push_handler(take)  # noqa: SLF001 - redis-py has no other way

    async def read() -> None:
        while True:
            await connection.read_response(push_request=True, timeout=math.inf)

    reading = asyncio.create_task(read())
    try:
        yield
    finally:
        await end(reading)
        await connection.disconnect()


@asynccontextmanager
async def announced(redis: Redis, heard: Heard) -> AsyncIterator[None]:
    """Hear of what is announced."""
    pool = redis.connection_pool
    listening = Redis.from_pool(ConnectionPool(pool.connection_class, **pool.connection_kwargs))

    async def read() -> None:
        last: Any = "0-0"
        while True:
            found: Any = await listening.xread({STREAM: last}, block=1000)
            for _, messages in found:
                heard.messages += len(messages)
                last = messages[-1][0]
                heard.removed.set()

    reading = asyncio.create_task(read())
    try:
        yield
    finally:
        await end(reading)
        await listening.aclose(close_connection_pool=True)


@asynccontextmanager
async def deaf(redis: Redis, heard: Heard) -> AsyncIterator[None]:
    """Hear nothing."""
    del redis, heard
    yield


async def cpu_s(redis: Redis) -> float:
    """Return the CPU seconds that Redis has used."""
    info = await redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def measure(server: RedisServer, how: str, replicas: int, writes: int) -> None:
    """Print a line for one way and number of replicas."""
    ways = {"nothing": deaf, "tracking": tracked, "stream": announced}
    heard = [Heard() for _ in range(replicas)]
    async with Redis.from_url(server.url, protocol=2) as redis:
        await redis.flushall()
        stack = [ways[how](redis, each) for each in heard]
        for context in stack:
            await context.__aenter__()
        own_s, redis_s, began_s = time.process_time(), await cpu_s(redis), time.perf_counter()
        for start in range(0, writes, BATCH):
            async with redis.pipeline(transaction=False) as pipeline:
                for number in range(start, start + BATCH):
                    pipeline.set(f"{PREFIX}:audio:-:-:-:{number:064}", ENTRY, px=7_200_000)
                await pipeline.execute()
        took_s = time.perf_counter() - began_s
        own_s, redis_s = time.process_time() - own_s, await cpu_s(redis) - redis_s
        messages = sum(each.messages for each in heard) / replicas
        reached = [await removal_ms(redis, heard, how, number) for number in range(REMOVALS)]
        for context in reversed(stack):
            await context.__aexit__(None, None, None)
    per = 1e6 / writes
    delay = f"{statistics.median(reached):.2f}" if how != "nothing" else "-"
    print(
        f"{how:<10}{replicas:>9}{took_s * per:>12.1f}{redis_s * per:>12.1f}{own_s * per:>12.1f}"
        f"{messages / writes:>12.2f}{delay:>12}"
    )


async def removal_ms(redis: Redis, heard: list[Heard], how: str, number: int) -> float:
    """Remove an entry, and return the milliseconds until all have heard."""
    for each in heard:
        each.removed.clear()
    began_s = time.perf_counter()
    await redis.unlink(f"{PREFIX}:audio:-:-:-:{number:064}")
    if how == "stream":
        await redis.xadd(STREAM, {"by": "x", "selector": "x" * 100}, maxlen=1000, approximate=False)
    if how != "nothing":
        async with asyncio.timeout(10):
            await asyncio.gather(*(each.removed.wait() for each in heard))
    return (time.perf_counter() - began_s) * 1000


async def histories(server: RedisServer) -> None:
    """Print what reading a history from Redis takes, which a tracked copy in memory would save."""
    async with server.client() as redis:
        await redis.set("history", os.urandom(3000), px=3_600_000)
        took_ms = []
        for _ in range(3000):
            began_s = time.perf_counter()
            async with redis.pipeline(transaction=False) as pipeline:
                pipeline.get("history")
                pipeline.pttl("history")
                await pipeline.execute()
            took_ms.append((time.perf_counter() - began_s) * 1000)
    print(f"\n{HEADER}")
    print(row("a history of 3 kB from Redis", took_ms))


async def run(writes: int, replicas: list[int]) -> None:
    """Print the table."""
    async with redis_server() as server:
        print("for each write: µs in all, CPU µs of Redis, CPU µs of the clients, messages to a replica;")
        print("and ms from a removal until every replica has heard of it (p50)\n")
        print(
            f"{'by':<10}{'replicas':>9}{'µs':>12}{'Redis':>12}{'clients':>12}{'messages':>12}{'heard ms':>12}"
        )
        for count in replicas:
            for how in ("nothing", "tracking", "stream"):
                await measure(server, how, count, writes)
        await histories(server)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--writes", type=int, default=2000)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 8])
    arguments = parser.parse_args()
    asyncio.run(run(arguments.writes // BATCH * BATCH, arguments.replicas))


if __name__ == "__main__":
    main()
