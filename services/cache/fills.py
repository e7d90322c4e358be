"""What leases are made of: fills, who has a part in them, and what each is told."""

import asyncio
from dataclasses import dataclass, field

from services.cache.keys import StoredKey
from services.cache.values import AudioFormat, AudioValue, WordTiming


@dataclass(frozen=True, slots=True)
class Granted:
    """The caller holds the lease and goes on behind `offset_samples`."""

    lease_id: str
    ttl_ms: int
    offset_samples: int


@dataclass(frozen=True, slots=True)
class Following:
    """Another holds the lease and has appended `so_far`."""

    lease_id: str
    so_far: AudioValue
    maker: str = ""
    """The `traceparent` of who has the lease; "" where that is not known."""


@dataclass(frozen=True, slots=True)
class Part:
    """What was appended since the last event."""

    value: AudioValue


@dataclass(frozen=True, slots=True)
class Sealed:
    """The holder completed the entry."""


FollowEvent = Part | Sealed | Granted


@dataclass(eq=False, slots=True)
class Fill:
    """What is being made under one key: its buffer, and who has a part in it here."""

    key: StoredKey
    format: AudioFormat
    holder: "Lease | None" = None
    followers: list["Lease"] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    words: list[WordTiming] = field(default_factory=list)
    contenders: list["Lease"] = field(default_factory=list)
    """Those that were granted the lease before the holder, and have not begun either: who appends first
    holds it."""
    begun: bool = False
    """True once something was appended since the lease was last granted."""
    granted_ns: int = 0
    """When the lease was last granted; at another replica, when this one learned of it."""
    begin_ms: int = 0
    """Milliseconds in which the holder is to begin, for the first time that it is contended."""
    contended: int = 0
    """How often another was granted the lease too, because nobody had begun."""
    deadline_ns: int = 0
    sealed: bool = False
    shared: bool = True
    """False once it came apart: nothing is kept any more, and nobody else may join."""
    appended: bool = False
    maker: str = ""
    """The `traceparent` of who makes it at another replica."""
    remote: bool = False
    """True while another replica has the lease: there is no holder here."""
    replicated: bool = False
    """True while other replicas may know of it; once sealed it is kept until `settle`."""
    discarded: bool = False
    """True once it was invalidated."""


@dataclass(eq=False, slots=True)
class Lease:
    """One caller's part in a fill, as holder or as follower; made by `LeaseTable.acquire`."""

    id: str
    fill: Fill
    due_ns: int = 0
    """When its caller needs the first sample."""
    traceparent: str = ""
    """See `Need`."""
    passed: int = 0
    """How often it was granted the lease and did not read that."""
    ended: bool = False
    told: bool = False
    """True once `granted` was taken by the caller's stream."""
    offset_bytes: int = 0
    offset_words: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def holds(self) -> bool:
        """True while this is the one that computes the value."""
        return self.fill.holder is self

    @property
    def may_append(self) -> bool:
        """True while it holds the lease, or contends for it."""
        return self.holds or self in self.fill.contenders
