"""What the cache answers, as plain data."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from services.cache.admission import AdmissionCounts
from services.cache.fills import Following, Granted, Lease
from services.cache.memory import KindCounts
from services.cache.removals import Removals
from services.cache.values import AudioValue, Kind, Value

Tier = Literal["memory", "redis"]


@dataclass(frozen=True, slots=True)
class Hit:
    """The entry is there."""

    value: Value
    tier: Tier
    version: int = 0
    whole: Callable[[], Awaitable[AudioValue]] | None = None
    """Where `value` is a head: returns the whole entry. Raises `ServiceUnavailableError` where the rest
    was lost."""
    similar: bool = False
    """True where it is the reply to another prompt, which is similar."""


@dataclass(frozen=True, slots=True)
class Miss:
    """The entry is not there; `degraded` where Redis could not be asked."""

    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """It was done; `degraded` where it is kept in memory but is not on its way to Redis.

    `not_admitted` are the tiers that were not given it, because it was not asked for often enough.
    """

    version: int = 0
    degraded: bool = False
    not_admitted: tuple[Tier, ...] = ()
    stale: bool = False
    """True where it was not kept: it was invalidated while it was made."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """The history has another version than was expected; 0 where it is not there."""

    version: int


@dataclass(frozen=True, slots=True)
class Joined:
    """The caller's lease on a missing value, and what to tell the caller first."""

    lease: Lease
    event: Granted | Following


@dataclass(frozen=True, slots=True)
class Removed:
    """How many entries were removed from each tier."""

    memory_entries: int
    redis_entries: int


@dataclass(slots=True)
class SimilarCounts:
    """Of similar prompts: counts since the start, and sizes now."""

    hits: int = 0
    """Replies that were found by similarity."""
    misses: int = 0
    """Prompts whose embedding was made in time, and nothing was similar."""
    guarded: int = 0
    """Prompts that were near enough, and kept apart by their words."""
    failures: int = 0
    """Embeddings that were not to be had, or not in time."""
    dropped: int = 0
    """Stored replies whose prompt has no vector, because it could not be made or too many waited."""
    entries: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the start, and sizes now."""

    kinds: dict[Kind, KindCounts]
    memory_bytes: int
    memory_limit_bytes: int
    redis_configured: bool
    redis_available: bool
    redis_errors: int
    redis_corrupt: int
    redis_dropped: int
    active_leases: int
    removals: Removals
    admission: AdmissionCounts = field(default_factory=AdmissionCounts)
