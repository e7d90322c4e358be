"""Audio at other rates: the same samples in whatever slices they come, and of the right length."""

import itertools
import math
import sys
from array import array

import numpy as np
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


HIGHER = list(itertools.combinations(SAMPLE_RATES_HZ, 2))


@pytest.mark.parametrize(("engine_hz", "wanted_hz"), HIGHER)
def test_a_higher_rate_keeps_close_behind_what_goes_in(engine_hz, wanted_hz):
    """Not at the beginning alone: an engine that speaks in real time is heard without a gap."""
    stage = Resampler(engine_hz, wanted_hz)
    slice_samples = engine_hz // 500
    pushed = made = 0
    behind = 0.0
    for _ in range(1000):
        pushed += slice_samples
        made += len(stage.push(bytes(2 * slice_samples))) // 2
        behind = max(behind, pushed - made * engine_hz / wanted_hz)
    assert behind <= 242


@pytest.mark.parametrize(("engine_hz", "wanted_hz"), [*HIGHER, *((high, low) for low, high in HIGHER)])
def test_what_is_further_back_than_the_context_leaves_no_trace(engine_hz, wanted_hz):
    """Noise, in which every sample counts, goes on bit by bit behind samples that were left out."""
    noise = np.random.default_rng(5).normal(0, 6000, 2 * engine_hz).astype("<i2").tobytes()
    made = whole(engine_hz, wanted_hz, noise)
    stage = Resampler(engine_hz, wanted_hz)
    left_out = engine_hz
    given = stage.skip(left_out)
    rest = stage.push(noise[2 * left_out :]) + stage.finish()
    assert 2 * given + len(rest) == len(made)
    heard = 2 * (stage.wanted(left_out + stage.context_samples) + 1)
    assert made[heard:] == rest[heard - 2 * given :]
    assert made[2 * given :] != rest


@pytest.mark.parametrize(
    ("engine_hz", "wanted_hz"),
    [
        (22050, 8000),
        (22050, 16000),
        (22050, 24000),
        (22050, 48000),
        (24000, 8000),
        (24000, 22050),
        (48000, 8000),
    ],
)
def test_it_is_the_same_wave(engine_hz, wanted_hz):
    """Held against the wave itself, computed at the wanted rate: level, direct current, phase and noise."""
    tones = {200.0: 3000.0, 700.0: 4000.0, 1900.0: 4000.0, 0.42 * min(engine_hz, wanted_hz): 4000.0}
    seconds = np.arange(2 * engine_hz) / engine_hz
    wave = 1000 + sum(peak * np.sin(2 * np.pi * hz * seconds) for hz, peak in tones.items())
    made = np.frombuffer(whole(engine_hz, wanted_hz, np.rint(wave).astype("<i2").tobytes()), "<i2")
    kept = slice(wanted_hz // 4, -wanted_hz // 4)
    heard, seconds = made[kept].astype(float), (np.arange(len(made)) / wanted_hz)[kept]
    parts = [np.ones_like(seconds)]
    for hz in tones:
        parts += [np.sin(2 * np.pi * hz * seconds), np.cos(2 * np.pi * hz * seconds)]
    fit, *_ = np.linalg.lstsq(np.stack(parts, axis=1), heard, rcond=None)
    assert fit[0] == pytest.approx(1000, abs=0.5)
    late_us = []
    for index, (hz, peak) in enumerate(tones.items()):
        sine, cosine = fit[1 + 2 * index : 3 + 2 * index]
        assert np.hypot(sine, cosine) == pytest.approx(peak, rel=0.001)
        late_us.append(-np.arctan2(cosine, sine) / (2 * np.pi * hz) * 1e6)
    # It comes when it is due: within half a sample of 44,100 Hz, and every part of it.
    assert max(map(abs, late_us)) < 12
    assert max(late_us) - min(late_us) < 2
    # What is left is two times the rounding of samples.
    assert np.std(heard - np.stack(parts, axis=1) @ fit) < 0.6


@pytest.mark.parametrize("engine_hz", [22050, 24000, 48000])
def test_of_noise_only_what_the_wanted_rate_can_hold_is_left(engine_hz):
    """Noise has no gaps in which an image could hide: of what is above 4 kHz nothing is heard at 8,000 Hz."""
    noise = np.random.default_rng(1).normal(0, 6000, 4 * engine_hz)
    spectrum = np.fft.rfft(noise)
    hz = np.fft.rfftfreq(len(noise), 1 / engine_hz)
    spectrum[hz < 4400] = 0
    only_above = np.clip(np.rint(np.fft.irfft(spectrum)), -32768, 32767).astype("<i2")
    heard = np.frombuffer(whole(engine_hz, 8000, only_above.tobytes()), "<i2")[800:-800]
    assert np.abs(heard).max() <= 2
