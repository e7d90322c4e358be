"""What the TTS service measures: its chunks as they go, and its pools when somebody looks.

Pools show the figures of GetPoolStats: both read `Speech.stats`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from opentelemetry.trace import Span

from services.tts import instruments
from services.tts.core.chunk import ChunkObserver, Observe
from services.tts.core.figures import PoolStats
from services.tts.core.legs import LeaseObserver
from services.tts.core.members import Cause
from services.tts.core.model import ChunkOrder, FailedEvent, FinishedEvent, Start
from services.tts.core.service import Speech
from services.tts.core.speaker import Speaker
from services.tts.core.voices import VoiceState
from voicemesh.runtime.breaker import BreakerState
from voicemesh.runtime.breaker_metrics import observe_breakers
from voicemesh.runtime.instruments import Instrument
from voicemesh.runtime.metrics import Metrics, Observed

_FIGURES: Final[Mapping[Instrument, Callable[[PoolStats], float]]] = {
    instruments.DEPTH: lambda stats: stats.queued_chunks,
    instruments.LEASES: lambda stats: stats.active_leases,
    instruments.SLOTS: lambda stats: stats.slots,
    instruments.RECYCLED: lambda stats: stats.recycled_replicas,
    instruments.AUDIO: lambda stats: stats.audio_us / 1e6,
    instruments.ENGINE_TIME: lambda stats: stats.synthesis_us / 1e6,
    instruments.WASTED: lambda stats: stats.wasted_us / 1e6,
    instruments.STAND_INS: lambda stats: stats.fallback_chunks,
    instruments.HEDGES: lambda stats: stats.hedged_chunks,
    instruments.HEDGES_WON: lambda stats: stats.hedges_won,
}
"""What adds up over the pools of one voice: while its model changes it has two."""


class TtsMetrics:
    """The instruments of the service.

    Args:
        metrics: Of this process.
        speech: Has the pools.

    """

    def __init__(self, metrics: Metrics, speech: Speech) -> None:
        self._on = metrics.on
        self._speech = speech
        self._queue_time = metrics.histogram(instruments.QUEUE_TIME)
        self._first_frame = metrics.histogram(instruments.FIRST_FRAME)
        self._batch_size = metrics.histogram(instruments.BATCH_SIZE)
        self._factor = metrics.histogram(instruments.REAL_TIME_FACTOR)
        if not self._on:
            return
        speech.on_batches = self._batches
        for instrument, figure in _FIGURES.items():
            metrics.observe(instrument, self._reading(figure))
        metrics.observe(instruments.WAIT, self._wait)
        metrics.observe(instruments.OCCUPANCY, self._occupancy)
        metrics.observe(instruments.REPLICAS, self._replicas)
        metrics.observe(instruments.DECLARED, self._declared)
        metrics.observe(instruments.REPLICA_MEMORY, self._memory)
        metrics.observe(instruments.LOSSES, self._losses)
        metrics.observe(instruments.CHUNKS, self._chunks)
        observe_breakers(metrics, self._breakers)

    # ---- chunks -------------------------------------------------------------------------------

    def watch(self, observe: Observe, span: Span) -> Observe:
        """Return what makes watchers of chunks in the place of `observe`: they measure, and tell its own.

        `span` is that of the call, which an exemplar leads to.
        """
        if not self._on:
            return observe
        return lambda order, speaker: _MeteredChunk(self, observe(order, speaker), order, speaker, span)

    def leased(self, queue_us: int, voice: str, span: Span) -> None:
        """Take the first lease of a chunk."""
        self._queue_time.record(queue_us / 1e6, {"voice": voice}, span)

    def first_frame(self, synthesis_us: int, voice: str, span: Span) -> None:
        """Take the first frame of a chunk."""
        self._first_frame.record(synthesis_us / 1e6, {"voice": voice}, span)

    def spoken(self, engine_us: int, audio_ms: float, voice: str, span: Span) -> None:
        """Take the end of a chunk all of whose audio was heard."""
        self._factor.record(engine_us / (audio_ms * 1000), {"voice": voice}, span)

    def _batches(self, voice: str, sizes: Mapping[int, int]) -> None:
        labels = {"voice": voice}
        for size, count in sizes.items():
            for _ in range(count):
                self._batch_size.record(size, labels)

    # ---- pools --------------------------------------------------------------------------------

    def _reading(self, figure: Callable[[PoolStats], float]) -> Callable[[], Observed]:
        def read() -> Observed:
            sums: dict[str, float] = {}
            for stats in self._speech.stats():
                sums[stats.voice] = sums.get(stats.voice, 0) + figure(stats)
            return [(value, {"voice": voice}) for voice, value in sums.items()]

        return read

    def _wait(self) -> Observed:
        # Of two pools of one voice, that which takes its streams comes first.
        waits: dict[str, float] = {}
        for stats in self._speech.stats():
            waits.setdefault(stats.voice, stats.wait_us / 1e6)
        return [(wait_s, {"voice": voice}) for voice, wait_s in waits.items()]

    def _occupancy(self) -> Observed:
        held: Counter[str] = Counter()
        slots: Counter[str] = Counter()
        for stats in self._speech.stats():
            held[stats.voice] += stats.active_leases
            slots[stats.voice] += stats.slots
        return [
            # Replicas that take no more work have leases and count no slots.
            (min(1.0, held[voice] / max(slots[voice], 1)), {"voice": voice})
            for voice in slots
        ]

    def _replicas(self) -> Observed:
        counts: dict[tuple[str, str], int] = {}
        for stats in self._speech.stats():
            for state in instruments.STATES:
                counts.setdefault((stats.voice, state), 0)
            for replica in stats.replicas:
                counts[stats.voice, replica.state.lower()] += 1
        return [(count, {"voice": voice, "state": state}) for (voice, state), count in counts.items()]

    def _declared(self) -> Observed:
        declared: dict[str, int] = {}
        for stats in self._speech.stats():
            if stats.state != VoiceState.DRAINING.name:
                declared.setdefault(stats.voice, stats.declared_replicas)
        return [(replicas, {"voice": voice}) for voice, replicas in declared.items()]

    def _memory(self) -> Observed:
        shown: list[tuple[float, Mapping[str, str]]] = []
        for replica in (replica for stats in self._speech.stats() for replica in stats.replicas):
            shown.append((replica.resident_bytes, {"replica": replica.name, "memory": "resident"}))
            shown.append((replica.device_bytes, {"replica": replica.name, "memory": "device"}))
        return shown

    def _losses(self) -> Observed:
        counts: dict[tuple[str, str], int] = {}
        for stats in self._speech.stats():
            for cause in Cause:
                key = (stats.voice, cause.value)
                counts[key] = counts.get(key, 0) + stats.losses[cause.value]
        return [(count, {"voice": voice, "cause": cause}) for (voice, cause), count in counts.items()]

    def _chunks(self) -> Observed:
        counts: Counter[tuple[str, str]] = Counter()
        for stats in self._speech.stats():
            counts[stats.voice, "completed"] += stats.completed_chunks
            counts[stats.voice, "cancelled"] += stats.cancelled_chunks
            counts[stats.voice, "failed"] += stats.failed_chunks
        return [(count, {"voice": voice, "outcome": outcome}) for (voice, outcome), count in counts.items()]

    def _breakers(self) -> list[tuple[str, BreakerState]]:
        # Of two pools of one voice, that which takes its streams comes first.
        states: dict[str, BreakerState] = {}
        for stats in self._speech.stats():
            states.setdefault(stats.voice, BreakerState[stats.breaker])
        return list(states.items())


class _MeteredChunk:
    """Watches one chunk."""

    def __init__(
        self, metrics: TtsMetrics, inner: ChunkObserver, order: ChunkOrder, speaker: Speaker, span: Span
    ) -> None:
        self._metrics = metrics
        self._inner = inner
        self._voice = speaker.pool.spec.name
        self._whole = not order.start_offset_samples
        self._span = span
        self._leased = False
        self.traced = inner.traced

    def leased(self, replica: str, queue_us: int) -> None:
        """See `ChunkObserver`."""
        if not self._leased:
            self._leased = True
            self._metrics.leased(queue_us, self._voice, self._span)
        self._inner.leased(replica, queue_us)

    def first_frame(self, start: Start) -> None:
        """See `ChunkObserver`."""
        self._voice = start.voice.partition("/")[0]  # from now on it is its own
        self._metrics.first_frame(start.synthesis_us, self._voice, self._span)
        self._inner.first_frame(start)

    def lost(self, replica: str, reason: str) -> None:
        """See `ChunkObserver`."""
        self._inner.lost(replica, reason)

    def fell_back(self, voice: str, reason: str) -> None:
        """See `ChunkObserver`."""
        self._inner.fell_back(voice, reason)

    def hedged(self, replica: str) -> None:
        """See `ChunkObserver`."""
        self._inner.hedged(replica)

    def watch(self, speaker: Speaker, replica: str) -> LeaseObserver:
        """See `ChunkObserver`."""
        return self._inner.watch(speaker, replica)

    def ended(self, event: FinishedEvent | FailedEvent, audio_ms: float) -> None:
        """See `ChunkObserver`."""
        complete = isinstance(event, FinishedEvent) and not event.cancelled
        # What resumes behind its first sample made more than was delivered.
        if complete and self._whole and audio_ms:
            self._metrics.spoken(event.engine_us, audio_ms, self._voice, self._span)
        self._inner.ended(event, audio_ms)
