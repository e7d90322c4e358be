"""The cache service as a whole: what is made of its settings, and what starts and ends with it."""

import asyncio
import secrets
from collections.abc import Coroutine
from typing import TYPE_CHECKING

import grpc

from services.cache.admission import Admission, RequestRecord
from services.cache.breaker import Breaker
from services.cache.core import CacheCore
from services.cache.entries import Entries
from services.cache.leases import LeaseTable
from services.cache.lifetimes import Lifetimes
from services.cache.memory import MemoryTier
from services.cache.metrics import measure
from services.cache.replication import Replication
from services.cache.requests import Limits
from services.cache.servicer import CacheServicer
from services.cache.settings import CacheSettings, keys_of
from services.cache.sums import Sums
from services.cache.writeback import WriteQueue
from voicemesh.cache.v1 import cache_pb2_grpc
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.server import Hosted, Runtime

if TYPE_CHECKING:
    from services.cache.redis_leases import RedisLeases
    from services.cache.redis_tier import RedisTier
    from services.cache.similar_hosted import Similar


class CacheService(Hosted):
    """Hosts a `CacheCore`, and the Redis tier where there is one."""

    def __init__(
        self,
        core: CacheCore,
        redis: "RedisTier | None",
        shared: "RedisLeases | None",
        runtime: Runtime,
        limits: Limits,
        similar: "Similar | None" = None,
    ) -> None:
        self.core = core
        self._redis = redis
        self.shared = shared
        self._runtime = runtime
        self._similar = similar
        self._servicer = CacheServicer(
            core, runtime, limits, similar.prompts if similar is not None else None
        )
        self._tasks: set[asyncio.Task[object]] = set()

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer to `server`."""
        cache_pb2_grpc.add_CacheServiceServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Serve at once: with a Redis that does not answer yet, from memory."""
        if self._redis is not None:
            self._redis.on_lost = self._lost
            self._redis.on_back = self._restore
            self._redis.on_removed = self.core.invalidation.forget
            self._redis.on_gap = self.core.invalidation.forget_copies
            self._redis.start()
        if self.shared is not None:
            self.shared.start()
        self._spawn(self.core.maintain(), "cache-maintain")
        if self._similar is not None:
            for work in self._similar.work():
                self._spawn(work, "cache-similar")
        await self._runtime.readiness.set(
            True, "memory" if self._redis is None else f"memory, {self._redis.address} behind it"
        )

    async def close(self) -> None:
        """Write what waits for Redis, for a second at most; end every task."""
        if self.shared is not None:
            await self.shared.close()
        if self._redis is not None:
            await self._redis.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._similar is not None:
            await self._similar.client.close()

    def _lost(self) -> None:
        self.core.histories.lost()
        if self.shared is not None:
            self.shared.redis_lost()

    def _restore(self) -> None:
        if self.shared is not None:
            self.shared.redis_back()
        self._spawn(self.core.histories.restore(), "cache-restore")

    def _spawn(self, work: Coroutine[object, object, object], name: str) -> None:
        task: asyncio.Task[object] = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def build(settings: CacheSettings, runtime: Runtime) -> CacheService:
    """Make the service.

    Raises:
        SettingsError: The address of Redis cannot be used.

    """
    clock = runtime.clock
    lifetimes = Lifetimes(
        audio_ms=settings.cache_audio_ttl_s * 1000,
        reply_ms=settings.cache_reply_ttl_s * 1000,
        history_ms=settings.cache_history_ttl_s * 1000,
        history_copy_ms=min(settings.cache_history_copy_ttl_s, settings.cache_history_ttl_s) * 1000,
    )
    redis = _redis(settings, runtime, lifetimes.longest_ms) if settings.redis_url is not None else None
    leases = LeaseTable(
        clock,
        ttl_ms=settings.cache_lease_ttl_ms,
        max_value_bytes=settings.cache_max_value_bytes,
        budget_bytes=settings.cache_fill_bytes,
    )
    # What leases share through Redis while it is made is not signed: with keys, they share nothing.
    shares = settings.cache_hmac_keys is None
    shared = _shared(settings, runtime, redis, leases) if redis is not None and shares else None
    memory = MemoryTier(clock, settings.cache_memory_bytes)
    core = CacheCore(
        clock=clock,
        memory=memory,
        leases=leases,
        lifetimes=lifetimes,
        durable=redis,
        admission=_admission(settings, clock),
        shared=shared,
    )
    if shared is not None:
        shared.replication.on_copied = core.copied
        shared.replication.on_unstored = core.unstored
    limits = Limits(
        settings.cache_max_value_bytes,
        settings.cache_max_text_chars,
        settings.cache_prompt_match,
        similar=settings.cache_similar,
    )
    similar = _similar(settings, runtime, memory) if settings.cache_similar else None
    measure(runtime.metrics, core, redis, similar.prompts if similar is not None else None)
    return CacheService(core, redis, shared, runtime, limits, similar)


def _similar(settings: CacheSettings, runtime: Runtime, memory: MemoryTier) -> "Similar":
    # Imported here: numpy and httpx2 cost 13 MB and 0.1 s that only those who use them should pay.
    from services.cache.similar_hosted import similar_prompts  # noqa: PLC0415 - see above

    return similar_prompts(settings, runtime.clock, memory)


def _shared(
    settings: CacheSettings, runtime: Runtime, redis: "RedisTier", leases: LeaseTable
) -> "RedisLeases":
    from services.cache.redis_leases import RedisLeases  # noqa: PLC0415 - as for RedisTier

    replica = secrets.token_hex(8)
    replication = Replication(
        leases, runtime.clock, replica=replica, heartbeat_ms=settings.cache_lease_heartbeat_ms
    )
    return RedisLeases(redis, replication, runtime.clock, replica=replica)


def _admission(settings: CacheSettings, clock: Clock) -> Admission:
    memory_requests, redis_requests = settings.cache_admit_memory_requests, settings.cache_admit_requests
    if settings.redis_url is None:
        redis_requests = 1  # nobody asks
    if max(memory_requests, redis_requests) == 1:
        return Admission()
    record = RequestRecord(
        clock, window_ms=settings.cache_admit_window_s * 1000, keys=settings.cache_admit_keys
    )
    return Admission(record, memory_requests=memory_requests, redis_requests=redis_requests)


def _redis(settings: CacheSettings, runtime: Runtime, lifetime_ms: int) -> "RedisTier":
    # Imported here: redis-py costs 180 ms of start-up and 12 MB that only those who use it should pay.
    from services.cache.redis_tier import RedisTier  # noqa: PLC0415 - see above

    assert settings.redis_url is not None
    try:
        return RedisTier(
            settings.redis_url.get_secret_value(),
            clock=runtime.clock,
            breaker=Breaker(
                min_ms=settings.cache_redis_retry_min_ms,
                max_ms=settings.cache_redis_retry_max_ms,
            ),
            timeout_ms=settings.cache_redis_timeout_ms,
            queue=WriteQueue(
                max_entries=settings.cache_redis_queue_entries,
                max_bytes=settings.cache_redis_queue_bytes,
            ),
            lifetime_ms=lifetime_ms,
            entries=Entries(settings.max_entry_bytes, Sums(keys_of(settings.cache_hmac_keys))),
        )
    except ValueError as error:
        raise SettingsError(f"VOICEMESH_REDIS_URL: {error}") from None
