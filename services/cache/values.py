"""What the cache keeps, as plain data. Sizes are in bytes of this process's memory."""

from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["audio", "reply", "history"]
KINDS: Final[tuple[Kind, ...]] = ("audio", "reply", "history")

PCM_S16LE: Final = 1
MULAW: Final = 2
"""Encodings of `voicemesh.common.v1.AudioEncoding` whose samples can be counted."""

ROLE_SYSTEM: Final = 1
ROLE_USER: Final = 2
ROLE_ASSISTANT: Final = 3
"""Values of `voicemesh.common.v1.Role`."""

# What Python objects cost beyond their payload, from sys.getsizeof of their parts on CPython 3.11,
# rounded up. The budget is a promise about memory, so an estimate must not be below the truth.
_ENTRY_BYTES: Final = 600
_WORD_BYTES: Final = 240
_PART_BYTES: Final = 240
_TAG_BYTES: Final = 72


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The form of audio; `encoding` is a value of `voicemesh.common.v1.AudioEncoding`."""

    encoding: int
    sample_rate_hz: int
    channels: int

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of all channels; 0 where the encoding's samples cannot be counted."""
        return {PCM_S16LE: 2, MULAW: 1}.get(self.encoding, 0) * self.channels

    def bytes_of(self, duration_ms: int) -> int:
        """Return the bytes of that much audio, whole samples; 0 where they cannot be counted."""
        return duration_ms * self.sample_rate_hz // 1000 * self.sample_bytes


@dataclass(frozen=True, slots=True)
class WordTiming:
    """When one word is heard; offsets and lengths as in `voicemesh.common.v1.WordTiming`."""

    word: str
    text_offset: int
    text_length: int
    offset_samples: int
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class AudioValue:
    """A spoken text, or a part of one."""

    format: AudioFormat
    audio: bytes = field(repr=False)
    words: tuple[WordTiming, ...] = ()
    tags: tuple[str, ...] = ()
    """Of a whole one: `services.cache.keys.tag` of each name that it can be invalidated by."""

    def cut(self, start: int, end: int) -> "AudioValue":
        """Return the bytes from `start` to `end`, whole samples, with the words that begin in them.

        The first piece has the words that begin before it as well, the last those that begin behind it.
        """
        size = self.format.sample_bytes
        first = start // size if start > 0 else -1
        last = end // size if end < len(self.audio) else None
        words = tuple(
            word
            for word in self.words
            if word.offset_samples >= first and (last is None or word.offset_samples < last)
        )
        return AudioValue(self.format, self.audio[start:end], words)


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """What a generation consumed, in tokens."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ReplyValue:
    """A whole reply."""

    text: str = field(repr=False)
    usage: TokenUsage = TokenUsage()
    chunks: bytes = field(default=b"", repr=False)
    """How it was cut when it was first spoken: the gateway's own, kept as it is."""
    tags: tuple[str, ...] = ()
    """As of `AudioValue`."""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: its bytes with their media type, or an address. One of `data` and `url` is None."""

    data: bytes | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation: its role and its parts, each a text or an `Image`."""

    role: int
    parts: tuple[str | Image, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class HistoryValue:
    """The messages of a session, oldest first."""

    messages: tuple[Message, ...]


Value = AudioValue | ReplyValue | HistoryValue


def kind_of(value: Value) -> Kind:
    """Return the kind of a value."""
    if isinstance(value, AudioValue):
        return "audio"
    return "reply" if isinstance(value, ReplyValue) else "history"


def tags_of(value: Value) -> tuple[str, ...]:
    """Return the tags of a value; a history has none."""
    return () if isinstance(value, HistoryValue) else value.tags


def size_bytes(value: Value) -> int:
    """Return how much memory an entry with `value` takes, in bytes: never below the truth by much."""
    if isinstance(value, AudioValue):
        words = sum(_WORD_BYTES + 4 * len(word.word) for word in value.words)
        return _ENTRY_BYTES + len(value.audio) + words + _TAG_BYTES * len(value.tags)
    if isinstance(value, ReplyValue):
        tags = _TAG_BYTES * len(value.tags)
        return _ENTRY_BYTES + text_bytes(value.text) + len(value.chunks) + tags
    return _ENTRY_BYTES + sum(_part_bytes(part) for message in value.messages for part in message.parts)


def _part_bytes(part: str | Image) -> int:
    if isinstance(part, str):
        return _PART_BYTES + text_bytes(part)
    return _PART_BYTES + len(part.data or b"") + text_bytes(part.url or "")


def text_bytes(text: str) -> int:
    """Return the bytes that CPython takes for the characters of `text`: 1, 2 or 4 each (PEP 393)."""
    if text.isascii():
        return len(text)
    widest = max(text)
    return len(text) * (1 if widest < "\u0100" else 2 if widest < "\U00010000" else 4)
