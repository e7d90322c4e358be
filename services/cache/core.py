"""The cache: memory before Redis, leases for what is being made.

    audio, replies   read: memory, then Redis (which fills memory)
                     write: memory, and Redis behind it; nobody waits
    histories        read: Redis, which all processes share, while it answers; else memory
                     write: compare-and-set in Redis; where that fails, in memory, which is written
                     back when Redis answers again

A method without `async` never waits. Those that may have to ask Redis come in two: the one that
answers from what is here, or returns None, and the one that waits.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from services.cache.admission import Admission
from services.cache.answers import Conflict, Done, Hit, Joined, Miss, Stats, Tier
from services.cache.durable import (
    DurableEntry,
    DurableTier,
    DurableUnavailableError,
    RoundTrips,
    SharedLeases,
)
from services.cache.fills import Lease
from services.cache.histories import Histories
from services.cache.invalidation import Invalidation
from services.cache.keys import Selector, StoredKey
from services.cache.leases import LeaseTable
from services.cache.lifetimes import Lifetimes
from services.cache.memory import STEP, Entry, MemoryTier
from services.cache.needs import AT_ONCE, Need
from services.cache.removals import Removals
from services.cache.values import AudioFormat, AudioValue, HistoryValue, Kind, Value
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import InvalidFieldError, ServiceUnavailableError

_MAINTENANCE_S: Final = 10.0
_LEAST_SHARE: Final = 0.25
"""Of the tier's timeout: what is left for a lease at least, where reading the entry took long."""
WHOLE_BYTES: Final = 64 * 1024
"""Audio in memory up to which a head is not worth the messages of the rest."""


def _at_hand(value: AudioValue) -> Callable[[], Awaitable[AudioValue]]:
    async def whole() -> AudioValue:
        return value

    return whole


