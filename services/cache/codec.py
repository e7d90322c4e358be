"""How an entry is written in Redis: a fixed header, a JSON header, then raw bytes.

     0  3  "VMC"
     3  1  version of this layout: 3
     4  1  kind: 1 audio, 2 reply, 3 history; 128 more where the entry is signed
     5  8  version of a history, unsigned big-endian; 0 for other kinds
    13 16  sum of the kind, the name of the key and bytes 29 to 33+n, zeros behind it
    29  4  length n of the JSON header, unsigned big-endian
    33  n  JSON header
  33+n  …  raw bytes: the audio, or the pictures of a history one behind the other

The tags of an entry, if it has any, are the first of its JSON header. Entries are found by tag by looking
at the beginning of each, so that no index can get out of step with them.

The raw bytes are in segments, of 16 KiB, 32 KiB, 64 KiB and so on, the last as long as is left; the JSON
header has the sum of each. So the first bytes of an entry can be trusted without the others, and the
others are known to belong to them. The name of the key is in the sum: an entry says nothing under another
key, as another tenant's. The version is outside of it so that the script that compares and sets can write
it: whoever can write to Redis can make a history newer or older than it is, and that is all.

Sums are those of `services.cache.sums`. Reading trusts nothing: whatever is not exactly this is a
`CorruptEntryError`, never code that runs. An entry of another layout, left by an older or newer process,
or signed where this process has no key, is none (`OtherLayoutError`): it may be read by those that know it
until it ages out.
"""

import hmac
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from services.cache.sums import PLAIN, SUM_BYTES, Sum, Sums
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

MAGIC: Final = b"VMC\x03"
HEAD_BYTES: Final = 64 * 1024
"""What to read of an entry for its head: its headers, nearly always, and 1 s of audio at 24 kHz."""
TAGGED_BYTES: Final = 256
"""What to read of an entry for its tags, which are the first of its header."""
_TAGS: Final = b'{"tags":['
_FIRST_SEGMENT: Final = 16 * 1024
_FIXED: Final = struct.Struct(f">4sBQ{SUM_BYTES}sI")
_SUMMED_FROM: Final = 13 + SUM_BYTES
_MOST: Final = 2**31 - 1
"""Largest number in a header: what every field of a message can hold."""
MOST_VERSION: Final = 2**53
"""Of a history: versions pass through Lua's doubles."""
_MOST_RATE_HZ: Final = 768_000
_MOST_CHANNELS: Final = 8
_KIND_CODES: Final[dict[Kind, int]] = {"audio": 1, "reply": 2, "history": 3}
_SIGNED: Final = 128


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
    sum: Sum
    """What the entry is summed with."""

    @property
    def heard(self) -> AudioValue:
        """The audio with the words that begin in it."""
        form, audio = self.value.format, self.value.audio
        samples = len(audio) // form.sample_bytes if form.sample_bytes else 0
        words = tuple(word for word in self.value.words if word.offset_samples < samples)
        return AudioValue(form, audio, words)


def encode(value: Value, name: str, version: int = 0, sums: Sums = PLAIN) -> bytes:
    """Return the bytes that stand for `value` under the key of that name."""
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
    header["sums"] = [sums.first(memoryview(body)[start:end]).hex() for start, end in _segments(len(body))]
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    rest = struct.pack(">I", len(encoded)) + encoded
    code = _KIND_CODES[kind_of(value)] | (_SIGNED if sums.signs else 0)
    total = sums.first(_summed(code, name, rest))
    return b"".join((struct.pack(f">4sBQ{SUM_BYTES}s", MAGIC, code, version, total), rest, body))


