"""How an entry is written in Redis: a fixed header, a JSON header, then raw bytes.

     0  3  "VMC"
     3  1  version of this layout: 2
     4  1  kind: 1 audio, 2 reply, 3 history
     5  8  version of a history, unsigned big-endian; 0 for other kinds
    13  4  CRC-32 of bytes 17 to 21+n
    17  4  length n of the JSON header, unsigned big-endian
    21  n  JSON header
  21+n  …  raw bytes: the audio, or the pictures of a history one behind the other

The tags of an entry, if it has any, are the first of its JSON header. Entries are found by tag by looking
at the beginning of each, so that no index can get out of step with them.

The raw bytes are in segments, of 16 KiB, 32 KiB, 64 KiB and so on, the last as long as is left; the JSON
header has the CRC-32 of each. So the first bytes of an entry can be trusted without the others, and the
others are known to belong to them. The version is outside of the CRC so that the script that compares
and sets can write it. Reading trusts nothing: whatever is not exactly this is a `CorruptEntryError`,
never code that runs. An entry of another layout, left by an older or newer process, is none
(`OtherLayoutError`): it may be read by those that know it until it ages out.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from services.cache.values import (
    AudioFormat,
    AudioValue,
    HistoryValue,
    Image,
    Kind,
    Message,
    ReplyValue,
    TokenUsage,
    Value,
    WordTiming,
    kind_of,
    tags_of,
)

MAGIC: Final = b"VMC\x02"
HEAD_BYTES: Final = 64 * 1024
"""What to read of an entry for its head: its headers, nearly always, and 1 s of audio at 24 kHz."""
TAGGED_BYTES: Final = 256
"""What to read of an entry for its tags, which are the first of its header."""
_TAGS: Final = b'{"tags":['
_FIRST_SEGMENT: Final = 16 * 1024
_FIXED: Final = struct.Struct(">4sBQII")
_CRC_FROM: Final = 17
_MOST: Final = 2**31 - 1
"""Largest number in a header: what every field of a message can hold."""
_KIND_CODES: Final[dict[Kind, int]] = {"audio": 1, "reply": 2, "history": 3}


class CorruptEntryError(Exception):
    """The bytes are not an entry of the expected kind."""


class OtherLayoutError(CorruptEntryError):
    """The bytes may be an entry, of another version of the layout."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first bytes of an entry of audio, without those that could not be checked."""

    value: AudioValue
    """Whole segments of the audio, with every word of the entry."""
    start: int
    """Where in the entry the bytes begin that are not in `value`."""
    header: dict[str, Any]

    @property
    def heard(self) -> AudioValue:
        """The audio with the words that begin in it."""
        form, audio = self.value.format, self.value.audio
        samples = len(audio) // form.sample_bytes if form.sample_bytes else 0
        words = tuple(word for word in self.value.words if word.offset_samples < samples)
        return AudioValue(form, audio, words)


def encode(value: Value, version: int = 0) -> bytes:
    """Return the bytes that stand for `value`."""
    if isinstance(value, AudioValue):
        form = value.format
        header: dict[str, Any] = {
            "format": [form.encoding, form.sample_rate_hz, form.channels],
            "words": [
                [word.word, word.text_offset, word.text_length, word.offset_samples, word.estimated]
                for word in value.words
            ],
        }
        body = value.audio
    elif isinstance(value, ReplyValue):
        usage = value.usage
        header = {
            "text": value.text,
            "usage": [usage.input_tokens, usage.output_tokens, usage.cached_input_tokens],
        }
        body = value.chunks
    else:
        header = {"messages": [[message.role, list(map(_part, message.parts))] for message in value.messages]}
        pictures = (part for message in value.messages for part in message.parts if isinstance(part, Image))
        body = b"".join(picture.data or b"" for picture in pictures)
    if tags := tags_of(value):
        header = {"tags": list(tags), **header}
    header["bytes"] = len(body)
    header["crcs"] = [zlib.crc32(memoryview(body)[start:end]) for start, end in _segments(len(body))]
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    length = struct.pack(">I", len(encoded))
    crc = zlib.crc32(encoded, zlib.crc32(length))
    return b"".join(
        (_FIXED.pack(MAGIC, _KIND_CODES[kind_of(value)], version, crc, len(encoded)), encoded, body)
    )


