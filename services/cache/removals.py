"""What was invalidated lately, so that nothing that was computed before is stored after it.

    get: miss ─────── the caller computes ─────── put, `age_ms` old
                            │
                       Invalidate        what it was computed from may be what had to go: not stored

A put says how long ago its computation began. The log answers whether anything that matches its entry
has been invalidated since; where that is longer than the log reaches, it takes it that something was.
"""

from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from services.cache.keys import Selector, StoredKey
from voicemesh.runtime.clock import Clock

MOST: Final = 256
"""Invalidations that are remembered."""


@dataclass(slots=True)
class Tally:
    """What one removal, asked for here, told by another replica or both, has taken from memory so far."""

    memory_entries: int = 0


class Removals:
    """The last invalidations of this process, by the time of each."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: deque[tuple[int, Selector]] = deque()
        self._forgotten_ns: int | None = None
        """When the last one was that is not remembered; None where all are."""
        self._tallies: OrderedDict[str, Tally] = OrderedDict()
        self.total = 0
        """Since the start."""
        self.epoch = 0
        """Changes where an invalidation begins, and where it ends: what was read before counts no more."""
        self.memory_entries = 0
        """Entries that they removed from memory."""
        self.redis_entries = 0
        """Entries that they removed from Redis."""
        self.stale_puts = 0
        """Writes that were refused for them."""

    def tally(self, removal_id: str) -> tuple[Tally, bool]:
        """Return what the removal of this name has taken from memory, and whether it was known."""
        known = removal_id in self._tallies
        tally = self._tallies[removal_id] if known else Tally()
        if removal_id and not known:
            self._tallies[removal_id] = tally
            if len(self._tallies) > MOST:
                self._tallies.popitem(last=False)
        return tally, known

    def add(self, selector: Selector, *, again: bool = False) -> None:
        """Note an invalidation, as of now; `again`: one that was noted before, and goes on."""
        self.total += not again
        self.epoch += 1
        if again and self._last and self._last[-1][1] == selector:
            self._last.pop()  # what was begun before is older than now as well
        self._last.append((self._clock.now_ns(), selector))
        if len(self._last) > MOST:
            self._forgotten_ns, _ = self._last.popleft()

    def ended(self, memory_entries: int, redis_entries: int) -> None:
        """Note that an invalidation has ended, and what it removed."""
        self.epoch += 1
        self.memory_entries += memory_entries
        self.redis_entries += redis_entries

    def makes_stale(self, key: StoredKey, tags: Collection[str], began_ns: int) -> bool:
        """Return whether an entry, whose computation began then, may not be stored any more; count it."""
        stale = (self._forgotten_ns is not None and began_ns <= self._forgotten_ns) or any(
            at_ns >= began_ns and selector.matches(key, tags) for at_ns, selector in self._last
        )
        self.stale_puts += stale
        return stale
