"""What the services say of themselves: asked only while somebody looks, and at most once a second."""

import asyncio
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import grpc

from gateway.peers import Peers
from voicemesh.cache.v1 import cache_pb2
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.clock import Clock
from voicemesh.tts.v1 import tts_pb2

EVERY_S: Final = 1.0
_TIMEOUT_S: Final = 1.0
LATELY_S: Final = 900.0
VOICE_STATES: Final = {
    value.number: value.name.removeprefix("VOICE_STATE_").lower()
    for value in common_pb2.VoiceState.DESCRIPTOR.values
}
_BREAKERS: Final = {
    value.number: value.name.removeprefix("BREAKER_STATE_").lower()
    for value in tts_pb2.BreakerState.DESCRIPTOR.values
}
_REPLICAS: Final = {
    value.number: value.name.removeprefix("REPLICA_STATE_").lower()
    for value in tts_pb2.ReplicaState.DESCRIPTOR.values
}
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class ServiceStates:
    """What they said. None where a service did not answer."""

    pools: list[dict[str, Any]] | None = None
    cache: dict[str, Any] | None = None
    lost_lately: dict[str, int] = field(default_factory=dict)
    """Replicas that were replaced in the last minutes while somebody looked, by voice."""


class Services:
    """Asks the TTS service for its pools and the cache for its counts.

    Args:
        peers: Where they are.
        clock: Says how old an answer is.

    """

    def __init__(self, peers: Peers, clock: Clock) -> None:
        self._peers = peers
        self._clock = clock
        self._asking: asyncio.Task[ServiceStates] | None = None
        self._asked_ns = 0
        self._replaced: dict[str, deque[tuple[int, int]]] = {}

    async def states(self) -> ServiceStates:
        """Return what they say, or said within the last second; who comes meanwhile waits for the same."""
        now_ns = self._clock.now_ns()
        if self._asking is None or (self._asking.done() and now_ns - self._asked_ns >= EVERY_S * 1e9):
            self._asked_ns = now_ns
            self._asking = asyncio.get_running_loop().create_task(self._ask(), name="ask services")
        return await asyncio.shield(self._asking)

    async def close(self) -> None:
        """End a question that is under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> ServiceStates:
        pools, cache = await asyncio.gather(
            _tried(self._peers.tts.GetPoolStats(tts_pb2.GetPoolStatsRequest(), timeout=_TIMEOUT_S)),
            _tried(self._peers.cache.GetStats(cache_pb2.GetStatsRequest(), timeout=_TIMEOUT_S)),
        )
        if pools is not None:
            self._note_replaced(pools)
        return ServiceStates(
            None if pools is None else [_pool(pool) for pool in pools.pools],
            None if cache is None else _cache(cache),
            {voice: counts[-1][1] - counts[0][1] for voice, counts in self._replaced.items()},
        )

    def _note_replaced(self, stats: tts_pb2.GetPoolStatsResponse) -> None:
        now_ns = self._clock.now_ns()
        counted: dict[str, int] = {}
        for pool in stats.pools:  # one for each model, while a voice changes
            counted[pool.voice] = counted.get(pool.voice, 0) + pool.replaced_replicas
        self._replaced = {voice: self._replaced.get(voice, deque(maxlen=1_000)) for voice in counted}
        for voice, count in counted.items():
            counts = self._replaced[voice]
            if counts and count < counts[-1][1]:
                counts.clear()  # another process answers
            counts.append((now_ns, count))
            while counts[0][0] < now_ns - LATELY_S * 1e9:
                counts.popleft()


async def _tried(call: Awaitable[Answer]) -> Answer | None:
    try:
        return await call
    except grpc.aio.AioRpcError:
        return None  # its health says that it is away; a page that shows what is left is of more use


def _pool(pool: tts_pb2.PoolStats) -> dict[str, Any]:
    return {
        "voice": pool.voice,
        "state": VOICE_STATES.get(pool.state, ""),
        "fault": pool.fault,
        "declared": pool.declared_replicas,
        "ready": pool.ready_replicas,
        "starting": pool.starting_replicas,
        "leases": pool.active_leases,
        "slots": pool.slots,
        "queued": pool.queued_chunks,
        "occupancy": round(pool.occupancy, 3),
        "rtf": round(pool.rtf, 4),
        "completed": pool.completed_chunks,
        "cancelled": pool.cancelled_chunks,
        "failed": pool.failed_chunks,
        "replaced": pool.replaced_replicas,
        "audio_s": pool.audio_us / 1e6,
        "engine_s": pool.synthesis_us / 1e6,
        "wasted_s": pool.wasted_us / 1e6,
        "breaker": _BREAKERS.get(pool.breaker, "closed").replace("unspecified", "closed"),
        "replicas": [
            {
                "name": replica.name,
                "state": _REPLICAS.get(replica.state, ""),
                "leases": replica.active_leases,
                "slots": replica.slots,
                "resident_bytes": replica.resident_bytes,
                "device_bytes": replica.device_bytes,
            }
            for replica in pool.replicas
        ],
    }


def _cache(stats: cache_pb2.GetStatsResponse) -> dict[str, Any]:
    redis = "off"
    if stats.redis_configured:
        redis = "serving" if stats.redis_available else "away"
    return {
        "memory_bytes": stats.memory_bytes,
        "memory_limit_bytes": stats.memory_limit_bytes,
        "leases": stats.active_leases,
        "redis": redis,
        "redis_errors": stats.redis_errors,
        "kinds": [
            {
                "kind": kind.kind,
                "entries": kind.entries,
                "bytes": kind.bytes,
                "memory_hits": kind.memory_hits,
                "redis_hits": kind.redis_hits,
                "misses": kind.misses,
                "evictions": kind.evictions,
            }
            for kind in stats.kinds
        ],
    }
