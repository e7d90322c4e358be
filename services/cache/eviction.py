"""Which entry makes room. An order knows the names and sizes of a budget's entries, nothing else.

S3-FIFO, counted in bytes (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023):

    new ──> probation ── asked for again ──> kept ──┬─ asked for meanwhile: to the end again
            1/10 of      │                          └─ else out
            the bytes    └─ not: out, and its name is remembered
    new, and its name is remembered ──> kept

What is asked for once goes through the probation alone and pushes out what came like it: a thousand
phrases that nobody asks for again cost what is kept nothing. Why this one, and why not for histories:
docs/adr/0030-a-scan-passes-through.md.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol

_PROBATION_SHARE: Final = 10
_MOST_USES: Final = 3
REMEMBERED_EVERY_BYTES: Final = 2048
"""At most one name is remembered for so many bytes of the budget. A name takes 150 bytes, beside the
budget: 7% of it where entries are as small as replies, next to nothing where they are audio."""


class Order(Protocol):
    """The order in which the entries of one budget make room."""

    def add(self, name: str, size_bytes: int) -> None:
        """Note a new entry, or that an entry was replaced by one of this size, which is a use of it."""
        ...

    def use(self, name: str) -> None:
        """Note that an entry was asked for."""
        ...

    def remove(self, name: str) -> None:
        """Note that an entry is gone for other reasons than room. Does nothing if it is not known."""
        ...

    def evict(self) -> str:
        """Choose the entry that makes room, and forget it; there must be one."""
        ...


class LeastRecent:
    """What was not used for the longest time makes room."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._names)

    def add(self, name: str, size_bytes: int) -> None:
        """Note an entry, see `Order`; the size does not matter."""
        del size_bytes
        self._names[name] = None
        self._names.move_to_end(name)

    def use(self, name: str) -> None:
        """Note that an entry was asked for."""
        if name in self._names:
            self._names.move_to_end(name)

    def remove(self, name: str) -> None:
        """Note that an entry is gone."""
        self._names.pop(name, None)

    def evict(self) -> str:
        """Choose the entry that makes room, and forget it."""
        name, _ = self._names.popitem(last=False)
        return name


@dataclass(slots=True)
class _Place:
    size_bytes: int
    uses: int = 0
    kept: bool = False


class S3Fifo:
    """What is asked for again stays; what is asked for once passes through.

    Args:
        budget_bytes: What all entries together may take; keeping to it is the owner's business.

    """

    def __init__(self, budget_bytes: int) -> None:
        self._probation_bytes = budget_bytes // _PROBATION_SHARE
        self._budget_bytes = budget_bytes
        self._probation: OrderedDict[str, _Place] = OrderedDict()
        self._kept: OrderedDict[str, _Place] = OrderedDict()
        self._on_probation = 0
        self._most_remembered = budget_bytes // REMEMBERED_EVERY_BYTES
        # By hash: two names of the same one are a wrong guess at worst.
        self._remembered: OrderedDict[int, int] = OrderedDict()
        self._remembered_bytes = 0

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._probation) + len(self._kept)

    @property
    def remembered(self) -> int:
        """Number of names that are remembered of entries that are gone."""
        return len(self._remembered)

    def add(self, name: str, size_bytes: int) -> None:
        """Note a new entry, or that an entry was replaced by one of this size, which is a use of it."""
        place = self._find(name)
        if place is not None:
            if not place.kept:
                self._on_probation += size_bytes - place.size_bytes
            place.size_bytes = size_bytes
            place.uses = min(place.uses + 1, _MOST_USES)
        elif self._forget(hash(name)):
            self._kept[name] = _Place(size_bytes, kept=True)
        else:
            self._probation[name] = _Place(size_bytes)
            self._on_probation += size_bytes

    def use(self, name: str) -> None:
        """Note that an entry was asked for."""
        place = self._find(name)
        if place is not None and place.uses < _MOST_USES:
            place.uses += 1

    def remove(self, name: str) -> None:
        """Note that an entry is gone for other reasons than room."""
        place = self._probation.pop(name, None)
        if place is not None:
            self._on_probation -= place.size_bytes
        else:
            self._kept.pop(name, None)

    def evict(self) -> str:
        """Choose the entry that makes room, and forget it; there must be one."""
        while True:
            if self._probation and (self._on_probation > self._probation_bytes or not self._kept):
                name, place = self._probation.popitem(last=False)
                self._on_probation -= place.size_bytes
                if not place.uses:
                    self._remember(hash(name), place.size_bytes)
                    return name
                place.kept, place.uses = True, 0
            else:
                name, place = self._kept.popitem(last=False)
                if not place.uses:
                    return name
                place.uses -= 1
            self._kept[name] = place

    def _find(self, name: str) -> _Place | None:
        return self._probation.get(name) or self._kept.get(name)

    def _remember(self, digest: int, size_bytes: int) -> None:
        self._forget(digest)
        self._remembered[digest] = size_bytes
        self._remembered_bytes += size_bytes
        while self._remembered_bytes > self._budget_bytes or len(self._remembered) > self._most_remembered:
            self._forget(next(iter(self._remembered)))

    def _forget(self, digest: int) -> bool:
        size_bytes = self._remembered.pop(digest, None)
        if size_bytes is None:
            return False
        self._remembered_bytes -= size_bytes
        return True
