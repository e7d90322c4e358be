"""Encoders: what they give back is what went in, and which formats are offered."""

import itertools
import math
import sys
from array import array

import av
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import encoding
from gateway.encoding import Packet, encoder_for, heard_format
from tests.support.decoding import decoded_file, decoded_mu_law, decoded_opus, likeness, samples_of
from voicemesh.common.v1 import common_pb2 as common
from voicemesh.runtime.errors import InvalidFieldError
from voicemesh.runtime.frames import SAMPLE_RATES_HZ

PACKED = {
    "opus": common.AUDIO_ENCODING_OPUS,
    "flac": common.AUDIO_ENCODING_FLAC,
    "mp3": common.AUDIO_ENCODING_MP3,
    "aac": common.AUDIO_ENCODING_AAC,
}
every_packed = pytest.mark.parametrize("code", PACKED.values(), ids=PACKED.keys())


def form(code: int, rate_hz: int = 0, own_hz: int = 22050) -> common.AudioFormat:
    wanted = common.AudioFormat(sample_rate_hz=rate_hz)
    wanted.encoding = code  # type: ignore[assignment] # numbers that are none are under test too
    return heard_format(wanted, own_hz, "espeak/en-us", "speech.format")


def sweep(rate_hz: int, samples: int) -> bytes:
    """A tone that rises from 200 to 1,400 Hz a second: at no shift is it like itself."""
    return array(
        "h",
        (
            round(9000 * math.sin(2 * math.pi * (200 + 600 * i / rate_hz) * i / rate_hz))
            for i in range(samples)
        ),
    ).tobytes()


def encoded(audio: common.AudioFormat, pcm: bytes, step: int) -> list[Packet]:
    encoder = encoder_for(audio)
    assert encoder is not None
    packets = []
    for at in range(0, len(pcm), 2 * step):
        packets += encoder.push(pcm[at : at + 2 * step])
    return packets + encoder.finish()


