"""Encoded audio: what a caller may ask for, and an encoder for each turn.

Everything inside the mesh is PCM at the wanted rate: engines make it, the cache keeps it, the turn
engine counts it. What is packed is packed here, at the last step before the caller, so that one
cached chunk serves callers of every encoding, and an interrupted turn leaves nothing behind.

    PCM frames     |== 20 ==|== 20 ==|==== 40 ====|======== 80 ========|  …   ms
    Opus packets   |== 20 ==|== 20 ==|== 20 ==|== 20 ==|== 20 ==| …           one frame each
    FLAC blocks    |=== 26 ===|=== 26 ===|=== 26 ===|=== 26 ===| …            as many as are full

An encoder's stream is that of a whole turn. What fills no block yet waits for the next audio, or for
the end of the turn.

PyAV (extra `codecs`) does the packing; mu-law needs no package. It is imported when the gateway starts
(`load`): libraries are loaded with Python's lock held, so that a thread would not spare turns that run.
"""

import contextlib
import importlib
import os
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple, Protocol

from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.errors import InvalidFieldError
from voicemesh.runtime.frames import BYTES_PER_SAMPLE, SAMPLE_RATES_HZ

PCM: Final = common_pb2.AUDIO_ENCODING_PCM_S16LE
_PREFIX: Final = "AUDIO_ENCODING_"
_TO_FLOAT: Final = 1 / 32768
_ADTS_BYTES: Final = 7
_ADTS_RATES: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)


class Packet(NamedTuple):
    """What an encoder gives: bytes, and how many samples of the turn they are."""

    audio: bytes
    samples: int
    """0 for what only completes the stream."""


class Encoder(Protocol):
    """Encodes one turn."""

    def push(self, pcm: bytes) -> list[Packet]:
        """Take s16le mono PCM; return what is complete."""
        ...

    def finish(self) -> list[Packet]:
        """Return what is left at the end of the turn."""
        ...


# ---- what there is --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Codec:
    """An encoding that PyAV makes."""

    name: str
    sample_format: str
    options: dict[str, str]
    bit_rate: int = 0
    rates_hz: tuple[int, ...] = ()
    """The only ones that it has; empty for any."""
    one_by_one: bool = False
    """True where nothing in the bytes tells packets apart: each must travel alone."""

    def preskip_samples(self, rate_hz: int) -> int:
        """Return the samples that its decoder gives in front of the first one."""
        if self.name == "libopus":
            return 312 * rate_hz // 48000  # its lookahead of 6.5 ms
        return {"libmp3lame": 1105, "aac": 1024}.get(self.name, 0)


# What MPEG has rates for; LAME knows those of MPEG-2.5 too.
_MPEG_RATES: Final = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)

# The times behind these choices are in docs/audio.md.
_CODECS: Final[dict[int, _Codec]] = {
    common_pb2.AUDIO_ENCODING_OPUS: _Codec(
        "libopus",
        "s16",
        {"application": "audio", "frame_duration": "20", "compression_level": "5"},
        32_000,
        (8000, 12000, 16000, 24000, 48000),
        one_by_one=True,
    ),
    # Levels up to 2 have blocks of at most 27 ms; those above have 105 ms, which a listener would wait for.
    common_pb2.AUDIO_ENCODING_FLAC: _Codec("flac", "s16", {"compression_level": "2"}),
    common_pb2.AUDIO_ENCODING_MP3: _Codec(
        "libmp3lame", "s16p", {"compression_level": "7"}, 64_000, _MPEG_RATES
    ),
    common_pb2.AUDIO_ENCODING_AAC: _Codec("aac", "fltp", {"aac_coder": "fast"}, 64_000, _MPEG_RATES),
}


