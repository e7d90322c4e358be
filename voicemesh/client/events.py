"""What a turn tells its caller: plain data, and how it is read from the wire."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from voicemesh.client.names import CHUNK_REASONS, DEGRADATIONS, ENCODINGS
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2

if TYPE_CHECKING:
    from voicemesh.client.report import TurnReport

_SAMPLE_BYTES = {"pcm_s16le": 2, "mulaw": 1}


@dataclass(frozen=True)
class AudioFormat:
    """The form of a turn's frames.

    Attributes:
        encoding: "pcm_s16le", "mulaw", "opus", "flac", "mp3" or "aac".
        sample_rate_hz: Samples per second of one channel, in hertz.
        channels: Number of channels.
        preskip_samples: Samples that a decoder gives at the beginning of a turn, to be left out.

    """

    encoding: str = "pcm_s16le"
    sample_rate_hz: int = 0
    channels: int = 1
    preskip_samples: int = 0

    def samples_in(self, size_bytes: int) -> int:
        """Return how many samples `size_bytes` of audio are; 0 for encodings that pack them."""
        width = _SAMPLE_BYTES.get(self.encoding, 0) * self.channels
        return size_bytes // width if width else 0

    def duration_us(self, samples: int) -> int:
        """Return how long so many samples last, in microseconds; 0 where the rate is not known."""
        return samples * 1_000_000 // self.sample_rate_hz if self.sample_rate_hz else 0


@dataclass(frozen=True)
class TurnStarted:
    """A turn begins."""

    turn_id: str
    session_id: str
    trace_id: str
    format: AudioFormat


@dataclass(frozen=True)
class TextDelta:
    """More of the reply's text, as the model wrote it."""

    turn_id: str
    text: str


@dataclass(frozen=True)
class TextRun:
    """A part of a chunk and what it stands for in the turn's text; all in code points.

    Where both lengths are the same, characters correspond one to one.
    """

    spoken_offset: int
    spoken_length: int
    source_offset: int
    source_length: int


@dataclass(frozen=True)
class Chunk:
    """A chunk was cut and will be spoken.

    Attributes:
        turn_id: The turn.
        index: Position in the turn, from 0.
        text: What is spoken.
        text_offset: Code points of the turn's text before the chunk.
        text_length: Code points of the turn's text that the chunk covers.
        reason: Why it was cut here: "sentence", "clause", "phrase", "words", "limit", "deadline" or "flush".
        held_ms: What lookahead and policy cost, in milliseconds.
        alignment: How `text` and the turn's text belong together, part by part; empty where they are
            the same, character for character.

    """

    turn_id: str
    index: int
    text: str
    text_offset: int
    text_length: int
    reason: str
    held_ms: float
    alignment: tuple[TextRun, ...] = ()


@dataclass(frozen=True)
class Frame:
    """The next audio.

    Attributes:
        turn_id: The turn.
        chunk_index: The chunk that the frame speaks.
        sequence: Position in the chunk, from 0.
        offset_samples: Samples of the chunk before this frame.
        turn_offset_samples: Samples of the turn before this frame.
        audio: The samples, in the format of `TurnStarted`; of Opus, one packet.
        samples: How many they are.

    """

    turn_id: str
    chunk_index: int
    sequence: int
    offset_samples: int
    turn_offset_samples: int
    audio: bytes
    samples: int = 0


@dataclass(frozen=True)
class Word:
    """When one word is heard.

    Attributes:
        word: The word as it stands in the chunk.
        text_offset: Code points of the chunk before the word.
        text_length: Length in code points.
        offset_samples: Samples of the chunk before the word is heard.
        estimated: True where the engine gave no timing.
        source_offset: Code points of the turn's text before what the word stands for.
        source_length: Code points of the turn's text to highlight while it is heard.

    """

    word: str
    text_offset: int
    text_length: int
    offset_samples: int
    estimated: bool
    source_offset: int = 0
    source_length: int = 0


@dataclass(frozen=True)
class Words:
    """When some words of one chunk are heard."""

    turn_id: str
    chunk_index: int
    words: tuple[Word, ...]


@dataclass(frozen=True)
class SpeakLocally:
    """No engine can speak this chunk: speak it with a voice of your own."""

    turn_id: str
    chunk_index: int
    text: str
    language: str


@dataclass(frozen=True)
class Degraded:
    """Something was given up so that the turn can go on.

    Attributes:
        turn_id: The turn.
        what: "cache", "voice", "model", "history", "local_speech", "resumed" or "skipped"; the client itself
            says "gateway": the turn is asked again at another one and begins anew, text that came is void.
        detail: One sentence for people.
        skipped_ms: For "skipped", a slow listener's: audio that was left out in front of the next frame.

    """

    turn_id: str
    what: str
    detail: str
    skipped_ms: int = 0


