"""How loud a voice is, and the gain that evens it with others.

    engine's samples ── gain, by a table ──> edges ──> …

Loudness is that of ITU-R BS.1770-5: power behind a filter that stands for head and ear, of blocks of
400 ms that are not pauses. A voice is measured once, on a text that it speaks; the gain is fixed from
then on, so that the same request keeps giving the same samples. It is off where it would change
less than 1 dB, which hardly anybody hears: so the usual voice costs nothing.

What a gain lifts above -3 dBFS is bent towards full scale, which it never reaches: sample by sample,
without a delay and without a memory, so that slices change nothing.

Workers import this module: standard library only. A second of audio takes about 10 ms to measure and
5 ms to scale (`benchmarks/audio_formats.py`); with numpy, where an engine has loaded it, much less.
"""

import math
import sys
import threading
from array import array
from collections.abc import Iterable
from typing import Any, Final

from services.tts.engines.base import Capabilities

RENDERING: Final = 1
"""Raised whenever this module makes other samples of the same audio."""

TARGET_LUFS: Final = -20.0
"""As loud as espeak-ng speaks. Between broadcast (EBU R 128: -23) and streams (AES TD1008: -18 for speech):
it leaves speech, whose peaks are 12 to 18 dB above its loudness, nearly all of its headroom."""
TEXT: Final = "The first sentence warms the voice."
"""What is measured: the text that warms a voice, so that its default variant is measured on the way."""

_LEAST_DB: Final = 1.0
"""About the least difference in level that is noticed (Zwicker and Fastl, Psychoacoustics, section 7.2)."""
_MOST_DB: Final = 12.0
_KNEE: Final = 32768 * 10 ** (-3 / 20)
_CEILING: Final = 32767.0
_BLOCK_MS: Final = 400
_HOP_MS: Final = 100
_ABSOLUTE_GATE_LUFS: Final = -70.0
_RELATIVE_GATE_LU: Final = -10.0
_OFFSET_LU: Final = -0.691

Biquad = tuple[float, float, float, float, float]
"""b0, b1, b2, a1, a2 of a filter whose a0 is 1."""


def k_weighting(rate_hz: int) -> tuple[Biquad, Biquad]:
    """Return the two filters of BS.1770, annex 1, for any rate.

    The standard has their coefficients at 48 kHz only. These are the analogue prototypes behind them
    (a shelf and a high pass), put through the bilinear transform: at 48 kHz they are the standard's.
    """
    k = math.tan(math.pi * 1681.974450955533 / rate_hz)
    q, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    middle = high**0.4996667741545416
    scale = 1 + k / q + k * k
    shelf = (
        (high + middle * k / q + k * k) / scale,
        2 * (k * k - high) / scale,
        (high - middle * k / q + k * k) / scale,
        2 * (k * k - 1) / scale,
        (1 - k / q + k * k) / scale,
    )
    k, q = math.tan(math.pi * 38.13547087602444 / rate_hz), 0.5003270373238773
    scale = 1 + k / q + k * k
    return shelf, (1.0, -2.0, 1.0, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale)


def integrated_lufs(samples: Iterable[float], rate_hz: int) -> float | None:
    """Return the loudness of mono audio; None where no block of it is above the absolute gate.

    Args:
        samples: Full scale is 32768.
        rate_hz: Samples per second.

    """
    hops = _hop_powers(samples, rate_hz)
    count = _BLOCK_MS // _HOP_MS
    length = _HOP_MS * rate_hz // 1000 * count
    powers = [sum(hops[at : at + count]) / length for at in range(len(hops) - count + 1)]
    loud = [power for power in powers if _lufs(power) > _ABSOLUTE_GATE_LUFS]
    if not loud:
        return None
    gate = _lufs(sum(loud) / len(loud)) + _RELATIVE_GATE_LU
    loud = [power for power in loud if _lufs(power) > gate]
    return _lufs(sum(loud) / len(loud))


