"""How an entry is written in Redis: a fixed header, a JSON header, then raw bytes.

     0  3  "VMC"
     3  1  version of this layout
     4  1  kind: 1 audio, 2 reply, 3 history
     5  8  version of a history, unsigned big-endian; 0 for other kinds
    13  4  CRC-32 of everything from byte 17 on
    17  4  length n of the JSON header, unsigned big-endian
    21  n  JSON header
  21+n  …  raw bytes: the audio, or the pictures of a history one behind the other

The version is outside of the CRC so that the script that compares and sets can write it. Reading
trusts nothing: whatever is not exactly this is a `CorruptEntryError`, never code that runs.
"""

import json
import struct
import zlib
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
)

MAGIC: Final = b"VMC\x01"
_FIXED: Final = struct.Struct(">4sBQII")
_CRC_FROM: Final = 17
_KIND_CODES: Final[dict[Kind, int]] = {"audio": 1, "reply": 2, "history": 3}


class CorruptEntryError(Exception):
    """The bytes are not an entry of the expected kind."""


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
    header["bytes"] = len(body)
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    length = struct.pack(">I", len(encoded))
    crc = zlib.crc32(body, zlib.crc32(encoded, zlib.crc32(length)))
    return b"".join(
        (_FIXED.pack(MAGIC, _KIND_CODES[kind_of(value)], version, crc, len(encoded)), encoded, body)
    )


def decode(data: bytes, kind: Kind) -> tuple[Value, int]:
    """Return the value and version that `data` stands for.

    Raises:
        CorruptEntryError: `data` is not an entry of this `kind`.

    """
    try:
        magic, code, version, crc, length = _FIXED.unpack_from(data)
        if magic != MAGIC or code != _KIND_CODES[kind] or crc != zlib.crc32(memoryview(data)[_CRC_FROM:]):
            raise CorruptEntryError("not an entry of this kind")
        header = json.loads(data[_FIXED.size : _FIXED.size + length])
        body = data[_FIXED.size + length :]
        if header["bytes"] != len(body):
            raise CorruptEntryError("not whole")
        return _value(kind, header, body), version
    except (struct.error, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CorruptEntryError(type(error).__name__) from None


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
        )
    if kind == "reply":
        return ReplyValue(_text(header["text"]), TokenUsage(*map(_integer, header["usage"])), body)
    messages, position = [], 0
    for role, encoded in header["messages"]:
        parts: list[str | Image] = []
        for part in encoded:
            if isinstance(part, str):
                parts.append(part)
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
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("not a count")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