def heard_format(
    wanted: common_pb2.AudioFormat, own_rate_hz: int, voice: str, field: str
) -> common_pb2.AudioFormat:
    """Return the format of a turn's frames.

    Args:
        wanted: What the caller asks for.
        own_rate_hz: The rate of the voice.
        voice: Its name, for errors.
        field: The path of `wanted` in the request.

    Raises:
        InvalidFieldError: It is not to be had; the text says what is.

    """
    encoding = wanted.encoding or PCM
    codec = _CODECS.get(encoding)
    _check_encoding(encoding, codec, field)
    offered = (codec.rates_hz if codec else ()) or tuple(sorted({*SAMPLE_RATES_HZ, own_rate_hz}))
    rate_hz = wanted.sample_rate_hz or _next_rate(own_rate_hz, offered)
    if rate_hz not in offered:
        of = f"{_name(encoding)} of the voice {voice}"
        rates = ", ".join(map(str, offered))
        raise InvalidFieldError(
            f"{field}.sample_rate_hz", f"{rate_hz} is not to be had: {of} is offered at {rates} Hz"
        )
    if wanted.channels not in (0, 1):
        raise InvalidFieldError(
            f"{field}.channels", f"{wanted.channels} is not to be had: speech has 1 channel"
        )
    return common_pb2.AudioFormat(
        encoding=encoding,
        sample_rate_hz=rate_hz,
        channels=1,
        preskip_samples=codec.preskip_samples(rate_hz) if codec else 0,
    )


def _check_encoding(encoding: common_pb2.AudioEncoding.ValueType, codec: _Codec | None, field: str) -> None:
    if codec is not None and (trouble := load()):
        raise InvalidFieldError(
            f"{field}.encoding",
            f"{_name(encoding)} is not to be had: {trouble} (pip install 'voicemesh[codecs]'); "
            "there are PCM_S16LE and MULAW",
        )
    if codec is None and encoding not in (PCM, common_pb2.AUDIO_ENCODING_MULAW):
        known = ", ".join(_name(number) for number in common_pb2.AudioEncoding.values() if number)
        raise InvalidFieldError(f"{field}.encoding", f"{encoding} is no encoding; there are {known}")


def _next_rate(own_rate_hz: int, offered: tuple[int, ...]) -> int:
    return min((hz for hz in offered if hz >= own_rate_hz), default=offered[-1])


def _name(encoding: common_pb2.AudioEncoding.ValueType) -> str:
    return common_pb2.AudioEncoding.Name(encoding).removeprefix(_PREFIX)


@cache
def load() -> str:
    """Load what packs, which takes 0.2 s and 19 MB; return why that cannot be done, "" where it was."""
    try:
        importlib.import_module("av")
    except ModuleNotFoundError as error:
        return f"the package {error.name} is not installed where the gateway runs"
    except (ImportError, OSError) as error:
        return f"the package av does not load where the gateway runs ({error})"
    return ""


def encoder_for(audio: common_pb2.AudioFormat) -> Encoder | None:
    """Return an encoder of a turn; None for PCM, which is sent as it is."""
    codec = _CODECS.get(audio.encoding)
    if codec is not None:
        return CodecEncoder(codec, audio.sample_rate_hz)
    return MuLawEncoder() if audio.encoding == common_pb2.AUDIO_ENCODING_MULAW else None


# ---- mu-law ---------------------------------------------------------------------------------------


class MuLawEncoder:
    """ITU-T G.711 mu-law: each sample becomes a byte, and none waits."""

    def push(self, pcm: bytes) -> list[Packet]:
        """See `Encoder`."""
        table = _mu_law()
        samples = array("H", pcm)
        if sys.byteorder == "big":
            samples.byteswap()
        return [Packet(bytes(map(table.__getitem__, samples)), len(samples))]

    def finish(self) -> list[Packet]:
        """See `Encoder`."""
        return []


@cache
def _mu_law() -> bytes:
    """Return the code of each 16-bit sample, by its bits read as an unsigned number.

    ITU-T G.711, table 2a: of 14 bits, with a bias of 33 the position of the highest bit is the segment,
    and the four bits behind it are the step. All bits of a code are inverted.
    """
    codes = bytearray(65536)
    for sample in range(-32768, 32768):
        biased = min((abs(sample) >> 2) + 33, 0x1FFF)
        segment = biased.bit_length() - 6
        code = segment << 4 | (biased >> (segment + 1)) & 0x0F
        codes[sample & 0xFFFF] = ~(code | (0x80 if sample < 0 else 0)) & 0xFF
    return bytes(codes)


# ---- what PyAV makes ------------------------------------------------------------------------------


