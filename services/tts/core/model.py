"""The data that the core takes and gives."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from services.tts.engines.base import Capabilities, Variant
from services.tts.wire import Done, Fault, Heartbeat, Progress, SpeakRequest, Together, Word
from voicemesh.runtime.breaker import BreakerSpec
from voicemesh.runtime.errors import MeshError

__all__ = [
    "AudioFormat",
    "BreakerSpec",
    "Capabilities",
    "ChunkEvent",
    "ChunkOrder",
    "Done",
    "FailedEvent",
    "Fault",
    "FinishedEvent",
    "FrameEvent",
    "Heartbeat",
    "Launcher",
    "Limits",
    "Progress",
    "Replica",
    "ReplicaListener",
    "ReplicaStartError",
    "SpeakRequest",
    "Start",
    "Together",
    "Variant",
    "VoiceInfo",
    "VoiceSpec",
    "Word",
    "WordsEvent",
]


@dataclass(frozen=True, slots=True)
class VoiceSpec:
    """A declared voice."""

    name: str
    """What callers ask for."""
    engine: str
    """Name of its engine."""
    replicas: int
    """Worker processes."""
    language: str
    """Language that speaks by default, as the engine calls it."""
    options: dict[str, object]
    """For the engine."""
    trim_silence: bool = True
    """Whether the engine's own silence around each chunk is replaced by the pause that belongs there."""
    pauses_ms: Mapping[str, float] = field(default_factory=dict)
    """Pauses that differ from those of `services.tts.pauses`, by kind."""
    loudness: float | None = None
    """How loud it is made, in LUFS; None: as it is."""
    gain_db: float = 0.0
    """What is added to that."""
    device: str = "cpu"
    """Where its models live, as the budgets of memory name it."""
    memory_mb: int = 0
    """What one replica takes of its device, in MB (2^20 bytes)."""
    max_resident_mb: int = 0
    """A replica whose process holds more is recycled; 0: none is."""
    max_device_mb: int = 0
    """A replica that holds more of its device is recycled; 0: none is."""
    preload: bool = True
    """False: the service does not wait for it at its start."""
    fallback: tuple[str, ...] = ()
    """Voices that speak where this one cannot, in order, as callers name them."""
    breaker: BreakerSpec = field(default_factory=BreakerSpec)
    """When its engine is left alone."""
    hedge: bool = True
    """Whether a late first chunk is asked for twice."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """What files of its model must be, by name."""
    require_digests: bool = False
    """Whether each of them must be there."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service bounds. Times in the unit of their names, sizes for one chunk or one pool."""

    max_chunk_chars: int = 2000
    max_queued_chunks: int = 256
    """Chunks that wait for a lease, for each declared voice."""
    max_pending_chunks: int = 256
    """Chunks of one stream that were asked for and not answered yet."""
    chunks_ahead: int = 2
    """Chunks of one stream that may be spoken before those in front of them are answered."""
    max_attempts: int = 2
    """Further replicas that a chunk may have after it lost one."""
    stall_timeout_s: float = 5.0
    """A replica that owes audio and says nothing for so long is lost."""
    heartbeat_timeout_s: float = 5.0
    """A replica that gives no sign of life for so long is lost, whether it owes anything or not."""
    warmup_timeout_s: float = 20.0
    """From the start of a replica, or the last progress that it told of, to the end of its first text."""
    starting_replicas: int = 2
    """Replicas that start at the same time."""
    buffer_s: float = 30.0
    """Audio of one chunk that is held for its listener, in seconds."""
    max_lateness_ms: int = 5000
    """A turn or batch whose first audio is expected so long after it is due is refused; 0: none is."""
    batch_concurrency: int = 4
    """Texts of one batch that are spoken at once."""
    hedge_percent: float = 3.0
    """Engine time that may be spent on asking twice, of all engine time; 0 for never."""


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """A wanted form of audio; zero or empty leaves the choice to the voice."""

    encoding: str = ""
    """Name of an `AudioEncoding` without its prefix."""
    sample_rate_hz: int = 0
    channels: int = 0


@dataclass(frozen=True, slots=True)
class ChunkOrder:
    """A chunk to be spoken."""

    index: int
    text: str
    deadline_ms: int = 0
    """From now until the player runs dry."""
    start_offset_samples: int = 0
    """Samples that the caller has already."""


