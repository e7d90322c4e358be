"""What was said on a channel, for readers at their own pace. No I/O.

    entries   … frame frame text frame │ turn_started … frame frame │ <- append
                ^ reader far behind      ^ late, from the beginning   ^ the rest

Every reader has a cursor into one log, so that a slow one costs nobody anything, and a late one can begin
where the turn began. What is too old is let go; a reader that had not come to it learns how much it missed.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

EDGES: Final = frozenset({"turn_started", "turn_completed", "turn_failed"})
"""Events that are kept longer, and through an interrupt: how turns begin and end is always told."""
_MAX_ENTRIES: Final = 8192
_MAX_EDGES: Final = 256


@dataclass(frozen=True, slots=True)
class Entry:
    """One event."""

    number: int
    """Position in all that was ever said."""
    event: str
    message: Any
    audio_at_ms: float
    """Audio of the channel before it."""
    audio_ms: float
    on_read: Callable[[], None] | None
    """Called once when the first reader gets it, or when no reader will."""


class ChannelLog:
    """See the module.

    Args:
        backlog_ms: Audio that is kept.

    """

    def __init__(self, backlog_ms: float) -> None:
        self._backlog_ms = backlog_ms
        self._entries: list[Entry] = []
        self._edges: list[Entry] = []
        self._last_lost_edge = -1
        self._kept_ms = 0.0
        self._unread: list[Entry] = []
        self.end = 0
        """The number that the next entry will have."""
        self.audio_ms = 0.0
        """Audio that was ever said."""
        self.dropped_ms = 0.0
        """Audio before this was dropped by an interrupt: who did not get it has missed nothing."""
        self.present: Entry | None = None
        """How the turn began that runs now."""

    def append(
        self, event: str, message: Any, audio_ms: float = 0.0, on_read: Callable[[], None] | None = None
    ) -> None:
        """Add an event; `audio_ms` is how long a frame lasts."""
        entry = Entry(self.end, event, message, self.audio_ms, audio_ms, on_read)
        self.end += 1
        self.audio_ms += audio_ms
        if on_read is not None:
            self._unread.append(entry)
        if event in EDGES:
            self.present = entry if event == "turn_started" else None
            self._edges.append(entry)
            if len(self._edges) > _MAX_EDGES:
                self._last_lost_edge = self._edges.pop(0).number
        else:
            self._entries.append(entry)
            self._kept_ms += audio_ms
            self._trim()

    def _trim(self) -> None:
        count = max(0, len(self._entries) - _MAX_ENTRIES)
        ms = sum(entry.audio_ms for entry in self._entries[:count])
        while self._kept_ms - ms > self._backlog_ms:
            ms += self._entries[count].audio_ms
            count += 1
        del self._entries[:count]
        self._kept_ms -= ms

    def next(self, cursor: int) -> Entry | None:
        """Return the first entry at or behind `cursor`; None where there is none yet."""
        found = [
            entries[at]
            for entries in (self._entries, self._edges)
            if (at := bisect_left(entries, cursor, key=_number)) < len(entries)
        ]
        return min(found, key=_number, default=None)

    def has_lost_edges(self, cursor: int) -> bool:
        """Return whether a reader at `cursor` would not learn how some turn began or ended."""
        return cursor <= self._last_lost_edge

    def was_read(self, number: int) -> None:
        """Note that a reader got the entry with this number, or will get none up to it."""
        while self._unread and self._unread[0].number <= number:
            entry = self._unread.pop(0)
            assert entry.on_read is not None
            entry.on_read()

    def drop(self) -> None:
        """Drop what was said, but for how turns began and ended."""
        self._entries.clear()
        self._unread.clear()
        self._kept_ms = 0.0
        self.dropped_ms = self.audio_ms


def _number(entry: Entry) -> int:
    return entry.number
