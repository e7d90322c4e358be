"""Histories: in Redis with a version that is compared; in memory while Redis is away, then written back."""

from services.cache.answers import Conflict, Done
from services.cache.durable import DurableTier, DurableUnavailableError, RoundTrips
from services.cache.keys import StoredKey
from services.cache.lifetimes import Lifetimes
from services.cache.memory import MemoryTier
from services.cache.removals import Removals
from services.cache.values import HistoryValue
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import InvalidFieldError
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)


class Histories:
    """Writes the histories of this process.

    Args:
        clock: Measures lifetimes.
        memory: The memory tier.
        lifetimes: How long histories live.
        removals: What was invalidated.
        durable: The tier behind memory; None for memory alone.

    """

    def __init__(
        self,
        clock: Clock,
        memory: MemoryTier,
        lifetimes: Lifetimes,
        removals: Removals,
        durable: DurableTier | None,
    ) -> None:
        self._clock = clock
        self._memory = memory
        self._lifetimes = lifetimes
        self._removals = removals
        self._durable = durable

    @property
    def _asks_redis(self) -> DurableTier | None:
        return self._durable if self._durable is not None and self._durable.available else None

    def put_now(
        self, key: StoredKey, value: HistoryValue, expected_version: int | None
    ) -> Done | Conflict | None:
        """Write a history without waiting; None where it is to go to Redis: then `put` it.

        Raises:
            InvalidFieldError: It is too large for memory while there is nothing else to keep it in.

        """
        return None if self._asks_redis is not None else self._put_in_memory(key, value, expected_version)

    async def put(
        self, key: StoredKey, value: HistoryValue, expected_version: int | None, trips: RoundTrips
    ) -> Done | Conflict:
        """Write a history. Waits for Redis at most as long as its timeout, then memory has it alone.

        Raises:
            InvalidFieldError: As `put_now`.

        """
        tier = self._asks_redis
        if tier is None:
            return self._put_in_memory(key, value, expected_version)
        mine, removals = self._memory.get(key), self._removals.epoch
        floor = mine.version if mine is not None and not mine.durable else 0
        try:
            written = await tier.write_history(
                key,
                value,
                self._lifetimes.history_ms,
                trips,
                expected_version=expected_version,
                floor_version=floor,
            )
        except DurableUnavailableError:
            return self._put_in_memory(key, value, expected_version, degraded=True)
        mine = self._memory.get(key)
        if not written.done:
            if mine is not None and mine.version < written.version:
                self._memory.remove(key)
            return Conflict(written.version)
        if (mine is None or mine.version < written.version) and removals == self._removals.epoch:
            copy_ms = self._lifetimes.history_copy_ms
            self._memory.put(key, value, copy_ms, version=written.version, durable=True)
        return Done(written.version)

    def _put_in_memory(
        self, key: StoredKey, value: HistoryValue, expected_version: int | None, *, degraded: bool = False
    ) -> Done | Conflict:
        degraded = degraded or (self._durable is not None and not self._durable.available)
        mine = self._memory.get(key)
        # With Redis away nobody knows the version; the caller read it, so the caller is right.
        unknown = (expected_version or 0) if degraded else 0
        present = mine.version if mine is not None else unknown
        if expected_version is not None and expected_version != present:
            return Conflict(present)
        if not self._memory.put(key, value, self._lifetimes.history_ms, version=present + 1):
            limit = self._memory.largest_bytes("history")
            raise InvalidFieldError("put.value.history", f"takes more than the {limit} bytes that are kept")
        return Done(present + 1, degraded)

    def lost(self) -> None:
        """Note that Redis does not answer: it may come back without what it had."""
        for entry in self._memory.histories(durable=True):
            self._memory.mark(entry, durable=False)

    async def restore(self) -> int:
        """Write the histories that Redis may not have; return how many it did not have."""
        restored = 0
        for entry in self._memory.histories(durable=False):
            tier = self._asks_redis
            ttl_ms = (entry.expires_ns - self._clock.now_ns()) // 1_000_000
            if tier is None:
                break
            if ttl_ms < 1 or self._memory.get(entry.key) is not entry:
                continue
            assert isinstance(entry.value, HistoryValue)
            try:
                written = await tier.restore_history(entry.key, entry.value, ttl_ms, entry.version)
            except DurableUnavailableError:
                break
            restored += written.done
            if written.version > entry.version and self._memory.get(entry.key) is entry:
                self._memory.remove(entry.key)  # another process wrote it meanwhile
            else:
                self._memory.mark(entry, durable=True)
        if restored:
            _log.info("histories written back to Redis", histories=restored)
        return restored
