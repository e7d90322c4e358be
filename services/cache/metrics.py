"""What the cache service measures: what it holds and how it was asked, when somebody looks; Redis, each time.

The gateway counts lookups as turns see them (`voicemesh.cache.lookups`); here are the service's own reads, of
all its callers.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from services.cache import instruments
from services.cache.answers import SimilarCounts
from services.cache.core import CacheCore
from services.cache.memory import KindCounts
from services.cache.values import KINDS
from voicemesh.runtime.breaker import BreakerState
from voicemesh.runtime.breaker_metrics import observe_breakers
from voicemesh.runtime.metrics import Metrics, Observed

if TYPE_CHECKING:
    from services.cache.redis_tier import RedisTier
    from services.cache.similar import SimilarPrompts


def measure(
    metrics: Metrics, core: CacheCore, redis: "RedisTier | None", similar: "SimilarPrompts | None"
) -> None:
    """Have the cache measured: with Redis, and similar prompts, where there are any."""
    if not metrics.on:
        return
    _measure_core(metrics, core)
    if redis is not None:
        _measure_redis(metrics, redis)
    if similar is not None:
        _measure_similar(metrics, similar)


def _measure_core(metrics: Metrics, core: CacheCore) -> None:
    def in_memory(figure: Callable[[KindCounts], int]) -> Observed:
        kinds = core.stats().kinds
        return [(figure(kinds[kind]), {"tier": "memory", "kind": kind}) for kind in KINDS]

    def reads() -> Observed:
        shown: list[tuple[float, Mapping[str, str]]] = []
        for kind, counts in core.stats().kinds.items():
            shown.append((counts.memory_hits, {"kind": kind, "result": "memory"}))
            shown.append((counts.redis_hits, {"kind": kind, "result": "redis"}))
            shown.append((counts.misses, {"kind": kind, "result": "miss"}))
        return shown

    def evictions() -> Observed:
        return [(counts.evictions, {"kind": kind}) for kind, counts in core.stats().kinds.items()]

    def not_admitted() -> Observed:
        counts = core.stats().admission
        return [(counts.memory_refused, {"tier": "memory"}), (counts.redis_refused, {"tier": "redis"})]

    removals, leases = core.removals, core.leases
    metrics.observe(instruments.ENTRIES, lambda: in_memory(lambda counts: counts.entries))
    metrics.observe(instruments.SIZE, lambda: in_memory(lambda counts: counts.bytes))
    metrics.observe(instruments.SIZE, lambda: [(leases.bytes, {"tier": "filling", "kind": "audio"})])
    metrics.observe(instruments.LIMIT, lambda: [(core.stats().memory_limit_bytes, {})])
    metrics.observe(instruments.LEASES, lambda: [(leases.active, {})])
    metrics.observe(instruments.READS, reads)
    metrics.observe(instruments.EVICTIONS, evictions)
    metrics.observe(instruments.TAKEOVERS, lambda: [(leases.takeovers, {})])
    metrics.observe(instruments.NOT_ADMITTED, not_admitted)
    metrics.observe(instruments.INVALIDATIONS, lambda: [(removals.total, {})])
    metrics.observe(instruments.STALE, lambda: [(removals.stale_puts, {})])
    metrics.observe(
        instruments.INVALIDATED,
        lambda: [(removals.memory_entries, {"tier": "memory"}), (removals.redis_entries, {"tier": "redis"})],
    )


def _measure_redis(metrics: Metrics, redis: "RedisTier") -> None:
    duration = metrics.histogram(instruments.REDIS_DURATION)

    def on_trip(operation: str, took_s: float, *, failed: bool) -> None:
        duration.record(took_s, {"operation": operation, "failed": failed})

    def errors() -> Observed:
        return [
            (redis.errors, {"what": "operation"}),
            (redis.corrupt, {"what": "corrupt"}),
            (redis.dropped, {"what": "dropped"}),
        ]

    def breakers() -> list[tuple[str, BreakerState]]:
        # Its owner alone probes it: it is never half open for others.
        return [("redis", BreakerState.CLOSED if redis.available else BreakerState.OPEN)]

    redis.trips.on_trip = on_trip
    metrics.observe(instruments.ENTRIES, lambda: [(len(redis.queue), {"tier": "writing"})])
    metrics.observe(instruments.SIZE, lambda: [(redis.queue.bytes, {"tier": "writing"})])
    metrics.observe(instruments.REDIS_AVAILABLE, lambda: [(int(redis.available), {})])
    metrics.observe(instruments.REDIS_ERRORS, errors)
    metrics.observe(instruments.BEHIND, lambda: [(redis.announcements.behind_s, {})])
    metrics.observe(instruments.GAPS, lambda: [(redis.announcements.gaps, {})])
    observe_breakers(metrics, breakers)


def _measure_similar(metrics: Metrics, similar: "SimilarPrompts") -> None:
    def results() -> Observed:
        counts: SimilarCounts = similar.counts
        return [
            (counts.hits, {"result": "hit"}),
            (counts.misses, {"result": "miss"}),
            (counts.failures, {"result": "failed"}),
        ]

    metrics.observe(instruments.SIMILAR, results)
    metrics.observe(instruments.ENTRIES, lambda: [(similar.counts.entries, {"tier": "vectors"})])
    metrics.observe(instruments.SIZE, lambda: [(similar.counts.bytes, {"tier": "vectors"})])
    observe_breakers(metrics, lambda: [("embeddings", similar.breaker.state)])
