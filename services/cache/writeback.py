"""Writes that wait to be sent to Redis, so that nobody waits for them."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from services.cache.keys import Selector, StoredKey
from services.cache.values import Value, size_bytes, tags_of

BATCH_ENTRIES: Final = 64
BATCH_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Write:
    """One entry to be written."""

    key: StoredKey
    value: Value
    expires_ns: int
    size_bytes: int


class WriteQueue:
    """The newest write of each key, oldest first, within a number and a size.

    add ──> [ oldest … newest ] ── take ──> one pipeline to Redis
               └─ dropped where there is no room
    """

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._writes: OrderedDict[str, Write] = OrderedDict()
        self.bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Number of writes that wait."""
        return len(self._writes)

    def add(self, key: StoredKey, value: Value, expires_ns: int) -> None:
        """Queue a write in place of an older one of the same key; drop the oldest to make room."""
        self._remove(key.name)
        write = Write(key, value, expires_ns, size_bytes(value))
        self._writes[key.name] = write
        self.bytes += write.size_bytes
        self._make_room()

    def take(self) -> list[Write]:
        """Remove and return the oldest writes: one batch, at least one if any wait."""
        batch: list[Write] = []
        size = 0
        while self._writes and len(batch) < BATCH_ENTRIES:
            oldest = next(iter(self._writes.values()))
            if batch and size + oldest.size_bytes > BATCH_BYTES:
                break
            self._remove(oldest.key.name)
            batch.append(oldest)
            size += oldest.size_bytes
        return batch

    def give_back(self, batch: list[Write]) -> None:
        """Put a batch that could not be written back to the front, but for what is newer by now."""
        for write in reversed(batch):
            if write.key.name not in self._writes:
                self._writes[write.key.name] = write
                self._writes.move_to_end(write.key.name, last=False)
                self.bytes += write.size_bytes
        self._make_room()

    def discard(self, selector: Selector) -> int:
        """Remove the writes that match; return how many."""
        matching = [
            name for name, write in self._writes.items() if selector.matches(write.key, tags_of(write.value))
        ]
        for name in matching:
            self._remove(name)
        return len(matching)

    def _make_room(self) -> None:
        while len(self._writes) > self._max_entries or self.bytes > self._max_bytes:
            self._remove(next(iter(self._writes)))
            self.dropped += 1

    def _remove(self, name: str) -> None:
        write = self._writes.pop(name, None)
        if write is not None:
            self.bytes -= write.size_bytes
