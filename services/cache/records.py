"""A lease in Redis: what a replica asks of its record, what the record answers, and what it tells others.

    record   token of who has the lease, generation, replica, state, the replicas that follow
    audio    what was appended, where another replica follows
    words    its word timings

The record's own time to live is the lease: it is held while more than `KEEP_MS` are left, and
whoever has its token puts it back up.

    |── held: nobody else may have it ──|── up for taking, from the same sample ──| gone
                hold_ms                                KEEP_MS

Every question that changes the record names its token, and is refused where that is another's by
then: a holder that was stopped for a while can spoil nothing when it runs on. All that is appended
has its offset, so that it may be sent twice or arrive twice. The generation says which beginning the
audio has: what is made anew after an invalidation is another one.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

from services.cache.durable import DurableEntry
from services.cache.values import AudioFormat, AudioValue, WordTiming

KEEP_MS: Final = 10_000
"""How long a record outlives its lease."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that was appended, and where it belongs; the format is None where nothing was yet."""

    at: int
    """Bytes in front of `audio`."""
    words_at: int
    """Words in front of `words`."""
    format: AudioFormat | None
    audio: bytes = field(repr=False, default=b"")
    words: tuple[WordTiming, ...] = ()

    @property
    def end(self) -> int:
        """Bytes up to the end of `audio`."""
        return self.at + len(self.audio)

    @property
    def words_end(self) -> int:
        """Words up to the end of `words`."""
        return self.words_at + len(self.words)

    @property
    def value(self) -> AudioValue | None:
        """What was appended; None where nothing was."""
        return None if self.format is None else AudioValue(self.format, self.audio, self.words)


@dataclass(frozen=True, slots=True)
class Look:
    """Take the lease if it can be had; else follow it."""

    name: str
    token: str
    """The caller's from now on, if it gets the lease."""
    generation: str = ""
    """What the caller has the beginning of; empty where it has nothing."""
    have: int = 0
    have_words: int = 0
    fresh: bool = False
    """Forget what is there: it was invalidated."""
    traceparent: str = ""
    """Where its caller is in its trace, for those who follow."""


@dataclass(frozen=True, slots=True)
class Push:
    """Keep the lease, and add a piece, which may be empty."""

    name: str
    token: str
    piece: Piece


@dataclass(frozen=True, slots=True)
class Store:
    """Write the finished entry, and then remove the record."""

    name: str
    token: str
    value: AudioValue
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class Yield:
    """Give the lease up. Where nobody follows, the record goes."""

    name: str
    token: str
    length: int
    """Bytes that followers must have first; refused with `Wanted` where they have not."""
    stay: bool
    """Follow whoever takes it."""


@dataclass(frozen=True, slots=True)
class Condemn:
    """Let nobody go on with it: it was invalidated."""

    name: str


Question = Look | Push | Store | Yield | Condemn


@dataclass(frozen=True, slots=True)
class Held:
    """Another replica has the lease; the caller follows it now."""

    generation: str
    piece: Piece
    left_ms: int
    maker: str = ""
    """The `traceparent` of who makes it; "" where that is not known."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The caller has the lease now. The record ends where `piece` ends."""

    generation: str
    piece: Piece
    wanted: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """The caller still has the lease; how much the record has, and whether other replicas follow."""

    length: int
    words: int
    wanted: bool


@dataclass(frozen=True, slots=True)
class Done:
    """It was done."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Not done: another replica follows, and lacks something."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Not done: another has the lease."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Not done: there is no such record."""


@dataclass(frozen=True, slots=True)
class Condemned:
    """Not done: it was invalidated, or is another generation."""


@dataclass(frozen=True, slots=True)
class Failed:
    """There was no answer; with `refused`, Redis answered that it will not."""

    refused: bool = False


Answer = DurableEntry | Held | Taken | Kept | Done | Wanted | Stale | Gone | Condemned | Failed


@dataclass(frozen=True, slots=True)
class Mail:
    """What a record tells the replicas that have a part in it."""

    event: Literal["wanted", "piece", "stored", "yielded", "taken", "condemned"]
    name: str
    generation: str
    piece: Piece | None = None
    """Of a `piece` what was appended; of `stored` an empty one at the end."""
    tags: tuple[str, ...] = ()
    """Of what was `stored`."""