@dataclass(frozen=True)
class TurnEnded:
    """The turn ended: all was said, or it was interrupted. A failed turn raises `VoiceMeshError`."""

    turn_id: str
    report: "TurnReport"


Event = TurnStarted | TextDelta | Chunk | Frame | Words | SpeakLocally | Degraded | TurnEnded


@dataclass(frozen=True)
class Voice:
    """Something that can speak.

    Attributes:
        name: The name to ask for.
        engine: The engine behind it.
        language: BCP 47 language tag.
        format: The audio that it makes when no format is asked for.
        has_word_timings: True where the engine reports when each word is heard.
        ready_replicas: Replicas that are warm.
        is_default: True for the voice that speaks when none is named.
        state: `ready`, or where it is asked for: `loading`, `draining`, `failed`; "" from an older mesh.
        declared_replicas: Replicas that it is declared with.

    """

    name: str
    engine: str
    language: str
    format: AudioFormat
    has_word_timings: bool
    ready_replicas: int
    is_default: bool
    state: str = ""
    declared_replicas: int = 0


Wire = gateway_pb2.ConverseResponse | gateway_pb2.SpeakResponse
"""Messages that carry the events of a turn; their event fields have the same names."""


def format_from_proto(message: common_pb2.AudioFormat) -> AudioFormat:
    """Read a format; what is not set means 16-bit PCM and one channel."""
    encoding = ENCODINGS.get(message.encoding) or "pcm_s16le"
    return AudioFormat(encoding, message.sample_rate_hz, message.channels or 1, message.preskip_samples)


def voice_from_proto(message: common_pb2.Voice) -> Voice:
    """Read a voice."""
    return Voice(
        name=message.name,
        engine=message.engine,
        language=message.language,
        format=format_from_proto(message.native_format),
        has_word_timings=message.has_word_timings,
        ready_replicas=message.ready_replicas,
        is_default=message.is_default,
        state=_voice_state(message.state),
        declared_replicas=message.declared_replicas,
    )


def _voice_state(value: common_pb2.VoiceState.ValueType) -> str:
    if value == common_pb2.VOICE_STATE_UNSPECIFIED or value not in common_pb2.VoiceState.values():
        return ""
    return common_pb2.VoiceState.Name(value).removeprefix("VOICE_STATE_").lower()


def frame_from_proto(message: common_pb2.Frame) -> Frame:
    """Read a frame."""
    return Frame(
        message.turn_id,
        message.chunk_index,
        message.sequence,
        message.offset_samples,
        message.turn_offset_samples,
        message.audio,
        message.samples,
    )


def started_from_proto(message: gateway_pb2.TurnStarted) -> TurnStarted:
    """Read the beginning of a turn."""
    return TurnStarted(
        message.turn_id, message.session_id, message.trace_id, format_from_proto(message.format)
    )


def _text_delta(message: gateway_pb2.TextDelta) -> TextDelta:
    return TextDelta(message.turn_id, message.text)


def _chunk(message: common_pb2.Chunk) -> Chunk:
    return Chunk(
        message.turn_id,
        message.index,
        message.text,
        message.text_offset,
        message.text_length,
        CHUNK_REASONS.get(message.reason, ""),
        message.held_us / 1000,
        tuple(
            TextRun(run.spoken_offset, run.spoken_length, run.source_offset, run.source_length)
            for run in message.alignment
        ),
    )


def _words(message: common_pb2.WordTimings) -> Words:
    words = tuple(
        Word(
            word.word,
            word.text_offset,
            word.text_length,
            word.offset_samples,
            word.estimated,
            word.source_offset,
            word.source_length,
        )
        for word in message.words
    )
    return Words(message.turn_id, message.chunk_index, words)


def _speak_locally(message: gateway_pb2.SpeakLocally) -> SpeakLocally:
    return SpeakLocally(message.turn_id, message.chunk_index, message.text, message.language)


def _degraded(message: gateway_pb2.Degraded) -> Degraded:
    return Degraded(message.turn_id, DEGRADATIONS.get(message.what, ""), message.detail, message.skipped_ms)


_READERS: Final[Mapping[str, Callable[[Any], Event]]] = {
    "turn_started": started_from_proto,
    "text_delta": _text_delta,
    "chunk": _chunk,
    "frame": frame_from_proto,
    "words": _words,
    "speak_locally": _speak_locally,
    "degraded": _degraded,
}


def event_from_proto(message: Wire) -> Event | None:
    """Read an event of a turn that goes on; None for the end of a turn and for unknown events."""
    kind = message.WhichOneof("event")
    reader = _READERS.get(kind) if kind else None
    return reader(getattr(message, kind)) if reader and kind else None
