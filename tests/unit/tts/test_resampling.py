"""Audio at other rates: the same samples in whatever slices they come, and of the right length."""

import itertools
import math
import sys
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.tts import resampling
from services.tts.engines.base import CannotSpeakError
from services.tts.resampling import Resampler, SameRate, rates
from voicemesh.runtime.frames import SAMPLE_RATES_HZ

RATES = st.sampled_from(SAMPLE_RATES_HZ)


def speech_like(rate_hz: int, samples: int) -> bytes:
    """Harmonics of 140 Hz that swell and ebb, up to full scale."""
    values = (
        sum(math.sin(2 * math.pi * 140 * k * i / rate_hz) / k for k in range(1, 12))
        * (0.6 + 0.4 * math.sin(2 * math.pi * 3 * i / rate_hz))
        for i in range(samples)
    )
    return array("h", (max(-32768, min(32767, round(20000 * value))) for value in values)).tobytes()


def sine(rate_hz: int, hz: float, samples: int, peak: float = 16000) -> bytes:
    return array(
        "h", (round(peak * math.sin(2 * math.pi * hz * i / rate_hz)) for i in range(samples))
    ).tobytes()


def whole(engine_hz: int, wanted_hz: int, pcm: bytes) -> bytes:
    stage = Resampler(engine_hz, wanted_hz)
    return stage.push(pcm) + stage.finish()


def level(pcm: bytes, rate_hz: int, hz: float) -> float:
    """Return the magnitude of one frequency in PCM, leaving out its first and last 50 ms."""
    samples = array("h", pcm)[rate_hz // 20 : -rate_hz // 20]
    step = 2 * math.pi * hz / rate_hz
    real = sum(value * math.cos(step * i) for i, value in enumerate(samples))
    imaginary = sum(value * math.sin(step * i) for i, value in enumerate(samples))
    return 2 * math.hypot(real, imaginary) / len(samples)


@settings(max_examples=60, deadline=None)
@given(
    engine_hz=RATES,
    wanted_hz=RATES,
    samples=st.integers(0, 20_000),
    cuts=st.lists(st.integers(0, 20_000), max_size=30),
)
def test_slices_change_no_sample(engine_hz, wanted_hz, samples, cuts):
    pcm = speech_like(16000, samples)
    stage = rates(engine_hz, wanted_hz)
    edges = [0, *sorted(min(cut, samples) for cut in cuts), samples]
    sliced = b"".join(stage.push(pcm[2 * begin : 2 * end]) for begin, end in itertools.pairwise(edges))
    sliced += stage.finish()
    again = rates(engine_hz, wanted_hz)
    assert sliced == again.push(pcm) + again.finish()
    # As long as the audio was, to the nearest sample.
    assert abs(len(sliced) // 2 * engine_hz - samples * wanted_hz) * 2 <= engine_hz


@pytest.mark.parametrize("wanted_hz", [hz for hz in SAMPLE_RATES_HZ if hz != 22050])
def test_a_tone_keeps_its_pitch_and_its_level(wanted_hz):
    pcm = whole(22050, wanted_hz, sine(22050, 1000, 22050))
    assert level(pcm, wanted_hz, 1000) == pytest.approx(16000, rel=0.002)


def test_what_the_wanted_rate_cannot_hold_is_filtered_out():
    """A tone of 6 kHz would be heard at 2 kHz, at 8,000 samples a second."""
    pcm = whole(22050, 8000, sine(22050, 6000, 22050))
    assert level(pcm, 8000, 2000) < 1
    assert max(map(abs, array("h", pcm)[800:-800])) <= 2


def test_a_wave_that_goes_above_full_scale_between_samples_is_clipped_and_not_wrapped():
    square = array("h", [32767] * 12 + [-32768] * 12) * 200
    samples = array("h", whole(24000, 48000, square.tobytes()))
    # Within the half-waves nothing jumps to the other side.
    assert all(value > 0 for value in samples[48 * 50 + 6 : 48 * 50 + 18])
    assert max(samples) == 32767
    assert min(samples) == -32768


def test_silence_stays_silence():
    assert whole(22050, 48000, bytes(2 * 5000)).strip(b"\0") == b""


def test_positions_are_counted_at_both_rates():
    stage = Resampler(24000, 8000)
    assert (stage.wanted(24000), stage.engines(8000)) == (8000, 24000)
    assert (SameRate().wanted(7), SameRate().engines(7)) == (7, 7)
    assert isinstance(rates(24000, 0), SameRate)
    assert isinstance(rates(24000, 24000), SameRate)


def test_a_missing_package_is_named(monkeypatch):
    resampling.missing.cache_clear()
    assert resampling.missing() == ""
    stage = Resampler(22050, 8000)
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(CannotSpeakError, match=r"8000 Hz .* soxr"):
        stage.push(bytes(200))