def _hop_powers(samples: Iterable[float], rate_hz: int) -> list[float]:
    """Return the sum of the weighted squares of each whole 100 ms."""
    (b0, b1, b2, a1, a2), (_, c1, c2, d1, d2) = k_weighting(rate_hz)
    length = _HOP_MS * rate_hz // 1000
    s1 = s2 = t1 = t2 = power = 0.0
    left = length
    powers = []
    # Transposed direct form II, both filters in one loop: it runs once a sample.
    for sample in samples:
        y = b0 * sample + s1
        s1 = b1 * sample - a1 * y + s2
        s2 = b2 * sample - a2 * y
        z = y + t1
        t1 = c1 * y - d1 * z + t2
        t2 = c2 * y - d2 * z
        power += z * z
        left -= 1
        if not left:
            powers.append(power / 32768**2)
            power, left = 0.0, length
    return powers


def _lufs(power: float) -> float:
    return _OFFSET_LU + 10 * math.log10(power) if power > 0 else -math.inf


class Levels:
    """The gains of a voice's variants. For any thread.

    Args:
        capabilities: Of its engine.
        target_lufs: How loud it is to be; None to leave it as loud as it is.
        gain_db: What is added to that.

    """

    def __init__(
        self, capabilities: Capabilities, target_lufs: float | None = None, gain_db: float = 0.0
    ) -> None:
        self._rate_hz = capabilities.sample_rate_hz
        # What never sounds the same twice would be measured differently by each replica.
        self._target_lufs = target_lufs if capabilities.deterministic else None
        self._gain_db = gain_db
        self._default_variant = capabilities.default_variant
        self._tables: dict[str, array[int] | None] = {}
        self._lock = threading.Lock()
        # An engine is loaded by now. One that needs numpy has it; the others are spared it.
        self._np = sys.modules.get("numpy")
        if self._target_lufs is None:
            self._tables[self._default_variant] = table(gain_db)

    def wants(self, variant: str) -> bool:
        """Return whether a variant is still to be measured."""
        return self._target_lufs is not None and variant not in self._tables

    def measure(self, variant: str, pcm: bytes) -> None:
        """Take s16le mono PCM of a variant at the engine's rate; the first one counts."""
        with self._lock:
            if not self.wants(variant):
                return
            assert self._target_lufs is not None
            lufs = integrated_lufs(_samples(pcm), self._rate_hz)
            gain_db = 0.0 if lufs is None else self._target_lufs - lufs
            gain_db = max(-_MOST_DB, min(_MOST_DB, gain_db))
            measured_db = gain_db if abs(gain_db) >= _LEAST_DB else 0.0
            self._tables[variant] = table(round(measured_db + self._gain_db, 1))

    def apply(self, variant: str, pcm: bytes) -> bytes:
        """Return s16le mono PCM at the variant's level; that of the default one while it is not measured."""
        lookup = self._tables.get(variant if variant in self._tables else self._default_variant)
        if lookup is None or not pcm:
            return pcm
        if self._np is not None:
            return _looked_up(self._np, lookup, pcm)
        samples = array("H", pcm)
        if sys.byteorder == "big":
            samples.byteswap()
        scaled = array("h", map(lookup.__getitem__, samples))
        if sys.byteorder == "big":
            scaled.byteswap()
        return scaled.tobytes()


def _looked_up(np: Any, lookup: "array[int]", pcm: bytes) -> bytes:
    return bytes(np.frombuffer(lookup, np.int16)[np.frombuffer(pcm, "<u2")].astype("<i2").tobytes())


def table(gain_db: float) -> "array[int] | None":
    """Return what becomes of each 16-bit sample, by its bits read as an unsigned number; None for 0 dB."""
    if not gain_db:
        return None
    gain = 10 ** (gain_db / 20)
    room = _CEILING - _KNEE
    # Below 0 dB nothing comes near full scale that was not there before: it stays as it is.
    bends_at = _KNEE if gain > 1 else math.inf
    half = []
    for magnitude in range(32769):
        level = magnitude * gain
        if level > bends_at:
            level = _KNEE + room * math.tanh((level - _KNEE) / room)
        half.append(min(32767, round(level)))
    return array("h", (*half[:32768], *(-level for level in half[:0:-1])))


def _samples(pcm: bytes) -> "array[int]":
    samples = array("h", pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples
