"""How the pools are doing: the one place where their figures come together."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

OnBatches = Callable[[str, Mapping[int, int]], None]
"""Hears of batches that a replica ran: the declared voice, and how many of each size."""


def unheard(voice: str, sizes: Mapping[int, int]) -> None:
    """Hear of batches that nobody counts."""


@dataclass(frozen=True, slots=True)
class ReplicaStats:
    """How one replica is doing now."""

    name: str
    pid: int
    """Of its process; 0 while there is none."""
    state: str
    """Name of its `MemberState`."""
    active_leases: int
    slots: int
    """Chunks that it speaks at once; 0 until its engine is loaded."""
    resident_bytes: int
    device_bytes: int
    heartbeat_age_ms: int
    """Since its last sign of life; 0 where none came yet."""
    steps_done: int
    steps_total: int
    """Steps of its start; 0 where they are not known."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What else its heartbeat told; see `services.tts.wire.Heartbeat`."""


@dataclass(slots=True)
class Changes:
    """What became of changes of the declared voices since the start."""

    accepted: int = 0
    refused: int = 0
    refusal: str = ""
    """Why the last one was refused; "" once one was accepted."""


@dataclass(slots=True)
class PoolStats:
    """How one declared voice is doing; counters since the start."""

    voice: str
    ready_replicas: int = 0
    starting_replicas: int = 0
    active_leases: int = 0
    queued_chunks: int = 0
    completed_chunks: int = 0
    cancelled_chunks: int = 0
    failed_chunks: int = 0
    replaced_replicas: int = 0
    """Those that died, stalled or failed."""
    losses: Counter[str] = field(default_factory=Counter)
    """The same by the value of their `services.tts.core.members.Cause`."""
    audio_us: int = 0
    synthesis_us: int = 0
    wasted_us: int = 0
    worker_pids: tuple[int, ...] = ()
    stalled_replicas: int = 0
    """Those of the replaced that said nothing where something was due, or gave no sign of life."""
    recycled_replicas: int = 0
    """Those that were above a mark of memory and had their successor first."""
    slots: int = 0
    """Chunks that its ready replicas speak at once."""
    wait_us: int = 0
    """How long a new chunk would wait for a lease, as expected; 0 while one is free."""
    declared_replicas: int = 0
    state: str = ""
    """Name of its `services.tts.core.voices.VoiceState`."""
    fault: str = ""
    """Why it could not be loaded as it was declared last."""
    replicas: tuple[ReplicaStats, ...] = ()
    breaker: str = "CLOSED"
    """Name of its `voicemesh.runtime.breaker.BreakerState`."""
    breaker_opened: int = 0
    """How often its engine was left alone."""
    fallback_chunks: int = 0
    """Chunks that asked for it and that another voice began to speak."""
    hedged_chunks: int = 0
    """First chunks that were asked for twice."""
    hedges_won: int = 0
    """Those of them that the second one spoke."""
    hedge_us: int = 0
    """Engine time of those that lost."""

    @property
    def rtf(self) -> float:
        """Engine time for each second of audio; 0 where none was made."""
        return self.synthesis_us / self.audio_us if self.audio_us else 0.0

    @property
    def occupancy(self) -> float:
        """Share of the slots that are leased now."""
        return self.active_leases / self.slots if self.slots else 0.0

    def add(self, past: "PoolStats") -> None:
        """Add the counters of a pool that this one took the place of."""
        for name in _COUNTERS:
            setattr(self, name, getattr(self, name) + getattr(past, name))
        self.losses = self.losses + past.losses


_COUNTERS = (
    "completed_chunks",
    "cancelled_chunks",
    "failed_chunks",
    "replaced_replicas",
    "audio_us",
    "synthesis_us",
    "wasted_us",
    "stalled_replicas",
    "recycled_replicas",
    "breaker_opened",
    "fallback_chunks",
    "hedged_chunks",
    "hedges_won",
    "hedge_us",
)