class CacheCore:
    """All entries of this process, and those in Redis where there is a tier for it.

    Args:
        clock: Measures lifetimes.
        memory: The memory tier.
        leases: The leases of this process.
        lifetimes: How long entries live.
        durable: The tier behind memory; None for memory alone.
        admission: Says what audio each tier is given; None: all of it.
        shared: Leases among all replicas; None where they are those of this process.

    """

    def __init__(
        self,
        *,
        clock: Clock,
        memory: MemoryTier,
        leases: LeaseTable,
        lifetimes: Lifetimes,
        durable: DurableTier | None = None,
        admission: Admission | None = None,
        shared: SharedLeases | None = None,
    ) -> None:
        self._clock = clock
        self._memory = memory
        self._durable = durable
        self._admission = admission or Admission()
        self._shared = shared
        self._asking: dict[str, asyncio.Future[Hit | Joined | None]] = {}
        self._lifetimes = lifetimes
        self.removals = Removals(clock)
        self.leases = leases
        self.histories = Histories(clock, memory, lifetimes, self.removals, durable)
        self.invalidation = Invalidation(memory, leases, self.removals, durable, shared)

    @property
    def _asks_redis(self) -> DurableTier | None:
        """The tier behind memory, where it can be asked now."""
        return self._durable if self._durable is not None and self._durable.available else None

    @property
    def _degraded(self) -> bool:
        return self._durable is not None and not self._durable.available

    def asked(self, key: StoredKey, *, keep: bool = False) -> None:
        """Note a request to read, once, before it is answered; `keep`: it is worth keeping by itself."""
        self._admission.asked(key, keep=keep)

    def get_now(self, key: StoredKey, head_ms: int = 0) -> Hit | Miss | None:
        """Read an entry without waiting; None where Redis is to be asked: then `get` it."""
        tier = self._asks_redis
        if key.kind == "history" and tier is not None:
            return None
        entry = self._memory.get(key)
        if entry is not None:
            return self._memory_hit(entry, head_ms)
        if tier is not None:
            return None
        self._memory.counts[key.kind].misses += 1
        return Miss(self._degraded)

    def _memory_hit(self, entry: Entry, head_ms: int = 0) -> Hit:
        self._memory.counts[entry.key.kind].memory_hits += 1
        self._write_later(entry)
        value = entry.value
        if head_ms and isinstance(value, AudioValue) and len(value.audio) > WHOLE_BYTES:
            head_bytes = value.format.bytes_of(head_ms)
            if 0 < head_bytes < len(value.audio):
                return Hit(value.cut(0, head_bytes), "memory", whole=_at_hand(value))
        return Hit(value, "memory", entry.version)

    async def get(self, key: StoredKey, trips: RoundTrips, head_ms: int = 0) -> Hit | Miss:
        """Read an entry. Waits for Redis at most as long as its timeout; never fails."""
        found = self.get_now(key, head_ms)
        tier = self._asks_redis
        if found is not None or tier is None:
            return found or Miss(self._degraded)
        counts, removals = self._memory.counts[key.kind], self.removals.epoch
        try:
            theirs = await tier.get(key, trips, head_ms)
        except DurableUnavailableError:
            entry, degraded = self._memory.get(key), True
        else:
            if theirs is not None and theirs.whole is not None:
                counts.redis_hits += 1
                return Hit(theirs.value, "redis", whole=self._rest(key, theirs, removals))
            entry, degraded = self._merge(key, theirs, keep=removals == self.removals.epoch), False
            if theirs is not None and (entry is None or entry.version <= theirs.version):
                counts.redis_hits += 1
                return Hit(theirs.value, "redis", theirs.version)
        if entry is not None:
            return self._memory_hit(entry, head_ms)
        counts.misses += 1
        return Miss(degraded)

    def _rest(self, key: StoredKey, head: DurableEntry, removals: int) -> Callable[[], Awaitable[AudioValue]]:
        async def whole() -> AudioValue:
            assert head.whole is not None
            try:
                value = await head.whole()
            except DurableUnavailableError:
                value = None
            if value is None:
                raise ServiceUnavailableError("the rest of the entry was lost; what came is right")
            self._merge(key, replace(head, value=value), keep=removals == self.removals.epoch)
            return value

        return whole

    def _merge(self, key: StoredKey, theirs: DurableEntry | None, *, keep: bool) -> Entry | None:
        """Bring memory up to what Redis has; return what memory has then, if that counts.

        What Redis has is right, but for a history that memory knows Redis may have missed.
        """
        mine = self._memory.get(key)
        if mine is not None and theirs is not None and mine.version > theirs.version:
            return mine
        if theirs is None:
            if mine is not None and key.kind == "history" and mine.durable:
                self._memory.remove(key)  # removed by another process, or it has expired
                return None
            return mine
        if keep:
            copy_ms = self._copy_ms(key.kind)
            ttl_ms = copy_ms if theirs.ttl_ms is None else min(copy_ms, theirs.ttl_ms)
            self._memory.put(key, theirs.value, ttl_ms, version=theirs.version, durable=True)
        return None

    def _copy_ms(self, kind: Kind) -> int:
        return self._lifetimes.history_copy_ms if kind == "history" else self._lifetimes.of(kind)

    def put_now(
        self, key: StoredKey, value: Value, expected_version: int | None, age_ms: int = 0
    ) -> Done | Conflict | None:
        """Write an entry without waiting; None for a history that is to go to Redis: then `histories.put` it.

        Audio or a reply that was begun `age_ms` ago, and invalidated since, is not kept.

        Raises:
            InvalidFieldError: A version is expected of what has none; or a history is too large for
                memory while there is nothing else to keep it in.

        """
        if not isinstance(value, HistoryValue):
            if expected_version is not None:
                raise InvalidFieldError("put.expected_version", "is for histories only")
            return Done(stale=True) if self._stale(key, value.tags, age_ms) else self._store(key, value)
        return self.histories.put_now(key, value, expected_version)

    def _store(self, key: StoredKey, value: Value) -> Done:
        to_memory, to_redis = self._admission.admit(key, redis=self._durable is not None)
        return self._write(key, value, to_memory=to_memory, to_redis=to_redis)

    def _write(
        self, key: StoredKey, value: Value, *, to_memory: bool, to_redis: bool, behind: bool = True
    ) -> Done:
        ttl_ms = self._lifetimes.of(key.kind)
        if to_memory:
            self._memory.put(key, value, ttl_ms, durable=to_redis)
        if self._durable is not None and to_redis and behind:
            self._durable.write_behind(key, value, ttl_ms)
        refused: tuple[Tier, ...] = () if to_memory else ("memory",)
        if self._durable is not None and not to_redis:
            refused = (*refused, "redis")
        return Done(degraded=self._degraded, not_admitted=refused)

    def _write_later(self, entry: Entry) -> None:
        """Give Redis what memory alone has, once it was asked for often enough."""
        tier = self._asks_redis
        if tier is None or entry.durable or not self._admission.later(entry.key):
            return
        ttl_ms = (entry.expires_ns - self._clock.now_ns()) // 1_000_000
        if ttl_ms >= 1:
            tier.write_behind(entry.key, entry.value, ttl_ms)
            self._memory.mark(entry, durable=True)

    def acquire_now(
        self, key: StoredKey, form: AudioFormat, head_ms: int = 0, need: Need = AT_ONCE
    ) -> Hit | Joined | None:
        """Read audio, or take or follow its lease, without waiting; None where Redis is to be asked."""
        entry = self._memory.get(key)
        if entry is not None:
            return self._memory_hit(entry, head_ms)
        if self._asks_redis is not None and not self.leases.filling(key):
            return None
        self._memory.counts[key.kind].misses += 1
        return Joined(*self.leases.acquire(key, form, need))

    async def acquire(
        self,
        key: StoredKey,
        form: AudioFormat,
        trips: RoundTrips,
        head_ms: int = 0,
        need: Need = AT_ONCE,
    ) -> Hit | Joined:
        """Read audio, or take or follow its lease. Waits for Redis at most as long as its timeout."""
        joined = self.acquire_now(key, form, head_ms, need)
        if joined is not None:
            return joined
        while (asking := self._asking.get(key.name)) is not None:
            found = await asyncio.shield(asking)
            joined = self.acquire_now(key, form, head_ms, need)
            if joined is not None:
                return joined
            if isinstance(found, Hit):  # and too large for memory, or only its head is here
                return self._count(key, found)
        # One asks for all that want the same at once; what it finds they find here, or are told.
        asking = self._asking[key.name] = asyncio.get_running_loop().create_future()
        result: Hit | Joined | None = None
        try:
            result = await self._ask(key, form, trips, head_ms, need)
            return result
        finally:
            del self._asking[key.name]
            asking.set_result(result)

    async def _ask(
        self, key: StoredKey, form: AudioFormat, trips: RoundTrips, head_ms: int, need: Need
    ) -> Hit | Joined:
        began_ns = self._clock.now_ns()
        shared = self._shared
        for _ in range(2):  # an entry that is there by now is read, unless nobody can read it
            found = await self.get(key, trips, head_ms)
            if isinstance(found, Hit):
                return found
            if shared is None or not shared.available or self.leases.filling(key):
                break
            left_s = shared.timeout_s - (self._clock.now_ns() - began_ns) / 1e9
            if await shared.look(key, form, trips, max(left_s, _LEAST_SHARE * shared.timeout_s)) != "stored":
                break
        # Meanwhile another may have begun, or ended, to make it.
        entry = self._memory.get(key)
        return Hit(entry.value, "memory") if entry else Joined(*self.leases.acquire(key, form, need))

    def _count(self, key: StoredKey, hit: Hit) -> Hit:
        counts = self._memory.counts[key.kind]
        counts.redis_hits += 1
        return hit

    def append(self, lease: Lease, part: AudioValue) -> Done:
        """Add to what a lease is for; errors as `LeaseTable.append`."""
        self.leases.append(lease, part)
        return Done()

    def seal(self, lease: Lease, tags: tuple[str, ...] = (), age_ms: int = 0) -> Done:
        """Complete and store what a lease is for, with its tags; errors as `LeaseTable.seal`.

        What belongs to work that began `age_ms` ago, and was invalidated since, is heard here and not kept.
        """
        complete = self.leases.seal(lease)
        if complete is None:
            return Done()
        key, value = complete
        value, ttl_ms = replace(value, tags=tags), self._lifetimes.of(key.kind)
        if self._stale(key, tags, age_ms):
            # It must not get into Redis for those who follow it at another replica: they go on alone.
            self.leases.discard(Selector("key", key.name))
            return Done(stale=True)
        to_memory, to_redis = self._admission.admit(key, redis=self._durable is not None)
        under_lease = self._shared is not None and self._shared.store(key, value, ttl_ms, admitted=to_redis)
        return self._write(key, value, to_memory=to_memory, to_redis=to_redis, behind=not under_lease)

    def copied(self, key: StoredKey, value: AudioValue) -> None:
        """Keep what another replica has sealed, and this one heard all of."""
        to_memory, _ = self._admission.admit(key, redis=False)
        if to_memory:
            self._memory.put(key, value, self._lifetimes.of(key.kind), durable=True)

    def unstored(self, key: StoredKey, value: AudioValue, ttl_ms: int) -> None:
        """Write what was sealed, and could not be written under its lease, behind."""
        if self._durable is not None:
            self._durable.write_behind(key, value, ttl_ms)

    def _stale(self, key: StoredKey, tags: tuple[str, ...], age_ms: int) -> bool:
        began_ns = self._clock.now_ns() - age_ms * 1_000_000
        return bool(age_ms) and self.removals.makes_stale(key, tags, began_ns)

    def release(self, lease: Lease) -> Done:
        """Give a lease back, or stop following."""
        self.leases.release(lease)
        return Done()

    def stats(self) -> Stats:
        """Return counts since the start, and sizes now."""
        durable = self._durable
        return Stats(
            kinds=self._memory.counts,
            memory_bytes=self._memory.bytes,
            memory_limit_bytes=self._memory.limit_bytes,
            redis_configured=durable is not None,
            redis_available=durable is not None and durable.available,
            redis_errors=durable.errors if durable is not None else 0,
            redis_corrupt=durable.corrupt if durable is not None else 0,
            redis_dropped=durable.dropped if durable is not None else 0,
            active_leases=self.leases.active,
            admission=self._admission.counts,
            removals=self.removals,
        )

    async def maintain(self) -> None:
        """Remove what has expired and write back what Redis lacks, now and then, until cancelled."""
        while True:
            await asyncio.sleep(_MAINTENANCE_S)
            for _ in self._memory.sweep(STEP):
                await asyncio.sleep(0)
            await self.histories.restore()
