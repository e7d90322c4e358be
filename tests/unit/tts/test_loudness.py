"""Loudness against the values that the standard and its tests give, and the gain that follows from it."""

import math
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.tts.engines.base import Capabilities
from services.tts.loudness import Levels, integrated_lufs, k_weighting, table

CAPABILITIES = Capabilities(
    sample_rate_hz=24000, slots=1, word_timings=True, deterministic=True, revision="r", default_variant="one"
)


def sine(dbfs: float, seconds: float, hz: float = 997, rate_hz: int = 48000) -> list[float]:
    """A tone whose peak is `dbfs` below full scale."""
    peak = 32768 * 10 ** (dbfs / 20)
    return [peak * math.sin(2 * math.pi * hz * i / rate_hz) for i in range(round(seconds * rate_hz))]


def pcm(samples: list[float]) -> bytes:
    return array("h", (round(sample) for sample in samples)).tobytes()


def lufs(samples: list[float], rate_hz: int = 48000) -> float:
    measured = integrated_lufs(samples, rate_hz)
    assert measured is not None
    return measured


def test_the_filters_are_those_of_the_standard():
    """BS.1770, tables 1 and 2, at 48 kHz."""
    shelf, high_pass = k_weighting(48000)
    assert shelf == pytest.approx(
        (1.53512485958697, -2.69169618940638, 1.19839281085285, -1.69065929318241, 0.73248077421585), abs=1e-9
    )
    assert high_pass == pytest.approx((1.0, -2.0, 1.0, -1.99004745483398, 0.99007225036621), abs=1e-9)


@pytest.mark.parametrize("rate_hz", [16000, 22050, 24000, 48000])
def test_a_tone_at_full_scale_is_3_01_below_its_peak(rate_hz):
    """BS.1770, annex 1: a 997 Hz sine of 0 dBFS in one channel measures -3.01."""
    # The bilinear transform bends the shelf a little at lower rates.
    within = 0.005 if rate_hz == 48000 else 0.06
    assert lufs(sine(0, 1, rate_hz=rate_hz), rate_hz) == pytest.approx(-3.01, abs=within)
    assert lufs(sine(-20, 1, rate_hz=rate_hz), rate_hz) == pytest.approx(-23.01, abs=within)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # EBU Tech 3341, cases 1 to 5, which have the tone in two channels: in one it is 3.01 LU below.
        ([(-23, 20)], -23.0),
        ([(-33, 20)], -33.0),
        ([(-36, 5), (-23, 30), (-36, 5)], -23.0),
        ([(-72, 5), (-36, 5), (-23, 30), (-36, 5), (-72, 5)], -23.0),
        ([(-26, 20), (-20, 20.1), (-26, 20)], -23.0),
    ],
    ids=["1", "2", "3", "4", "5"],
)
def test_the_cases_of_the_ebu_are_met_within_its_tolerance(parts, expected):
    # At 8 kHz, for time: the filter is the same at 1 kHz.
    samples = [sample for dbfs, seconds in parts for sample in sine(dbfs, seconds, 1000, 8000)]
    assert lufs(samples, 8000) == pytest.approx(expected - 3.01, abs=0.1)


def test_silence_and_what_is_shorter_than_a_block_have_no_loudness():
    assert integrated_lufs([0.0] * 24000, 24000) is None
    assert integrated_lufs(sine(-20, 0.39), 48000) is None
    assert integrated_lufs([], 24000) is None


def test_a_voice_is_brought_to_the_target():
    levels = Levels(CAPABILITIES, -20.0)
    quiet = pcm(sine(-24, 2, rate_hz=24000))
    assert levels.wants("one")
    levels.measure("one", quiet)
    assert not levels.wants("one")
    louder = array("h", levels.apply("one", quiet))
    assert lufs(list(louder), 24000) == pytest.approx(-20, abs=0.06)
    # The first measure counts: the gain is fixed.
    levels.measure("one", pcm(sine(-3, 2, rate_hz=24000)))
    assert levels.apply("one", quiet) == louder.tobytes()


def test_a_variant_that_was_not_measured_has_the_level_of_the_default_one():
    levels = Levels(CAPABILITIES, -20.0)
    quiet = pcm(sine(-24, 2, rate_hz=24000))
    assert levels.apply("two", quiet) == quiet
    levels.measure("one", quiet)
    assert levels.apply("two", quiet) == levels.apply("one", quiet) != quiet
    levels.measure("two", pcm(sine(-17, 2, rate_hz=24000)))
    assert levels.apply("two", quiet) == quiet  # it needs none


@pytest.mark.parametrize("dbfs", [-17.5, -16.1])
def test_what_nobody_would_notice_is_left_as_it_is(dbfs):
    levels = Levels(CAPABILITIES, -20.0)
    audio = pcm(sine(dbfs, 1, rate_hz=24000))
    levels.measure("one", audio)
    assert levels.apply("one", audio) is audio


def test_a_voice_that_is_not_evened_keeps_its_level_but_for_a_gain_of_its_own():
    audio = pcm(sine(-30, 1, rate_hz=24000))
    for levels in (Levels(CAPABILITIES), Levels(CAPABILITIES._replace(deterministic=False), -20.0)):
        assert not levels.wants("one")
        assert levels.apply("one", audio) is audio
    gained = array("h", Levels(CAPABILITIES, None, 6.0).apply("one", audio))
    assert lufs(list(gained), 24000) == pytest.approx(-30 - 3.01 + 6, abs=0.05)


def test_a_whisper_is_not_lifted_without_end():
    levels = Levels(CAPABILITIES, -20.0)
    whisper = pcm(sine(-60, 1, rate_hz=24000))
    levels.measure("one", whisper)
    assert lufs(list(array("h", levels.apply("one", whisper))), 24000) == pytest.approx(-63 + 12, abs=0.3)


@settings(max_examples=20, deadline=None)
@given(st.floats(-24, 24).map(lambda db: round(db, 1)))
def test_no_gain_clips_or_turns_round(gain_db):
    lookup = table(gain_db)
    if lookup is None:
        assert gain_db == 0
        return
    values = [lookup[sample & 0xFFFF] for sample in range(-32768, 32768)]
    assert values == sorted(values)
    assert values[0] == -values[-1] or values[0] == -values[-1] - 1 or gain_db < 0
    assert max(values) <= 32767
    assert min(values) >= -32767
    assert values[32768] == 0
    linear = [s for s in range(0, 32768, 97) if s * 10 ** (gain_db / 20) < 23000]
    assert all(abs(lookup[s] - s * 10 ** (gain_db / 20)) <= 0.5 for s in linear)


@settings(deadline=None)
@given(st.lists(st.integers(-32768, 32767), max_size=50), st.integers(0, 50))
def test_slices_change_no_sample(samples, cut):
    levels = Levels(CAPABILITIES, None, 9.0)
    audio = array("h", samples).tobytes()
    assert levels.apply("one", audio[: 2 * cut]) + levels.apply("one", audio[2 * cut :]) == levels.apply(
        "one", audio
    )
