"""A durable tier in memory that fails when told to; the rules of versions are those of Redis."""

import asyncio

from services.cache.durable import DurableEntry, DurableUnavailableError, RoundTrips, Written
from services.cache.keys import Selector, StoredKey
from services.cache.values import HistoryValue, Value, tags_of


class FakeDurable:
    """Attributes are the script: `down`, `refuses`, `gate`, which holds every answer until it is set, and
    `removing`, which holds removals alone.
    """

    def __init__(self) -> None:
        self.entries: dict[str, tuple[StoredKey, Value, int]] = {}
        self.down = False
        self.held_off = False
        self.refuses = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.removing = asyncio.Event()
        self.removing.set()
        self.asked: list[str] = []
        self.ttl_ms: int | None = None
        self.errors = self.corrupt = self.dropped = 0

    @property
    def available(self) -> bool:
        return not self.held_off

    async def _answer(self, operation: str) -> None:
        self.asked.append(operation)
        await self.gate.wait()
        if self.down or self.held_off:
            self.held_off = True
            raise DurableUnavailableError("down")

    async def get(self, key: StoredKey, trips: RoundTrips, head_ms: int = 0) -> DurableEntry | None:
        with trips.redis("GET", key):
            found = self.entries.get(key.name)
            await self._answer("get")
        return None if found is None else DurableEntry(found[1], found[2], self.ttl_ms)

    def write_behind(self, key: StoredKey, value: Value, ttl_ms: int) -> None:
        if not (self.down or self.held_off):
            self.entries[key.name] = (key, value, 0)

    async def write_history(
        self,
        key: StoredKey,
        value: HistoryValue,
        ttl_ms: int,
        trips: RoundTrips,
        *,
        expected_version: int | None,
        floor_version: int,
    ) -> Written:
        with trips.redis("EVAL", key):
            await self._answer("write")
        if self.refuses:
            raise DurableUnavailableError("OOM")
        present = max(self.version(key), floor_version)
        if expected_version is not None and expected_version != present:
            return Written(present, done=False)
        self.entries[key.name] = (key, value, present + 1)
        return Written(present + 1, done=True)

    async def restore_history(
        self, key: StoredKey, value: HistoryValue, ttl_ms: int, version: int
    ) -> Written:
        await self._answer("restore")
        if self.version(key) >= version:
            return Written(self.version(key), done=False)
        self.entries[key.name] = (key, value, version)
        return Written(version, done=True)

    async def announce(self, selector: Selector, removal_id: str = "") -> None:
        await self._answer("announce")

    async def invalidate(self, selector: Selector, removal_id: str = "") -> int:
        await self.removing.wait()
        await self._answer("invalidate")
        matching = [
            name for name, (key, value, _) in self.entries.items() if selector.matches(key, tags_of(value))
        ]
        for name in matching:
            del self.entries[name]
        return len(matching)

    def version(self, key: StoredKey) -> int:
        return self.entries[key.name][2] if key.name in self.entries else 0
