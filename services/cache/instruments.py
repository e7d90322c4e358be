"""What the cache service measures. `docs/metrics.md` says it for people, and is made from this.

The gateway counts lookups as turns see them (`voicemesh.cache.lookups`); here are the service's own reads, of
all its callers.
"""

from typing import Final

from services.cache.values import KINDS
from voicemesh.runtime.instruments import Instrument, Kind

_TIERS: Final = ("memory", "filling", "writing", "vectors")
ENTRIES: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.cache.entries",
    unit="{entry}",
    description="Entries in memory; those that wait to be written to Redis; vectors of similar prompts.",
    labels={"tier": _TIERS, "kind": KINDS},
)
SIZE: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.cache.size",
    unit="By",
    description="Bytes that they take, and those of audio that is being made (filling).",
    labels={"tier": _TIERS, "kind": KINDS},
)
LIMIT: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.cache.size.limit",
    unit="By",
    description="Bytes that entries may take in memory.",
)
LEASES: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.cache.leases",
    unit="{lease}",
    description="Leases that are held; follows are not counted.",
)
READS: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.cache.reads",
    unit="{read}",
    description="Reads of entries, by where they were found.",
    labels={"kind": KINDS, "result": ("memory", "redis", "miss")},
)
EVICTIONS: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.cache.evictions",
    unit="{entry}",
    description="Entries of memory that made room before they expired.",
    labels={"kind": KINDS},
)
TAKEOVERS: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.cache.takeovers",
    unit="{lease}",
    description="Leases with which another went on in the place of their holder.",
)
NOT_ADMITTED: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.cache.not_admitted",
    unit="{entry}",
    description="Audio that a tier was not given, because it was not asked for often enough.",
    labels={"tier": ("memory", "redis")},
)
INVALIDATIONS: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.cache.invalidations",
    unit="{invalidation}",
    description="Invalidations that began.",
)
INVALIDATED: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.cache.invalidated",
    unit="{entry}",
    description="Entries that they removed.",
    labels={"tier": ("memory", "redis")},
)
STALE: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.cache.stale_writes",
    unit="{entry}",
    description="Writes that were refused: invalidated while they were made.",
)
SIMILAR: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.cache.similar",
    unit="{read}",
    description="Prompts without a reply of their own that were compared with others, by what came of it.",
    labels={"result": ("hit", "miss", "failed")},
)
REDIS_DURATION: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.cache.redis.duration",
    unit="s",
    description="Of a round trip to Redis, by its command; also of one that failed.",
    labels={
        "operation": ("GET", "GETRANGE", "SET", "EVAL", "UNLINK", "SCAN", "XADD"),
        "failed": ("true", "false"),
    },
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
REDIS_AVAILABLE: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.cache.redis.available",
    unit="1",
    description="1 while Redis is asked, 0 while it is held off after it failed.",
)
REDIS_ERRORS: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.cache.redis.errors",
    unit="{error}",
    description="Failed operations on Redis, entries that could not be read, writes that were given up.",
    labels={"what": ("operation", "corrupt", "dropped")},
)
BEHIND: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.cache.announcements.behind",
    unit="s",
    description="For how long nothing was heard of what other replicas remove; 0 while all is heard.",
)
GAPS: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.cache.announcements.gaps",
    unit="{gap}",
    description="Times that some were missed for good, and copies given up.",
)
