"""The body of an answer that should be s16le mono PCM, however it is sliced: whole samples come out.

Some servers put a WAV header in front although PCM was asked for; it is left out where it announces
what was asked for. Anything else that is no PCM is told by its first bytes, as far as it can be.

    RIFF size WAVE  | "fmt " size  u16 format, u16 channels, u32 rate, …, u16 bits | … | "data" size | PCM
"""

import struct
from typing import Final

_RIFF_BYTES: Final = 12
_CHUNK: Final = struct.Struct("<4sI")
_FORMAT: Final = struct.Struct("<HHIIHH")
_PCM_FORMATS: Final = (1, 0xFFFE)
_MOST_HEADER_BYTES: Final = 65536
_OTHERS: Final = {
    b"OggS": "Ogg",
    b"fLaC": "FLAC",
    b"ID3": "MP3",
    b"<!DO": "a page of HTML",
    b"<htm": "a page of HTML",
}


class NotPcmError(Exception):
    """The body is something else; the text says what."""


class PcmBody:
    """Takes slices of a body; gives whole samples.

    Args:
        sample_rate_hz: What a header must announce, where there is one.

    """

    def __init__(self, sample_rate_hz: int) -> None:
        self._rate_hz = sample_rate_hz
        self._begun = False
        self._held = b""

    def push(self, data: bytes) -> bytes:
        """Return the samples that are whole now.

        Raises:
            NotPcmError: It is no PCM, or PCM of another form.

        """
        data = self._held + data
        if not self._begun:
            start = self._start(data)
            if start is None:
                self._held = data
                return b""
            self._begun, data = True, data[start:]
        whole = len(data) & ~1
        self._held = data[whole:]
        return data[:whole]

    def finish(self) -> bytes:
        """Return what was held because it might have been a header; half a sample is dropped."""
        held, self._held = self._held, b""
        if self._begun or held[:4] == b"RIFF":
            return b""
        self._begun = True
        return held[: len(held) & ~1]

    def _start(self, data: bytes) -> int | None:
        """Return where the samples begin; None where that cannot be told yet."""
        if len(data) < 4:
            return None
        for mark, name in _OTHERS.items():
            if data.startswith(mark):
                raise NotPcmError(f"it sent {name} where PCM was asked for")
        if not data.startswith(b"RIFF"):
            return 0
        return self._behind_header(data)

    def _behind_header(self, data: bytes) -> int | None:
        if len(data) >= _RIFF_BYTES and data[8:12] != b"WAVE":
            return 0  # samples that look like the first mark by chance
        at = _RIFF_BYTES
        while len(data) >= at + _CHUNK.size:
            name, size = _CHUNK.unpack_from(data, at)
            at += _CHUNK.size
            if name == b"data":
                return at
            if name == b"fmt " and len(data) >= at + _FORMAT.size:
                self._check(*_FORMAT.unpack_from(data, at))
            at += size + size % 2
        if max(at, len(data)) > _MOST_HEADER_BYTES:
            raise NotPcmError("it sent a WAV file without samples")
        return None

    def _check(self, form: int, channels: int, rate_hz: int, _rate: int, _align: int, bits: int) -> None:
        if form not in _PCM_FORMATS or channels != 1 or bits != 16:
            raise NotPcmError(
                f"it sent a WAV file of {channels} channels and {bits} bits, where mono of 16 was asked for"
            )
        if rate_hz != self._rate_hz:
            raise NotPcmError(f"it sent {rate_hz} Hz: set the option sample_rate_hz to {rate_hz}")