def decode(data: bytes, kind: Kind, name: str, sums: Sums = PLAIN) -> tuple[Value, int]:
    """Return the value and version that `data` stands for.

    Raises:
        CorruptEntryError: `data` is not an entry of this `kind`, under the key of that `name`.

    """
    try:
        header, start, version, used = _header(data, kind, name, sums)
        body = data[start:]
        if header["bytes"] != len(body):
            raise CorruptEntryError("not whole")
        if _trusted(header, body, used) != len(body):
            raise CorruptEntryError("not as it was written")
        return _value(kind, header, body), version
    except (struct.error, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CorruptEntryError(type(error).__name__) from None


def decode_head(data: bytes, entry_bytes: int, name: str, sums: Sums = PLAIN) -> Head | None:
    """Return what the first bytes of an entry of audio hold; None where they are too few to tell.

    Args:
        data: The first bytes; all of them, if `entry_bytes` is not more.
        entry_bytes: Length of the whole entry.
        name: Of its key.
        sums: How entries are summed.

    Raises:
        CorruptEntryError: They are not those of an entry of audio of that length.

    """
    try:
        if _FIXED.size <= len(data) < entry_bytes:
            magic, *_, length = _FIXED.unpack_from(data)
            if magic == MAGIC and len(data) < _FIXED.size + length <= entry_bytes:
                return None
        header, start, _, used = _header(data, "audio", name, sums)
        if header["bytes"] != entry_bytes - start:
            raise CorruptEntryError("not whole")
        body = data[start:]
        trusted = _trusted(header, body, used)
        value = _value("audio", header, body[:trusted])
        assert isinstance(value, AudioValue)
        return Head(value, start + trusted, header, used)
    except (struct.error, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CorruptEntryError(type(error).__name__) from None


def decode_rest(head: Head, data: bytes) -> AudioValue:
    """Return the whole entry: that of `head`, and `data` from `head.start` on.

    Raises:
        CorruptEntryError: `data` is not what `head` belongs to.

    """
    body = head.value.audio + data
    if len(body) != head.header["bytes"] or _trusted(head.header, body, head.sum) != len(body):
        raise CorruptEntryError("not what the head belongs to")
    return AudioValue(head.value.format, body, head.value.words, head.value.tags)


def has_tag(start: bytes, tag: str) -> bool:
    """Return whether an entry that begins with `start`, its first `TAGGED_BYTES`, has a tag."""
    tags, close, _ = start[_FIXED.size :].partition(b"]")
    return bool(close) and tags.startswith(_TAGS) and b'"%b"' % tag.encode() in tags


def _summed(code: int, name: str, rest: bytes | memoryview) -> bytes:
    """Return what the sum of an entry is of; the length of the name keeps it apart from what follows."""
    named = name.encode()
    return b"".join((struct.pack(">BI", code, len(named)), named, rest))


def _header(data: bytes, kind: Kind, name: str, sums: Sums) -> tuple[dict[str, Any], int, int, Sum]:
    """Return the JSON header, where the raw bytes begin, the version, and what the entry is summed with."""
    magic, code, version, total, length = _FIXED.unpack_from(data)
    start = _FIXED.size + length
    if magic[:3] == MAGIC[:3] and magic != MAGIC:
        raise OtherLayoutError(f"layout {magic[3]}")
    if magic != MAGIC or code & ~_SIGNED != _KIND_CODES[kind] or len(data) < start:
        raise CorruptEntryError("not an entry of this kind")
    if code & _SIGNED and not sums.signs:
        raise OtherLayoutError("signed")
    if sums.signs and not code & _SIGNED:
        raise CorruptEntryError("not signed")
    if version > MOST_VERSION:
        raise CorruptEntryError("no version")
    summed = _summed(code, name, memoryview(data)[_SUMMED_FROM:start])
    for each in sums.all:
        if hmac.compare_digest(each(summed).ljust(SUM_BYTES, b"\0"), total):
            break
    else:
        raise CorruptEntryError("not signed by a key of ours" if sums.signs else "not as it was written")
    header = json.loads(data[_FIXED.size : start])
    if not isinstance(header, dict):
        raise TypeError("not a header")
    return header, start, version, each


def _segments(size: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each segment of `size` raw bytes."""
    start, length = 0, _FIRST_SEGMENT
    while start < size:
        yield start, min(start + length, size)
        start, length = start + length, 2 * length


def _trusted(header: dict[str, Any], body: bytes, used: Sum) -> int:
    """Return the length of the segments that `body` has whole.

    Raises:
        CorruptEntryError: One of them is not as it was written.

    """
    segments = tuple(_segments(checked_count(header["bytes"])))
    trusted = 0
    for (start, end), total in zip(segments, header["sums"], strict=True):
        if end > len(body):
            break
        if not hmac.compare_digest(used(memoryview(body)[start:end]), bytes.fromhex(total)):
            raise CorruptEntryError("not as it was written")
        trusted = end
    return trusted


def _value(kind: Kind, header: dict[str, Any], body: bytes) -> Value:
    if kind == "audio":
        form = checked_format(*header["format"])
        if form.sample_bytes and header["bytes"] % form.sample_bytes:
            raise CorruptEntryError("not whole samples")
        words = tuple(checked_word(*word) for word in header["words"])
        return AudioValue(form, body, words, tuple(map(checked_text, header.get("tags", ()))))
    if kind == "reply":
        asked, answered, cached = map(checked_count, header["usage"])
        usage, tags = TokenUsage(asked, answered, cached), tuple(map(checked_text, header.get("tags", ())))
        return ReplyValue(checked_text(header["text"]), usage, body, tags)
    messages, position = [], 0
    for role, encoded in header["messages"]:
        parts: list[str | Image] = []
        for part in encoded:
            if isinstance(part, str):
                parts.append(checked_text(part))
            elif part[0] == "url":
                parts.append(Image(url=checked_text(part[1]), media_type=checked_text(part[2])))
            else:
                end = position + checked_count(part[1])
                if end > len(body):
                    raise CorruptEntryError("pictures beyond its end")
                parts.append(Image(data=body[position:end], media_type=checked_text(part[2])))
                position = end
        messages.append(Message(checked_count(role), tuple(parts)))
    if position != len(body):
        raise CorruptEntryError("bytes that are of no picture")
    return HistoryValue(tuple(messages))


def _part(part: str | Image) -> str | list[str | int]:
    if isinstance(part, str):
        return part
    if part.data is None:
        return ["url", part.url or "", part.media_type]
    return ["data", len(part.data), part.media_type]


def checked_format(encoding: object, rate_hz: object, channels: object) -> AudioFormat:
    """Return the format that somebody else wrote down.

    Raises:
        TypeError, ValueError: It is none.

    """
    form = AudioFormat(checked_count(encoding), checked_count(rate_hz), checked_count(channels))
    known = form.encoding and 0 < form.sample_rate_hz <= _MOST_RATE_HZ
    if not known or not 0 < form.channels <= _MOST_CHANNELS:
        raise ValueError("not a format")
    return form


def checked_word(
    word: object, text_offset: object, text_length: object, offset_samples: object, estimated: object
) -> WordTiming:
    """Return the timing of a word that somebody else wrote down.

    Raises:
        TypeError, ValueError: It is none.

    """
    if not isinstance(estimated, bool):
        raise TypeError("not a truth")
    return WordTiming(
        checked_text(word),
        checked_count(text_offset),
        checked_count(text_length),
        checked_count(offset_samples),
        estimated,
    )


def checked_count(value: object) -> int:
    """Return a number that somebody else wrote down, from 0 to 2^31-1.

    Raises:
        TypeError: It is none.

    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise TypeError("not a count")
    return value


def checked_text(value: object) -> str:
    """Return a text that somebody else wrote down.

    Raises:
        TypeError, ValueError: It is none.

    """
    if not isinstance(value, str):
        raise TypeError("not a text")
    value.encode()  # JSON can spell halves of characters, which no message can hold: a ValueError
    return value
