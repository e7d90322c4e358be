"""Engines in real workers, heard at other rates than their own."""

import sys
from array import array

import psutil
import pytest

from services.tts.core.model import VoiceSpec
from tests.contract.engine_harness import TEXT, check, sim, speaker
from tests.contract.engine_list import ESPEAK
from voicemesh.runtime.frames import SAMPLE_RATES_HZ


@pytest.mark.parametrize("spec", [ESPEAK, sim(rtf=0.002), sim(rtf=0.002, word_timings=False)])
@pytest.mark.parametrize("wanted_hz", [8000, 48000])
async def test_a_chunk_that_is_resumed_goes_on_bit_by_bit(spec: VoiceSpec, wanted_hz: int) -> None:
    async with speaker(spec) as voice:
        own = await voice.speak(TEXT, seed=7)
        whole = await voice.speak(TEXT, seed=7, sample_rate_hz=wanted_hz)
    own_hz = voice.replica.capabilities.sample_rate_hz
    check(whole, TEXT, wanted_hz)
    assert abs(whole.samples * own_hz - own.samples * wanted_hz) * 2 <= own_hz
    for word, told in zip(own.timings, whole.timings, strict=True):
        if voice.replica.capabilities.word_timings:
            assert told.offset_samples == word.offset_samples * wanted_hz // own_hz
    # Another process, asked from the middle, as after a crash.
    async with speaker(spec) as voice:
        for offset in (1, whole.samples // 3, whole.samples - 1, whole.samples):
            rest = await voice.speak(TEXT, seed=7, sample_rate_hz=wanted_hz, start_offset_samples=offset)
            assert rest.pcm == whole.pcm[2 * offset :]


@pytest.mark.parametrize("wanted_hz", SAMPLE_RATES_HZ)
async def test_a_chunk_begins_and_ends_quietly_at_every_rate(wanted_hz: int) -> None:
    """So chunks are joined without a click: the filter rings no louder than the fades allow."""
    async with speaker(ESPEAK) as voice:
        take = await voice.speak("Children under ten enter for free", sample_rate_hz=wanted_hz)
    samples = array("h", take.pcm)
    assert max(map(abs, samples)) > 5000
    assert max(abs(sample) for sample in (*samples[:3], *samples[-3:])) <= 32


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has loaded is read from /proc")
async def test_only_who_asks_for_another_rate_pays_for_it() -> None:
    async with speaker(ESPEAK) as voice:
        await voice.speak(TEXT, sample_rate_hz=22050)
        process = psutil.Process(voice.replica.pid)
        before = {path.path for path in process.memory_maps()}
        assert not any("numpy" in path or "soxr" in path for path in before)
        await voice.speak(TEXT, sample_rate_hz=16000)
        assert any("soxr" in path.path for path in process.memory_maps())
