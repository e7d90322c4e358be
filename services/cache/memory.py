"""The memory tier: entries of three kinds, each kind within its own bytes and lifetime.

    total limit ┬─ audio    3/4    S3-FIFO: what is asked for again stays
                ├─ replies  1/8    S3-FIFO
                └─ history  1/8    the least recently used goes: who has just spoken speaks on

A flood of one kind never pushes another out. Who makes room within a kind is the business of
`eviction.py`; here is what there is, how large it is and how long it lives.

An entry that is larger than an eighth of the total limit (or than its kind's share) is not kept: it
would push out many to serve one. Lifetimes count from the write; reading does not prolong them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from services.cache.eviction import LeastRecent, Order, S3Fifo
from services.cache.keys import Selector, StoredKey
from services.cache.values import KINDS, Kind, Value, size_bytes, tags_of
from voicemesh.runtime.clock import Clock

STEP: Final = 1000
"""Entries to look at without letting other work in between."""
_SHARES_OF_8: Final[dict[Kind, int]] = {"audio": 6, "reply": 1, "history": 1}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry in memory."""

    key: StoredKey
    value: Value
    size_bytes: int
    expires_ns: int
    version: int = 0
    """Version of a history; 0 for other kinds."""
    durable: bool = False
    """For histories: the last that was heard of Redis is that it has this version."""


@dataclass(slots=True)
class KindCounts:
    """Counts of one kind since the start, and its size now."""

    entries: int = 0
    bytes: int = 0
    memory_hits: int = 0
    redis_hits: int = 0
    misses: int = 0
    evictions: int = 0


class MemoryTier:
    """Entries of all kinds, within `limit_bytes`. Not for use by more than one thread."""

    def __init__(self, clock: Clock, limit_bytes: int) -> None:
        self._clock = clock
        self.limit_bytes = limit_bytes
        self._budgets: dict[Kind, int] = {
            kind: limit_bytes * share // 8 for kind, share in _SHARES_OF_8.items()
        }
        self._entries: dict[Kind, dict[str, Entry]] = {kind: {} for kind in KINDS}
        self._orders: dict[Kind, Order] = {
            "audio": S3Fifo(self._budgets["audio"]),
            "reply": S3Fifo(self._budgets["reply"]),
            "history": LeastRecent(),
        }
        self.counts: dict[Kind, KindCounts] = {kind: KindCounts() for kind in KINDS}
        self.on_gone: Callable[[StoredKey], None] | None = None
        """Is told of each entry that is gone: removed, expired, or making room; not of one replaced."""

    def __contains__(self, key: StoredKey) -> bool:
        """Return whether there is an entry of `key`, without marking it as used."""
        entry = self._entries[key.kind].get(key.name)
        return entry is not None and entry.expires_ns > self._clock.now_ns()

    @property
    def bytes(self) -> int:
        """Bytes that all entries take."""
        return sum(counts.bytes for counts in self.counts.values())

    def largest_bytes(self, kind: Kind) -> int:
        """Return the size of the largest entry of `kind` that would be kept, in bytes."""
        return min(self.limit_bytes // 8, self._budgets[kind])

    def get(self, key: StoredKey) -> Entry | None:
        """Return the entry of `key` and mark it as used; None where there is none. Counts nothing."""
        entry = self._entries[key.kind].get(key.name)
        if entry is None:
            return None
        if entry.expires_ns <= self._clock.now_ns():
            self.remove(key)
            return None
        self._orders[key.kind].use(key.name)
        return entry

    def put(
        self, key: StoredKey, value: Value, ttl_ms: int, *, version: int = 0, durable: bool = False
    ) -> bool:
        """Keep an entry for `ttl_ms`, in place of any that is there, and make room for it.

        Returns:
            False where it is too large to be kept. What was there before is gone then as well.

        """
        entries, order = self._entries[key.kind], self._orders[key.kind]
        counts, budget = self.counts[key.kind], self._budgets[key.kind]
        size = size_bytes(value) + len(key.name)
        if size > self.largest_bytes(key.kind):
            self.remove(key)
            return False
        self._take_out(key)  # and leave it in the order: what is replaced has been used
        while counts.bytes + size > budget:
            victim = entries.get(order.evict())  # None: the very one that is replaced
            if victim is not None:
                self._take_out(victim.key)
                self._tell(victim.key)
                if victim.expires_ns > self._clock.now_ns():
                    counts.evictions += 1
        order.add(key.name, size)
        expires_ns = self._clock.now_ns() + ttl_ms * 1_000_000
        entries[key.name] = Entry(key, value, size, expires_ns, version, durable)
        counts.entries += 1
        counts.bytes += size
        return True

    def remove(self, key: StoredKey) -> bool:
        """Remove the entry of `key`; return whether there was one."""
        self._orders[key.kind].remove(key.name)
        gone = self._take_out(key)
        if gone:
            self._tell(key)
        return gone

    def remove_matching(self, selector: Selector, step: int) -> Iterator[int]:
        """Remove all entries that match: looks at `step` entries a step, yields how many it removed.

        Entries may come and go between two steps; those that come are not looked at.
        """
        for kind in KINDS:
            present = iter(tuple(self._entries[kind].values()))
            while batch := tuple(islice(present, step)):
                yield sum(
                    self.remove(entry.key)
                    for entry in batch
                    if selector.matches(entry.key, tags_of(entry.value))
                )

    def remove_copies(self, step: int) -> Iterator[int]:
        """Remove all but the histories that Redis may not have, in steps as `remove_matching`."""
        for kind in KINDS:
            present = iter(tuple(self._entries[kind].values()))
            while batch := tuple(islice(present, step)):
                yield sum(self.remove(entry.key) for entry in batch if kind != "history" or entry.durable)

    def sweep(self, step: int) -> Iterator[int]:
        """Remove what has expired: looks at `step` entries a step, yields how many it removed."""
        for kind in KINDS:
            present = iter(tuple(self._entries[kind].values()))
            while batch := tuple(islice(present, step)):
                now_ns = self._clock.now_ns()
                yield sum(self.remove(entry.key) for entry in batch if entry.expires_ns <= now_ns)

    def histories(self, *, durable: bool) -> tuple[Entry, ...]:
        """Return the histories that Redis has (`durable`) or may not have."""
        return tuple(entry for entry in self._entries["history"].values() if entry.durable is durable)

    def mark(self, entry: Entry, *, durable: bool) -> None:
        """Say whether Redis has `entry`. Does nothing if the entry has been replaced or removed."""
        entries = self._entries[entry.key.kind]
        if entries.get(entry.key.name) is entry:
            entries[entry.key.name] = Entry(
                entry.key, entry.value, entry.size_bytes, entry.expires_ns, entry.version, durable
            )

    def _tell(self, key: StoredKey) -> None:
        if self.on_gone is not None:
            self.on_gone(key)

    def _take_out(self, key: StoredKey) -> bool:
        entry = self._entries[key.kind].pop(key.name, None)
        if entry is None:
            return False
        counts = self.counts[key.kind]
        counts.entries -= 1
        counts.bytes -= entry.size_bytes
        return True