@pytest.mark.parametrize("rate_hz", [8000, 12000, 16000, 24000, 48000])
def test_opus_comes_back_with_its_pre_skip_left_out(rate_hz):
    audio = form(common.AUDIO_ENCODING_OPUS, rate_hz)
    pcm = sweep(rate_hz, rate_hz + 77)
    packets = encoded(audio, pcm, rate_hz // 50)
    assert all(packet.samples == rate_hz // 50 for packet in packets[:50])
    assert sum(packet.samples for packet in packets) == rate_hz + 77
    heard = decoded_opus([packet.audio for packet in packets], rate_hz, audio.preskip_samples)
    at_rate = heard[:: 48000 // rate_hz]
    assert len(at_rate) >= rate_hz + 77
    # At the very place: one sample further, what rises to 1,400 Hz is less alike already.
    there = likeness(at_rate, samples_of(pcm))
    assert there > 0.98
    assert there > max(likeness(at_rate[shift:], samples_of(pcm)) for shift in (8, 16, 40))


@pytest.mark.parametrize("rate_hz", SAMPLE_RATES_HZ)
def test_flac_is_a_file_and_exact(rate_hz):
    pcm = sweep(rate_hz, rate_hz // 2 + 5)
    packets = encoded(form(common.AUDIO_ENCODING_FLAC, rate_hz), pcm, rate_hz // 50)
    heard, told_hz = decoded_file(b"".join(packet.audio for packet in packets))
    assert told_hz == rate_hz
    assert np.array_equal(heard, samples_of(pcm))
    assert sum(packet.samples for packet in packets) == len(pcm) // 2
    # The first audio is not held for long.
    assert packets[0].samples * 1000 / rate_hz < 30


@pytest.mark.parametrize("code", [common.AUDIO_ENCODING_MP3, common.AUDIO_ENCODING_AAC])
@pytest.mark.parametrize("rate_hz", SAMPLE_RATES_HZ)
def test_mp3_and_aac_are_files(code, rate_hz):
    audio = form(code, rate_hz)
    pcm = sweep(rate_hz, rate_hz + 31)
    packets = encoded(audio, pcm, rate_hz // 50)
    heard, told_hz = decoded_file(b"".join(packet.audio for packet in packets))
    assert told_hz == rate_hz
    assert sum(packet.samples for packet in packets) == rate_hz + 31
    assert len(heard) >= rate_hz + 31
    shifts = [likeness(heard[shift:], samples_of(pcm)) for shift in (0, audio.preskip_samples)]
    assert max(shifts) > 0.95


@settings(max_examples=25, deadline=None)
@given(
    code=st.sampled_from([*PACKED.values(), common.AUDIO_ENCODING_MULAW]),
    samples=st.integers(1, 5000),
    cuts=st.lists(st.integers(0, 5000), max_size=10),
)
def test_slices_change_no_byte(code, samples, cuts):
    audio = form(code, 24000)
    pcm = sweep(24000, samples)
    sliced = encoder_for(audio)
    assert sliced is not None
    at = [0, *sorted(min(cut, samples) for cut in cuts), samples]
    packets = []
    for begin, end in itertools.pairwise(at):
        packets += sliced.push(pcm[2 * begin : 2 * end])
    packets += sliced.finish()
    whole = encoded(audio, pcm, samples)
    assert b"".join(packet.audio for packet in packets) == b"".join(packet.audio for packet in whole)
    assert sum(packet.samples for packet in packets) == samples


def test_mu_law_is_g_711():
    every = array("h", range(-32768, 32768)).tobytes()
    packets = encoded(form(common.AUDIO_ENCODING_MULAW, 8000), every, 65536)
    back = decoded_mu_law(packets[0].audio)
    error = np.abs(back - samples_of(every))
    # Half a step: steps double from 8 in the first segment to 1,024 in the last; above 32,635 it clips.
    assert np.all(error <= np.maximum(8, np.abs(samples_of(every)) / 32 + 8))
    # What a decoder gives has the same code again, and silence is 0xFF.
    again = array("h", (max(-32768, min(32767, int(value))) for value in back)).tobytes()
    assert encoded(form(common.AUDIO_ENCODING_MULAW), again, 65536)[0].audio.replace(
        b"\x7f", b"\xff"
    ) == packets[0].audio.replace(b"\x7f", b"\xff")
    assert encoded(form(common.AUDIO_ENCODING_MULAW), b"\0\0", 1)[0].audio == b"\xff"
    theirs = av.CodecContext.create("pcm_mulaw", "r")
    theirs.sample_rate, theirs.layout = 8000, "mono"
    frames = theirs.decode(av.Packet(packets[0].audio))
    assert np.array_equal(np.concatenate([f.to_ndarray().reshape(-1) for f in frames]), back)


@pytest.mark.parametrize(
    ("code", "own_hz", "told_hz", "preskip"),
    [
        (common.AUDIO_ENCODING_UNSPECIFIED, 22050, 22050, 0),
        (common.AUDIO_ENCODING_PCM_S16LE, 19000, 19000, 0),
        (common.AUDIO_ENCODING_MULAW, 22050, 22050, 0),
        (common.AUDIO_ENCODING_OPUS, 22050, 24000, 156),
        (common.AUDIO_ENCODING_OPUS, 44100, 48000, 312),
        (common.AUDIO_ENCODING_OPUS, 96000, 48000, 312),
        (common.AUDIO_ENCODING_FLAC, 22050, 22050, 0),
    ],
)
def test_who_names_no_rate_gets_the_voices_own_or_the_next(code, own_hz, told_hz, preskip):
    audio = form(code, own_hz=own_hz)
    assert (audio.sample_rate_hz, audio.channels, audio.preskip_samples) == (told_hz, 1, preskip)
    assert audio.encoding == (code or common.AUDIO_ENCODING_PCM_S16LE)


@pytest.mark.parametrize(
    ("wanted", "field", "message"),
    [
        (common.AudioFormat(sample_rate_hz=8001), "sample_rate_hz", "8000, 11025, .*22050.*48000 Hz"),
        (
            common.AudioFormat(encoding=common.AUDIO_ENCODING_OPUS, sample_rate_hz=22050),
            "sample_rate_hz",
            "22050 is not to be had: OPUS .* 8000, 12000, 16000, 24000, 48000 Hz",
        ),
        (common.AudioFormat(channels=2), "channels", "1 channel"),
    ],
)
def test_what_is_not_to_be_had_is_named_with_what_is(wanted, field, message):
    with pytest.raises(InvalidFieldError, match=message) as caught:
        heard_format(wanted, 22050, "espeak", "configure.speech.format")
    assert caught.value.field == f"configure.speech.format.{field}"


@pytest.mark.parametrize("code", [common.AUDIO_ENCODING_MP3, common.AUDIO_ENCODING_AAC])
def test_a_voice_of_a_rate_that_mpeg_does_not_know_is_heard_at_the_next(code):
    """A server of one's own may make 20,000 samples a second."""
    audio = heard_format(common.AudioFormat(encoding=code), 20000, "own", "speech.format")
    assert audio.sample_rate_hz == 22050
    with pytest.raises(InvalidFieldError, match="20000 is not to be had") as caught:
        heard_format(common.AudioFormat(encoding=code, sample_rate_hz=20000), 20000, "own", "speech.format")
    assert caught.value.field == "speech.format.sample_rate_hz"


@pytest.mark.parametrize("rate_hz", [-1, 1, 7999, 48001, 2**31 - 1])
@pytest.mark.parametrize("code", list(common.AudioEncoding.values()))
def test_rates_that_nobody_makes_are_refused(code, rate_hz):
    with pytest.raises((InvalidFieldError, ValueError)) as caught:
        heard_format(common.AudioFormat(encoding=code, sample_rate_hz=rate_hz), 22050, "v", "f")
    assert "rate" in str(caught.value) or "range" in str(caught.value).lower()


def test_an_unknown_encoding_is_refused():
    with pytest.raises(InvalidFieldError, match="77 is no encoding; there are PCM_S16LE, MULAW, OPUS"):
        form(77)


@every_packed
def test_an_encoder_starts_no_thread_and_leaves_its_callers_cpus_alone(code):
    process = psutil.Process()
    before, cpus = process.num_threads(), process.cpu_affinity()
    made = [encoder_for(form(code)) for _ in range(10)]
    for encoder in made:
        assert encoder is not None
        encoder.push(bytes(2 * 24000))
    assert process.num_threads() == before
    assert process.cpu_affinity() == cpus


@every_packed
def test_without_the_package_it_says_what_to_install(code, monkeypatch):
    encoding.load.cache_clear()
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(encoding, "load", encoding.load.__wrapped__)
    with pytest.raises(InvalidFieldError, match=r"package av.*voicemesh\[codecs\].*MULAW") as caught:
        form(code)
    assert caught.value.field == "speech.format.encoding"
    assert form(common.AUDIO_ENCODING_MULAW, 8000).sample_rate_hz == 8000