class CodecEncoder:
    """An encoder of libav. It is opened with the first audio, by whoever brings it."""

    def __init__(self, codec: _Codec, rate_hz: int) -> None:
        self._codec = codec
        self._rate_hz = rate_hz
        self._av: Any = None
        self._context: Any = None
        self._pending = bytearray()
        self._block = 0
        self._taken = 0
        self._told = 0
        self._header = b""
        self._begun = False

    def push(self, pcm: bytes) -> list[Packet]:
        """See `Encoder`."""
        if self._context is None:
            self._open()
        self._pending += pcm
        size = self._block * BYTES_PER_SAMPLE
        packets: list[bytes] = []
        while len(self._pending) >= size:
            packets += self._encode(bytes(self._pending[:size]))
            del self._pending[:size]
        return self._packed(packets)

    def finish(self) -> list[Packet]:
        """See `Encoder`."""
        if self._context is None:
            return []
        packets = self._encode(bytes(self._pending)) if self._pending else []
        self._pending.clear()
        return self._packed(packets + self._framed(self._context.encode(None)))

    def _open(self) -> None:
        self._av = importlib.import_module("av")
        codec = self._codec
        context = self._av.CodecContext.create(codec.name, "w")
        context.sample_rate = self._rate_hz
        context.layout = "mono"
        context.format = codec.sample_format
        if codec.bit_rate:
            context.bit_rate = codec.bit_rate
        context.options = codec.options
        context.open()
        self._context = context
        self._block = context.frame_size
        if codec.name == "flac":
            # "fLaC", and STREAMINFO as the only block of the header: RFC 9639, section 8.
            self._header = b"fLaC\x80\x00\x00\x22" + bytes(context.extradata)

    def _encode(self, pcm: bytes) -> list[bytes]:
        """Encode one block, or less than one at the end of the turn."""
        samples = len(pcm) // BYTES_PER_SAMPLE
        frame = self._av.AudioFrame(format=self._codec.sample_format, layout="mono", samples=samples)
        frame.sample_rate = self._rate_hz
        frame.pts = self._taken
        native = pcm
        if self._codec.sample_format == "fltp":
            native = array("f", map(_TO_FLOAT.__mul__, _samples(pcm))).tobytes()
        frame.planes[0].update(native)
        self._taken += samples
        with contextlib.nullcontext() if self._begun else _one_cpu():
            self._begun = True
            return self._framed(self._context.encode(frame))

    def _framed(self, packets: list[Any]) -> list[bytes]:
        if self._codec.name != "aac":
            return [bytes(packet) for packet in packets]
        return [_adts_header(self._rate_hz, packet.size) + bytes(packet) for packet in packets]

    def _packed(self, parts: list[bytes]) -> list[Packet]:
        """Put parts into packets, each with the samples that it stands for."""
        packets = []
        for part in parts:
            samples = min(self._block, self._taken - self._told)
            self._told += samples
            packets.append(Packet(part, samples))
        if self._codec.one_by_one or not packets:
            return packets
        header, self._header = self._header, b""
        audio = b"".join((header, *(packet.audio for packet in packets)))
        return [Packet(audio, sum(packet.samples for packet in packets))]


@contextlib.contextmanager
def _one_cpu() -> Iterator[None]:
    """Have the calling thread see one CPU only.

    PyAV puts a filter graph in front of every encoder, which starts a thread for each CPU that it sees, up to
    16 for a turn, and gives them nothing to do. It has no setting for that (tried with 18.1).
    """
    try:
        cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cpus)})
    except (AttributeError, OSError):  # not Linux, or not allowed: more threads, and no harm
        yield
        return
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


def _samples(pcm: bytes) -> "array[int]":
    samples = array("h", pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def _adts_header(rate_hz: int, size: int) -> bytes:
    """Return the header of an AAC frame of `size` bytes: ISO/IEC 13818-7, section 6.2, without a CRC.

    syncword 12 | MPEG-4 1 | layer 2 | no CRC 1 | LC 2 | rate 4 | private 1 | channels 3 | 4 * 0 |
    length 13 | fullness 11 | frames - 1 2
    """
    length = size + _ADTS_BYTES
    bits = 0xFFF << 44 | 0b0001 << 40 | 1 << 38 | _ADTS_RATES.index(rate_hz) << 34 | 1 << 30
    bits |= length << 13 | 0x7FF << 2
    return bits.to_bytes(_ADTS_BYTES, "big")
