"""How long a hit takes at the client of the cache: memory and Redis, heads and whole entries.

    .venv/bin/python -m benchmarks.cache_hits [--entries 300] [--rounds 5]

A real Redis and real cache processes, all on Unix sockets; one stream, one request at a time, as a turn
asks. Timed from the request's write to the first answer, with its audio parsed. One process writes entries
of 1 to 5 s of audio at 22,050 Hz; a fresh one finds each in Redis, and then in its memory. With a head (200
ms) and whole. The second table has entries of 3 MB (68 s), which is where a head matters. Answers that are
no hit are counted: a busy machine makes Redis later than the 15 ms that the service waits for it.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.meshes import HEADER, row
from tests.support.redis_server import redis_server
from voicemesh.cache.v1 import cache_pb2, cache_pb2_grpc
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.channels import open_channel

RATE_HZ: Final = 22_050
LONG_BYTES: Final = 3_000_000
HEAD_MS: Final = 200
FORMAT: Final = common_pb2.AudioFormat(
    encoding=common_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=RATE_HZ, channels=1
)
TIERS: Final = {cache_pb2.CACHE_TIER_MEMORY: "memory", cache_pb2.CACHE_TIER_REDIS: "Redis"}


def key(name: str) -> cache_pb2.CacheKey:
    """Return the key of an entry."""
    return cache_pb2.CacheKey(
        audio=cache_pb2.AudioKey(
            engine="espeak", model_revision="r1", voice="v", speed_permille=1000, format=FORMAT, text=name
        )
    )


def value(size_bytes: int) -> cache_pb2.CacheValue:
    """Return audio of that size, with a word for each third of a second."""
    step = RATE_HZ // 3
    words = [
        common_pb2.WordTiming(word="lighthouse", text_offset=at, text_length=10, offset_samples=at)
        for at in range(0, size_bytes // 2, step)
    ]
    return cache_pb2.CacheValue(
        audio=cache_pb2.AudioValue(format=FORMAT, audio=os.urandom(size_bytes // 2 * 2), words=words)
    )


class Client:
    """One stream to a cache process."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._id = 0

    async def _ask(self, **operation: Any) -> tuple[cache_pb2.ExchangeResponse, float]:
        self._id += 1
        began_s = time.perf_counter()
        await self._call.write(cache_pb2.ExchangeRequest(request_id=self._id, **operation))
        answer = await self._call.read()
        return answer, (time.perf_counter() - began_s) * 1000

    async def put(self, name: str, size_bytes: int) -> None:
        """Store an entry."""
        answer, _ = await self._ask(put=cache_pb2.Put(key=key(name), value=value(size_bytes)))
        assert answer.HasField("done"), answer

    async def get(self, name: str, head_ms: int) -> tuple[str, float]:
        """Return where an entry was, "" for nowhere, and the milliseconds to the first answer."""
        answer, took_ms = await self._ask(get=cache_pb2.Get(key=key(name), head_ms=head_ms))
        more = answer
        while more.hit.more or more.HasField("part"):
            more = await self._call.read()
        whole = not answer.hit.more or more.HasField("sealed")
        return (TIERS[answer.hit.tier] if answer.HasField("hit") and whole else ""), took_ms


@asynccontextmanager
async def cache(folder: str, redis_url: str, **settings: str) -> AsyncIterator[Client]:
    """Run a cache process, and open a stream to it."""
    address = f"unix:{folder}/cache.sock"
    environment = {
        **os.environ,
        "VOICEMESH_CACHE_LISTEN": address,
        "VOICEMESH_REDIS_URL": redis_url,
        "VOICEMESH_CACHE_ADMIT_REQUESTS": "1",
        "VOICEMESH_LOG_LEVEL": "error",
        **settings,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.cache", env=environment)
    try:
        async with open_channel(address) as channel, asyncio.timeout(60):
            await channel.channel_ready()
            stub: Any = cache_pb2_grpc.CacheServiceStub(channel)
            call = stub.Exchange()
            client = Client(call)
            await client.get("nothing", 0)
            async with asyncio.timeout(None):
                yield client
            call.cancel()
    finally:
        process.terminate()
        await process.wait()


Times = dict[tuple[str, int], list[float]]


async def measure(folder: str, redis_url: str, names: list[str], times: Times, **settings: str) -> int:
    """Read all entries from Redis, then from memory, with and without a head; return how many were missed."""
    missed = 0
    for head_ms in (HEAD_MS, 0):
        async with cache(folder, redis_url, **settings) as client:  # whose memory has nothing
            for tier in ("Redis", "memory"):
                for name in names:
                    found, took_ms = await client.get(name, head_ms)
                    if found == tier:
                        times.setdefault((tier, head_ms), []).append(took_ms)
                    else:
                        missed += 1
    return missed


def report(title: str, times: Times, missed: int) -> None:
    """Print a table."""
    print(f"\n{title}\n{HEADER}")
    for tier in ("memory", "Redis"):
        for head_ms in (HEAD_MS, 0):
            what = f"head of {head_ms} ms" if head_ms else "whole"
            if times.get((tier, head_ms)):
                print(row(f"{tier}, {what}", times[tier, head_ms]))
    print(f"{missed} answers were not what was asked for: late, or gone from memory")


async def run(entries: int, rounds: int) -> None:
    """Print both tables."""
    draw = random.Random(1)
    short = {f"short {number}": int(draw.uniform(1, 5) * RATE_HZ * 2) for number in range(entries)}
    long = {f"long {number}": LONG_BYTES for number in range(10)}
    with tempfile.TemporaryDirectory(prefix="vm-") as folder:
        async with redis_server() as redis:
            async with cache(folder, redis.url) as client, redis.client() as looking:
                for number, (name, size_bytes) in enumerate({**short, **long}.items(), start=1):
                    await client.put(name, size_bytes)
                    async with asyncio.timeout(30):
                        # What waits to be written is bounded, and Redis tells of nothing.
                        while True:
                            if await looking.dbsize() >= number:
                                break
                            await asyncio.sleep(0.001)
            times: Times = {}
            missed = [await measure(folder, redis.url, list(short), times) for _ in range(rounds)]
            report(f"entries of 1 to 5 s, {entries} x {rounds}", times, sum(missed))
            times = {}
            patient = {"VOICEMESH_CACHE_REDIS_TIMEOUT_MS": "1000"}
            missed = [await measure(folder, redis.url, list(long), times, **patient) for _ in range(rounds)]
            report(f"entries of 3 MB, {len(long)} x {rounds}; Redis is waited for", times, sum(missed))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.entries, arguments.rounds))


if __name__ == "__main__":
    main()
