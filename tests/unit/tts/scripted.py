"""A replica that does what a test says, and what hears a pool."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.tts.core.job import JobEnd
from services.tts.core.legs import LeaseObserver
from services.tts.core.model import (
    Capabilities,
    Done,
    FailedEvent,
    FinishedEvent,
    Heartbeat,
    Limits,
    ReplicaListener,
    ReplicaStartError,
    SpeakRequest,
    Start,
    Together,
    Variant,
    VoiceSpec,
    Word,
)
from services.tts.core.speaker import Speaker

RATE_HZ = 1000
CAPABILITIES = Capabilities(
    sample_rate_hz=RATE_HZ,
    slots=1,
    word_timings=True,
    deterministic=True,
    revision="r1",
    variants=(Variant("en-us", "en-US", ("en",)), Variant("de", "de")),
    default_variant="en-us",
    language="en-US",
)
SPEC = VoiceSpec("voice", "scripted", 1, "en-us", {})


class ScriptedReplica:
    """Warms by itself; everything else a test tells it to do."""

    def __init__(self, pid: int, listener: ReplicaListener, capabilities: Capabilities) -> None:
        self.pid = pid
        self.capabilities = capabilities
        self.listener = listener
        self.asked: dict[int, SpeakRequest] = {}
        self.cancelled: list[int] = []
        self.granted: list[tuple[int, int]] = []
        self.killed = False
        self.closed = False
        self.warm_samples = 100
        self.warmed_with: SpeakRequest | None = None
        self.batches = 0
        """That it took so far, of an engine of steps."""
        self.spoke = asyncio.Event()

    def speak(self, request_id: int, request: SpeakRequest) -> None:
        if request.warm_up:
            self.warmed_with = request
            self.listener.done(request_id, Done(self.warm_samples, 1, cancelled=False))
        else:
            self.asked[request_id] = request
            self.spoke.set()

    def cancel(self, request_id: int) -> None:
        self.cancelled.append(request_id)

    def grant(self, request_id: int, samples: int) -> None:
        self.granted.append((request_id, samples))

    def kill(self) -> None:
        self.killed = True

    async def close(self) -> None:
        self.closed = True

    # ---- what a test lets it do

    def beat(self, resident_mb: int = 0, device_mb: int = 0) -> None:
        figures = {"batches": self.batches} if self.batches else {}
        self.listener.heartbeat(Heartbeat(resident_mb * 2**20, device_mb * 2**20, figures))

    def tell(self, **figures: object) -> None:
        """Send a heartbeat with figures of its engine."""
        self.listener.heartbeat(Heartbeat(0, 0, figures))

    def alive(self) -> bool:
        return not self.killed

    @property
    def last_id(self) -> int:
        return max(self.asked)

    @property
    def last(self) -> SpeakRequest:
        return self.asked[self.last_id]

    def make(self, samples: int, *, offset: int | None = None, request_id: int | None = None) -> None:
        """Send one frame of `samples`, behind what was sent."""
        number = self.last_id if request_id is None else request_id
        request = self.asked[number]
        at = request.start_offset_samples if offset is None else offset
        self.asked[number] = request._replace(start_offset_samples=at + samples)
        self.listener.frame(number, at, bytes([at % 256, 0]) * samples)

    def say(self, *words: Word) -> None:
        self.listener.words(self.last_id, list(words))

    def finish(self, *, made: int | None = None, us: int = 1000, request_id: int | None = None) -> None:
        number = self.last_id if request_id is None else request_id
        request = self.asked.pop(number)
        self.listener.done(number, Done(request.start_offset_samples if made is None else made, us, False))

    def acknowledge(self, *, made: int = 0, us: int = 1000) -> None:
        """End what was cancelled last."""
        number = self.cancelled[-1]
        self.asked.pop(number)
        self.listener.done(number, Done(made, us, True))

    def die(self, reason: str = "its process ended") -> None:
        self.listener.lost(reason)


@dataclass
class ScriptedLauncher:
    """Starts `ScriptedReplica`s; what is in `failures` makes starts fail, first in first out."""

    capabilities: Capabilities = CAPABILITIES
    failures: list[ReplicaStartError] = field(default_factory=list)
    replicas: list[ScriptedReplica] = field(default_factory=list)

    async def __call__(self, spec: VoiceSpec, listener: ReplicaListener) -> ScriptedReplica:
        if self.failures:
            raise self.failures.pop(0)
        replica = ScriptedReplica(1000 + len(self.replicas), listener, self.capabilities)
        self.replicas.append(replica)
        return replica


class Changes:
    """Notes that something changed, and waits for what a test wants to see."""

    def __init__(self) -> None:
        self.calls = 0
        self._event = asyncio.Event()

    def __call__(self, *_: object) -> None:
        self.calls += 1
        self._event.set()

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not predicate():
                self._event.clear()
                await self._event.wait()


@dataclass(eq=False)
class LeaseWatcher:
    """What became of one lease."""

    voice: str
    replica: str
    lost: str = ""
    end_of_leg: JobEnd | None = None
    ended: int = 0
    met: list[tuple[Together, list["LeaseWatcher"]]] = field(default_factory=list)

    def together(self, together: Together, others: Sequence[LeaseObserver]) -> None:
        self.met.append((together, [other for other in others if isinstance(other, LeaseWatcher)]))

    def end(self, lost: str = "", end: JobEnd | None = None) -> None:
        self.lost, self.end_of_leg = lost, end
        self.ended += 1


@dataclass
class Watcher:
    """An observer that keeps what it hears."""

    traced = True
    log: list[tuple[str, object]] = field(default_factory=list)
    leases: list["LeaseWatcher"] = field(default_factory=list)

    def leased(self, replica: str, queue_us: int) -> None:
        self.log.append(("leased", (replica, queue_us)))

    def first_frame(self, start: Start) -> None:
        self.log.append(("first_frame", start))

    def lost(self, replica: str, reason: str) -> None:
        self.log.append(("lost", replica))

    def fell_back(self, voice: str, reason: str) -> None:
        self.log.append(("fell_back", voice))

    def hedged(self, replica: str) -> None:
        self.log.append(("hedged", replica))

    def watch(self, speaker: Speaker, replica: str) -> "LeaseWatcher":
        self.leases.append(LeaseWatcher(speaker.name, replica))
        return self.leases[-1]

    def ended(self, event: FinishedEvent | FailedEvent, audio_ms: float) -> None:
        self.log.append(("ended", (event, audio_ms)))


LIMITS = Limits(max_queued_chunks=3, max_pending_chunks=6, buffer_s=1.0, stall_timeout_s=5.0)