@dataclass(frozen=True, slots=True)
class Start:
    """How a chunk's synthesis began; comes with its first frame."""

    sample_rate_hz: int
    queue_us: int
    """From the arrival of the chunk to the lease."""
    synthesis_us: int
    """From the lease to the first frame."""
    replica: str
    model_revision: str
    voice: str = ""
    """Who speaks, as ListVoices has it."""
    is_fallback: bool = False
    """True where another voice was asked for."""


@dataclass(frozen=True, slots=True)
class FrameEvent:
    """The next audio of a chunk."""

    index: int
    sequence: int
    offset_samples: int
    pcm: bytes
    start: Start | None
    words: tuple[tuple[str, Word], ...] = ()
    """Words that became known with it, each as it stands in the text, with its times."""


@dataclass(frozen=True, slots=True)
class WordsEvent:
    """When words of a chunk are heard that no further frame can carry."""

    index: int
    words: tuple[tuple[str, Word], ...]
    """As in `FrameEvent`."""


@dataclass(frozen=True, slots=True)
class FinishedEvent:
    """A chunk is complete. Last of its chunk."""

    index: int
    total_samples: int
    synthesis_us: int
    cancelled: bool
    resumed: int
    wasted_us: int
    """Engine time whose audio nobody will hear; part of `engine_us`."""
    engine_us: int = 0
    """How long engines were busy with it, in all replicas."""


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """A chunk cannot be spoken. Last of its chunk."""

    index: int
    error: MeshError
    sent_samples: int
    engine_us: int = 0


ChunkEvent = FrameEvent | WordsEvent | FinishedEvent | FailedEvent


@dataclass(frozen=True, slots=True)
class VoiceInfo:
    """Something that can be asked for."""

    name: str
    engine: str
    language: str
    model_revision: str
    sample_rate_hz: int
    has_word_timings: bool
    ready_replicas: int
    is_default: bool
    max_chars: int = 0
    """No chunk should be longer; 0 where there is no limit."""
    state: str = ""
    """Name of a `services.tts.core.voices.VoiceState`."""
    declared_replicas: int = 0
    repeats: bool = False
    """True where its engine makes the same samples of the same text each time."""


class Replica(Protocol):
    """One loaded copy of a model, as the pool sees it. Calls return at once and never fail."""

    pid: int
    capabilities: Capabilities

    def speak(self, request_id: int, request: SpeakRequest) -> None:
        """Begin a request. Its messages go to the listener until `done` or `failed`."""
        ...

    def cancel(self, request_id: int) -> None:
        """Stop a request; it ends by `done`. Unknown ids mean nothing."""
        ...

    def grant(self, request_id: int, samples: int) -> None:
        """Let a request send `samples` more."""
        ...

    def kill(self) -> None:
        """End the process now. The listener hears nothing more."""
        ...

    async def close(self) -> None:
        """End the process and wait for it. The listener hears nothing more."""
        ...


class ReplicaListener(Protocol):
    """Who hears a replica."""

    def frame(self, request_id: int, offset_samples: int, pcm: bytes) -> None:
        """Audio of a request, in order."""
        ...

    def words(self, request_id: int, words: list[Word]) -> None:
        """Times of words of a request, in order, before the frames that hold them."""
        ...

    def done(self, request_id: int, done: Done) -> None:
        """A request ended."""
        ...

    def failed(self, request_id: int, message: str, fault: Fault) -> None:
        """A request failed."""
        ...

    def together(self, together: Together) -> None:
        """Some requests were advanced together; comes before the first of them ends."""
        ...

    def heartbeat(self, beat: Heartbeat) -> None:
        """The process runs; comes about once a second, also while its engine is loaded."""
        ...

    def progress(self, progress: Progress) -> None:
        """Its preparation gets on; or it loads something that is needed for the first time."""
        ...

    def lost(self, reason: str) -> None:
        """The process is gone, and all its requests. Last of all."""
        ...


class ReplicaStartError(Exception):
    """A replica cannot be started.

    Attributes:
        declaration_at_fault: True where another try cannot help.

    """

    def __init__(self, message: str, *, declaration_at_fault: bool = False) -> None:
        super().__init__(message)
        self.declaration_at_fault = declaration_at_fault


Launcher = Callable[[VoiceSpec, ReplicaListener], Awaitable[Replica]]
"""Starts a replica and waits until its engine is loaded. Raises `ReplicaStartError`. A cancelled
launch leaves no process."""