def decode(data: bytes, kind: Kind) -> tuple[Value, int]:
    """Return the value and version that `data` stands for.

    Raises:
        CorruptEntryError: `data` is not an entry of this `kind`.

    """
    try:
        header, start, version = _header(data, kind)
        body = data[start:]
        if header["bytes"] != len(body):
            raise CorruptEntryError("not whole")
        if _trusted(header, body) != len(body):
            raise CorruptEntryError("not as it was written")
        return _value(kind, header, body), version
    except (struct.error, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CorruptEntryError(type(error).__name__) from None


def decode_head(data: bytes, entry_bytes: int) -> Head | None:
    """Return what the first bytes of an entry of audio hold; None where they are too few to tell.

    Args:
        data: The first bytes; all of them, if `entry_bytes` is not more.
        entry_bytes: Length of the whole entry.

    Raises:
        CorruptEntryError: They are not those of an entry of audio of that length.

    """
    try:
        if _FIXED.size <= len(data) < entry_bytes:
            magic, *_, length = _FIXED.unpack_from(data)
            if magic == MAGIC and len(data) < _FIXED.size + length <= entry_bytes:
                return None
        header, start, _ = _header(data, "audio")
        if header["bytes"] != entry_bytes - start:
            raise CorruptEntryError("not whole")
        body = data[start:]
        trusted = _trusted(header, body)
        value = _value("audio", header, body[:trusted])
        assert isinstance(value, AudioValue)
        return Head(value, start + trusted, header)
    except (struct.error, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CorruptEntryError(type(error).__name__) from None


def decode_rest(head: Head, data: bytes) -> AudioValue:
    """Return the whole entry: that of `head`, and `data` from `head.start` on.

    Raises:
        CorruptEntryError: `data` is not what `head` belongs to.

    """
    body = head.value.audio + data
    if len(body) != head.header["bytes"] or _trusted(head.header, body) != len(body):
        raise CorruptEntryError("not what the head belongs to")
    return AudioValue(head.value.format, body, head.value.words, head.value.tags)


def has_tag(start: bytes, tag: str) -> bool:
    """Return whether an entry that begins with `start`, its first `TAGGED_BYTES`, has a tag."""
    tags, close, _ = start[_FIXED.size :].partition(b"]")
    return bool(close) and tags.startswith(_TAGS) and b'"%b"' % tag.encode() in tags


def _header(data: bytes, kind: Kind) -> tuple[dict[str, Any], int, int]:
    """Return the JSON header, where the raw bytes begin, and the version."""
    magic, code, version, crc, length = _FIXED.unpack_from(data)
    start = _FIXED.size + length
    if magic[:3] == MAGIC[:3] and magic != MAGIC:
        raise OtherLayoutError(f"layout {magic[3]}")
    if magic != MAGIC or code != _KIND_CODES[kind] or crc != zlib.crc32(memoryview(data)[_CRC_FROM:start]):
        raise CorruptEntryError("not an entry of this kind")
    header = json.loads(data[_FIXED.size : start])
    if not isinstance(header, dict):
        raise TypeError("not a header")
    return header, start, version


def _segments(size: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each segment of `size` raw bytes."""
    start, length = 0, _FIRST_SEGMENT
    while start < size:
        yield start, min(start + length, size)
        start, length = start + length, 2 * length


def _trusted(header: dict[str, Any], body: bytes) -> int:
    """Return the length of the segments that `body` has whole.

    Raises:
        CorruptEntryError: One of them is not as it was written.

    """
    segments = tuple(_segments(header["bytes"]))
    trusted = 0
    for (start, end), crc in zip(segments, header["crcs"], strict=True):
        if end > len(body):
            break
        if zlib.crc32(memoryview(body)[start:end]) != crc:
            raise CorruptEntryError("not as it was written")
        trusted = end
    return trusted


def _value(kind: Kind, header: dict[str, Any], body: bytes) -> Value:
    if kind == "audio":
        encoding, rate, channels = map(_integer, header["format"])
        return AudioValue(
            AudioFormat(encoding, rate, channels),
            body,
            tuple(
                WordTiming(_text(word), _integer(at), _integer(length), _integer(offset), bool(estimated))
                for word, at, length, offset, estimated in header["words"]
            ),
            tuple(map(_text, header.get("tags", ()))),
        )
    if kind == "reply":
        usage, tags = TokenUsage(*map(_integer, header["usage"])), tuple(map(_text, header.get("tags", ())))
        return ReplyValue(_text(header["text"]), usage, body, tags)
    messages, position = [], 0
    for role, encoded in header["messages"]:
        parts: list[str | Image] = []
        for part in encoded:
            if isinstance(part, str):
                parts.append(_text(part))
            elif part[0] == "url":
                parts.append(Image(url=_text(part[1]), media_type=_text(part[2])))
            else:
                end = position + _integer(part[1])
                parts.append(Image(data=body[position:end], media_type=_text(part[2])))
                position = end
        messages.append(Message(_integer(role), tuple(parts)))
    return HistoryValue(tuple(messages))


def _part(part: str | Image) -> str | list[str | int]:
    if isinstance(part, str):
        return part
    if part.data is None:
        return ["url", part.url or "", part.media_type]
    return ["data", len(part.data), part.media_type]


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise TypeError("not a count")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    value.encode()  # JSON can spell halves of characters, which no message can hold: a ValueError
    return value
