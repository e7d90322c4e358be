"""Opus packets in an Ogg stream (RFC 3533, RFC 7845): what players and browsers open.

    page 0   OpusHead: channels, pre-skip, rate
    page 1   OpusTags
    page 2…  one packet each; the last says how many samples of it count

Standard library only: callers have it without any codec.
"""

import struct
from functools import cache
from typing import Final

_GRANULES_HZ: Final = 48_000
"""Positions in an Ogg stream of Opus count at this rate, whatever the audio's rate is."""
_FIRST: Final = 2
_LAST: Final = 4
_VENDOR: Final = b"voicemesh"


class OggOpus:
    """Writes one stream, as its packets come.

    Args:
        sample_rate_hz: Of the audio.
        preskip_samples: Samples that a decoder gives in front of the first one, at that rate.
        serial: Tells the stream from others in the same file.

    """

    def __init__(self, sample_rate_hz: int, preskip_samples: int, serial: int = 1) -> None:
        self._rate_hz = sample_rate_hz
        self._preskip = preskip_samples * _GRANULES_HZ // sample_rate_hz
        self._serial = serial
        self._pages = 0
        self._samples = 0
        self._tail: list[bytes] = []

    def push(self, packet: bytes, samples: int) -> bytes:
        """Take a packet that stands for so many samples; return what of the stream is complete.

        A packet that is not full, as only the end of a stream has them, waits for `finish`.
        """
        head = b"" if self._pages else self._head()
        self._samples += samples
        if self._tail or samples * 50 < self._rate_hz:
            self._tail.append(packet)
            return head
        # Up to the end all that a decoder gives is counted, the pre-skip with it.
        return head + self._page([packet], self._samples * _GRANULES_HZ // self._rate_hz)

    def finish(self) -> bytes:
        """Return the end of the stream."""
        head = b"" if self._pages else self._head()
        granule = self._samples * _GRANULES_HZ // self._rate_hz
        # What the last packets give beyond that is cut off. Without them nothing more can be counted.
        return head + self._page(self._tail, granule + (self._preskip if self._tail else 0), _LAST)

    def _head(self) -> bytes:
        # Version 1, 1 channel, no gain, mapping family 0.
        head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, self._preskip, self._rate_hz, 0, 0)
        tags = b"OpusTags" + struct.pack("<I", len(_VENDOR)) + _VENDOR + struct.pack("<I", 0)
        return self._page([head], 0, _FIRST) + self._page([tags], 0)

    def _page(self, packets: list[bytes], granule: int, flags: int = 0) -> bytes:
        lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
        page = struct.pack(
            "<4sBBqIIIB", b"OggS", 0, flags, granule, self._serial, self._pages, 0, len(lacing)
        )
        page += lacing + b"".join(packets)
        self._pages += 1
        return page[:22] + struct.pack("<I", _checksum(page)) + page[26:]


@cache
def _checksums() -> tuple[int, ...]:
    """Return the remainder of each byte by x^32 + x^26 + … + 1 (0x04C11DB7), highest bit first."""
    table = []
    for byte in range(256):
        rest = byte << 24
        for _ in range(8):
            rest = (rest << 1 ^ 0x04C11DB7 if rest & 0x80000000 else rest << 1) & 0xFFFFFFFF
        table.append(rest)
    return tuple(table)


def _checksum(page: bytes) -> int:
    table, rest = _checksums(), 0
    for byte in page:
        rest = (rest << 8) & 0xFFFFFFFF ^ table[rest >> 24 ^ byte]
    return rest
