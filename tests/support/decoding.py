"""What a player makes of encoded audio: PyAV and numpy, as a caller would use them."""

import io
import struct
from collections.abc import Iterable
from typing import Any

import av
import numpy as np

Samples = Any
"""An array of numpy; its type is of no help here."""


def samples_of(pcm: bytes) -> Samples:
    """Return s16le PCM as numbers."""
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def decoded_file(data: bytes) -> tuple[Samples, int]:
    """Return the samples of a file in memory, whatever it is, and their rate."""
    with av.open(io.BytesIO(data)) as box:
        parts = list(box.decode(audio=0))
        return _joined(parts), box.streams.audio[0].codec_context.sample_rate


def decoded_opus(packets: Iterable[bytes], rate_hz: int, preskip_samples: int) -> Samples:
    """Return the samples of raw Opus packets, one decoder for all, at 48 kHz; the pre-skip is left out."""
    context = av.CodecContext.create("opus", "r")
    preskip = preskip_samples * 48000 // rate_hz
    context.extradata = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 0, rate_hz, 0, 0)
    parts: list[Any] = []
    for packet in packets:
        parts += context.decode(av.Packet(packet))
    parts += context.decode(None)
    return _joined(parts)[preskip:]


def _joined(frames: list[Any]) -> Samples:
    parts = []
    for frame in frames:
        values = frame.to_ndarray().reshape(-1).astype(np.float64)
        parts.append(values * 32768 if "flt" in frame.format.name else values)
    return np.concatenate(parts) if parts else np.zeros(0)


def decoded_mu_law(data: bytes) -> Samples:
    """Return the samples of G.711 mu-law, by the formula of its decoder."""
    codes = ~np.frombuffer(data, np.uint8).astype(int) & 0xFF
    magnitude = (((codes & 0x0F) * 2 + 33) << (codes >> 4 & 7)) - 33
    return np.asarray(np.where(codes & 0x80, -magnitude, magnitude) * 4, dtype=np.float64)


def likeness(one: Samples, other: Samples) -> float:
    """Return how alike two waves are, sample by sample: 1 for the same but for loudness, 0 for unrelated."""
    length = min(len(one), len(other))
    one, other = one[:length], other[:length]
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))
