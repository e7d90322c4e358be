"""Pictures by their first bytes: which kind they are, and how large.

What a file is named or said to be proves nothing; a provider that gets something else answers with an error
that nobody understands.
"""

from typing import Final

MEDIA_TYPES: Final = ("image/png", "image/jpeg", "image/webp", "image/gif")
"""The kinds that models read."""
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
"""JPEG markers without a length behind them."""
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers whose segment has the size: SOF0 to SOF15."""


def media_type_of(data: bytes) -> str:
    """Return the media type of a picture by its first bytes; "" for what is none of MEDIA_TYPES."""
    if data.startswith(_PNG):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    return ""


def size_of(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels; None where the first bytes do not tell."""
    size = None
    match media_type_of(data):
        case "image/png" if data[12:16] == b"IHDR" and len(data) >= 24:
            size = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
        case "image/gif" if len(data) >= 10:
            size = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
        case "image/webp":
            size = _webp(data)
        case "image/jpeg":
            size = _jpeg(data)
    return size if size is not None and all(size) else None


def _webp(data: bytes) -> tuple[int, int] | None:
    # RIFF....WEBP, then one chunk: VP8 (lossy), VP8L (lossless) or VP8X (extended).
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8 " and len(body) == 10 and body[3:6] == b"\x9d\x01\x2a":
        # 14 bits each; the two above them say how to scale.
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    if kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X" and len(body) == 10:
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    # FFD8, then segments: FF, a marker, two bytes of length that count themselves, content.
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2  # a fill byte, or a marker alone
            continue
        if marker in _FRAMES:
            if at + 9 > len(data):
                return None
            return int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        at += 2 + max(int.from_bytes(data[at + 2 : at + 4]), 2)
    return None
