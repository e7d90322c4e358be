"""What audio is worth giving to Redis, and to memory: hits and bytes by how often it was asked for before.

    .venv/bin/python -m benchmarks.admission [--crowd 1] [--seed 1]

Plays the sentences of `benchmarks.conversations`, as `benchmarks.eviction` has them, through the cache's
own core in virtual time. Redis is a dictionary that counts what it is given: as large as need be, or of a
size above which it gives up what was used longest ago. It keeps everything to the end of the two hours.
What is not found is spoken and stored at once; leases and heads are left out.
"""

import argparse
import asyncio
from collections import OrderedDict
from typing import Final

from benchmarks.eviction import MIB, conversations
from services.cache.admission import Admission, RequestRecord
from services.cache.answers import Hit
from services.cache.core import CacheCore
from services.cache.durable import DurableEntry, RoundTrips, Untraced
from services.cache.keys import AudioKey, StoredKey, stored_key
from services.cache.leases import LeaseTable
from services.cache.lifetimes import Lifetimes
from services.cache.memory import MemoryTier
from services.cache.values import PCM_S16LE, AudioFormat, AudioValue, Value, size_bytes
from tests.unit.cache.fake_durable import FakeDurable
from voicemesh.runtime.clock import ManualClock

FORM: Final = AudioFormat(PCM_S16LE, 22_050, 1)
HOUR_MS: Final = 3_600_000
CHOICES: Final = (
    # requests for memory, requests for Redis, window in minutes
    (1, 1, 120),
    (1, 2, 120),
    (1, 2, 30),
    (1, 2, 10),
    (1, 3, 120),
    (2, 2, 120),
)
SIZES_MIB: Final = ((64, 1e6), (64, 128), (64, 64), (256, 1e6))
"""Of memory, and of Redis."""


class CountingRedis(FakeDurable):
    """Counts what it is given; above `limit_bytes` gives up what was used longest ago, as `allkeys-lru`."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self.given_bytes = 0

    def write_behind(self, key: StoredKey, value: Value, ttl_ms: int) -> None:
        """Take an entry."""
        self._sizes[key.name] = size_bytes(value)
        self._sizes.move_to_end(key.name)
        self.given_bytes += size_bytes(value)
        super().write_behind(key, value, ttl_ms)
        while sum(self._sizes.values()) > self._limit_bytes:
            name, _ = self._sizes.popitem(last=False)
            del self.entries[name]

    async def get(self, key: StoredKey, trips: RoundTrips, head_ms: int = 0) -> DurableEntry | None:
        """Return the entry of `key`."""
        if key.name in self._sizes:
            self._sizes.move_to_end(key.name)
        return await super().get(key, trips, head_ms)


async def play(
    sentences: list[tuple[int, str, int]], memory_mib: int, redis_mib: float, choice: tuple[int, int, int]
) -> tuple[float, float, float]:
    """Return the share of hits in memory and in Redis, and the MiB that Redis was given."""
    memory_requests, redis_requests, minutes = choice
    clock, redis = ManualClock(), CountingRedis(round(redis_mib * MIB))
    record = RequestRecord(clock, window_ms=minutes * 60_000, keys=32_768)
    core = CacheCore(
        clock=clock,
        memory=MemoryTier(clock, memory_mib * MIB),
        leases=LeaseTable(clock, ttl_ms=2000, max_value_bytes=MIB, budget_bytes=MIB),
        lifetimes=Lifetimes(2 * HOUR_MS, HOUR_MS, HOUR_MS, HOUR_MS),
        durable=redis,
        admission=Admission(record, memory_requests=memory_requests, redis_requests=redis_requests),
    )
    now_ms = 0
    for at_ms, name, size in sentences:
        clock.advance_ms(at_ms - now_ms)
        now_ms = at_ms
        key = stored_key(AudioKey("e", "r", "v", "en", 1000, FORM, name), "key", max_text_chars=10_000)
        core.asked(key)
        if not isinstance(await core.get(key, Untraced()), Hit):
            core.put_now(key, AudioValue(FORM, bytes(size // 2 * 2)), None)
    counts = core.stats().kinds["audio"]
    asked = len(sentences)
    return counts.memory_hits / asked, counts.redis_hits / asked, redis.given_bytes / MIB


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--crowd", type=int, default=1, help="so many times as many people")
    arguments = parser.parse_args()
    sentences = conversations(arguments.seed, arguments.crowd)
    print(f"{len(sentences)} sentences")
    columns = f"{'in memory':>10} {'Redis':>7} {'all':>7} {'given MiB':>10}"
    print(f"{'memory, Redis, MiB':<20} {'requests, window':<18} {columns}")
    for memory_mib, redis_mib in SIZES_MIB:
        sizes = f"{memory_mib}, {'any' if redis_mib >= 1e6 else redis_mib}"
        for choice in CHOICES:
            memory, redis, given = await play(sentences, memory_mib, redis_mib, choice)
            what = f"{choice[0]} / {choice[1]}, {choice[2]} min"
            hits = f"{memory:>10.1%} {redis:>7.1%} {memory + redis:>7.1%}"
            print(f"{sizes:<20} {what:<18} {hits} {given:>10.0f}")


if __name__ == "__main__":
    asyncio.run(main())
