"""What goes into the turn engine. It stamps the time of each event when it takes it."""

from dataclasses import dataclass

from gateway.core.values import Chunk, Message, Usage, Word
from voicemesh.runtime.errors import MeshError


@dataclass(frozen=True, slots=True)
class HistoryLoaded:
    """The session's history, as the cache has it; `version` 0 and no messages where it has none."""

    messages: tuple[Message, ...]
    version: int
    server_us: int


@dataclass(frozen=True, slots=True)
class HistoryUnavailable:
    """The cache could not be asked for the history, or not in time."""

    detail: str


@dataclass(frozen=True, slots=True)
class HistorySaved:
    """The history was written as `version`; or not, where `detail` says why."""

    detail: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class ReplyFound:
    """The cache has the whole reply, and perhaps how it was cut for this voice and policy."""

    text: str
    tier: str
    server_us: int
    chunks: tuple[Chunk, ...] = ()
    usage: Usage | None = None
    """What it consumed when it was made."""


@dataclass(frozen=True, slots=True)
class ReplyMissing:
    """The cache has no reply; with `detail`, it could not be asked or not in time."""

    server_us: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TextArrived:
    """More of the reply's text: from the LLM, or from the caller."""

    text: str
    connect_us: int = 0
    ttft_us: int = 0


@dataclass(frozen=True, slots=True)
class TextFlushed:
    """The caller wants what is held to be spoken now."""


@dataclass(frozen=True, slots=True)
class TextEnded:
    """No more text; `complete` where the LLM ended of itself, so that the reply may be kept."""

    usage: Usage | None = None
    complete: bool = False
    also: tuple[Usage, ...] = ()
    """What else was asked for it and is billed."""


@dataclass(frozen=True, slots=True)
class TextFailed:
    """The text broke off."""

    error: Exception
    at_once: bool = False
    """What was written is not spoken to its end either."""


@dataclass(frozen=True, slots=True)
class TextLost:
    """The stream to the LLM service broke off: its process, or the way to it, is gone. Another may go on."""

    error: MeshError


@dataclass(frozen=True, slots=True)
class ModelDegraded:
    """Another model than the first answers."""

    detail: str


@dataclass(frozen=True, slots=True)
class TextResumed:
    """The LLM's stream broke, and its text goes on behind what came before."""

    detail: str


@dataclass(frozen=True, slots=True)
class ChunkCut:
    """The chunker cut a chunk."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class ChunksEnded:
    """All text is in chunks."""


@dataclass(frozen=True, slots=True)
class ChunkerFailed:
    """The chunker broke off."""

    error: Exception


@dataclass(frozen=True, slots=True)
class ChunkerLost:
    """The stream to the chunker broke off: its process, or the way to it, is gone. Another may go on.

    `anew`: one went on, and cuts in another way than the one before it.
    """

    error: MeshError
    anew: bool = False


@dataclass(frozen=True, slots=True)
class AudioFound:
    """The cache has the audio of a chunk; with `more`, this is its head, and the rest comes in parts."""

    index: int
    audio: bytes
    words: tuple[Word, ...]
    tier: str
    server_us: int
    more: bool = False


@dataclass(frozen=True, slots=True)
class AudioMissing:
    """The cache has no audio for a chunk; with `detail`, it could not be asked or not in time."""

    index: int
    server_us: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AudioGranted:
    """The chunk holds the lease: it is to be made for this turn, behind `offset_samples`, and appended.

    It answers a lookup, or comes to a chunk that follows when the one before could not go on.
    """

    index: int
    offset_samples: int = 0
    server_us: int = 0


@dataclass(frozen=True, slots=True)
class AudioFollowing:
    """The audio of a chunk is being made for another one; this is all so far, and the rest comes in parts."""

    index: int
    audio: bytes
    words: tuple[Word, ...]
    server_us: int = 0


@dataclass(frozen=True, slots=True)
class AudioPart:
    """The next audio and words of a chunk that follows."""

    index: int
    audio: bytes
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class AudioSealed:
    """The audio of a chunk that follows is complete."""

    index: int


@dataclass(frozen=True, slots=True)
class AudioLost:
    """No more comes for a chunk that follows: the turn is to go on by itself. `detail`: by whose fault."""

    index: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FrameMade:
    """The TTS service made a frame. The first of a chunk says how long it took."""

    index: int
    offset_samples: int
    audio: bytes
    queue_us: int = 0
    synthesis_us: int = 0
    first: bool = False
    other_model: bool = False
    """The voice has another model by now than the turn was begun with: nobody may find it under that."""
    fallback: str = ""
    """Another voice than the one asked for goes on from here: its name."""


@dataclass(frozen=True, slots=True)
class WordsTimed:
    """The TTS service says when words are heard."""

    index: int
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class ChunkSpoken:
    """The TTS service has spoken a chunk to its end; `resumed` replicas were lost on the way."""

    index: int
    resumed: int = 0
    engine_us: int = 0
    """How long engines were busy with it."""


@dataclass(frozen=True, slots=True)
class ChunkUnspeakable:
    """No engine can speak a chunk, or not to its end.

    `refusal` is set where the fault is the request's or the load's, not an engine's.
    """

    index: int
    detail: str
    refusal: Exception | None = None
    engine_us: int = 0
    """How long engines were busy with it."""


@dataclass(frozen=True, slots=True)
class SpeechFailed:
    """A TTS stream broke off: none of the chunks that it was asked for will be spoken by it.

    `refusal` is set where the fault is the request's or the load's, not the service's.
    """

    refusal: Exception | None = None
    indexes: tuple[int, ...] | None = None
    """The chunks that it was asked for and has not ended; None: all."""
    lost: MeshError | None = None
    """Set where its process, or the way to it, is gone: another may go on with them."""


@dataclass(frozen=True, slots=True)
class FirstFrameSent:
    """The first frame was handed to the caller's connection."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The user speaks over the reply, or the caller went away."""

    played_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The draft is what the caller wanted; read at `received_ns`, from where the turn's times count."""

    received_ns: int


@dataclass(frozen=True, slots=True)
class Discarded:
    """The draft is not what the caller wanted."""


@dataclass(frozen=True, slots=True)
class PlaybackReported:
    """The caller's player says where it is."""

    played_ms: int


@dataclass(frozen=True, slots=True)
class CallerBehind:
    """The caller does not take what waits for it, or took enough of it again."""

    behind: bool


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time of the last `SetTimer` came."""


CacheEvent = HistoryLoaded | HistoryUnavailable | HistorySaved | ReplyFound | ReplyMissing
TextEvent = TextArrived | TextFlushed | TextEnded | TextFailed | TextLost | ModelDegraded | TextResumed
ChunkerEvent = ChunkCut | ChunksEnded | ChunkerFailed | ChunkerLost
EngineEvent = FrameMade | WordsTimed | ChunkSpoken | ChunkUnspeakable
LookupEvent = AudioFound | AudioMissing | AudioGranted | AudioFollowing
FollowEvent = AudioPart | AudioSealed | AudioGranted | AudioLost
AudioEvent = LookupEvent | FollowEvent | EngineEvent | SpeechFailed
CallerEvent = (
    FirstFrameSent | Interrupted | Confirmed | Discarded | PlaybackReported | CallerBehind | TimerFired
)
Event = CacheEvent | TextEvent | ChunkerEvent | AudioEvent | CallerEvent
