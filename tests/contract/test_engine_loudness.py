"""Voices of real workers, evened: measured by the standard's own measure, in any process the same."""

from array import array
from dataclasses import replace

import pytest

from services.tts.core.model import VoiceSpec
from services.tts.loudness import TEXT, integrated_lufs
from tests.contract.engine_harness import TEXT as LONGER
from tests.contract.engine_harness import Take, sim, speaker
from tests.contract.engine_list import ESPEAK

TARGET = -16.0
EVENED = replace(ESPEAK, loudness=TARGET)


def lufs(take: Take, rate_hz: int = 22050) -> float:
    measured = integrated_lufs(array("h", take.pcm), rate_hz)
    assert measured is not None
    return measured


async def test_each_variant_speaks_at_the_target() -> None:
    async with speaker(EVENED) as voice, speaker(ESPEAK) as plain:
        await voice.speak(TEXT, warm_up=True)
        loudness = {}
        for variant in ("en-us", "fr-fr", "ja", "tr"):
            before = lufs(await plain.speak(LONGER, variant=variant))
            loudness[variant] = lufs(await voice.speak(LONGER, variant=variant))
            assert abs(loudness[variant] - TARGET) < abs(before - TARGET)
            assert loudness[variant] == pytest.approx(TARGET, abs=1.5)
        # Against 4 LU between them as espeak-ng has them.
        assert max(loudness.values()) - min(loudness.values()) < 2


@pytest.mark.parametrize("spec", [EVENED, replace(sim(rtf=0.002), loudness=TARGET)])
async def test_a_chunk_is_the_same_in_a_process_that_was_warmed_otherwise(spec: VoiceSpec) -> None:
    async with speaker(spec) as voice:
        await voice.speak(TEXT, warm_up=True)
        take = await voice.speak(LONGER, seed=3)
        resampled = await voice.speak(LONGER, seed=3, sample_rate_hz=8000)
    async with speaker(spec) as voice:
        rest = await voice.speak(LONGER, seed=3, start_offset_samples=7_001)
        assert rest.pcm == take.pcm[14_002:]
        again = await voice.speak(LONGER, seed=3, sample_rate_hz=8000, start_offset_samples=7_001)
        assert again.pcm == resampled.pcm[14_002:]


async def test_a_gain_by_hand_is_a_gain() -> None:
    async with speaker(replace(ESPEAK, gain_db=-6.0)) as voice, speaker(ESPEAK) as plain:
        assert lufs(await voice.speak(LONGER)) - lufs(await plain.speak(LONGER)) == pytest.approx(-6, abs=0.3)


async def test_a_voice_at_the_target_is_left_as_it_is() -> None:
    async with speaker(replace(ESPEAK, loudness=-20.5)) as voice, speaker(ESPEAK) as plain:
        await voice.speak(TEXT, warm_up=True)
        assert (await voice.speak(LONGER)).pcm == (await plain.speak(LONGER)).pcm
