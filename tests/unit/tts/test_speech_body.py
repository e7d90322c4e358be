"""Bodies that should be PCM."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.engines.speech_body import NotPcmError, PcmBody
from tests.support.openai_speech import wav_of

RATE_HZ = 24000
PCM = bytes(range(256)) * 8


def read(body: bytes, cuts: list[int]) -> bytes:
    reader = PcmBody(RATE_HZ)
    out, start = [], 0
    for cut in [*sorted(cut % (len(body) + 1) for cut in cuts), len(body)]:
        out.append(reader.push(body[start:cut]))
        assert len(out[-1]) % 2 == 0
        start = cut
    return b"".join((*out, reader.finish()))


@given(st.lists(st.integers(0, 5000), max_size=12), st.sampled_from([PCM, b"RIFF" + PCM, b"RI", b"R", b""]))
def test_pcm_comes_out_whole_however_it_is_sliced(cuts, body):
    assert read(body, cuts) == body[: len(body) & ~1]


@given(st.lists(st.integers(0, 5000), max_size=12))
def test_a_wav_header_is_left_out(cuts):
    plain = wav_of(PCM, RATE_HZ)
    # As servers that stream write it: a list in front of the samples, and sizes that nobody knows.
    listed = plain[:36] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + b"data\xff\xff\xff\xff" + PCM
    assert read(plain, cuts) == PCM
    assert read(listed, cuts) == PCM


def test_half_a_sample_at_the_end_is_dropped():
    assert read(PCM + b"x", []) == PCM


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (wav_of(PCM, 8000), "8000 Hz: set the option sample_rate_hz to 8000"),
        (wav_of(PCM, RATE_HZ, channels=2), "2 channels"),
        (b"ID3" + PCM, "MP3"),
        (b"OggS" + PCM, "Ogg"),
        (b"fLaC" + PCM, "FLAC"),
        (b"<!DOCTYPE html>", "HTML"),
        (b"RIFF\xff\xff\xff\xffWAVEjunk" + struct.pack("<I", 2**31) + PCM, "without samples"),
    ],
)
def test_what_is_no_pcm_is_told(body, says):
    with pytest.raises(NotPcmError, match=says):
        read(body, [])


def test_a_header_that_ends_early_gives_nothing():
    assert read(wav_of(PCM)[:20], []) == b""
