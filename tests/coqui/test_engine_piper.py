"""What the engine of Piper does beside what every engine does. Needs the extra `piper`."""

import json
from pathlib import Path
from typing import Any

import pytest
from piper import PiperVoice

from services.tts.core.model import ReplicaStartError, VoiceSpec
from services.tts.process import launch_worker
from tests.contract.engine_harness import TEXT, Ear, speaker
from tests.support import piper_model

STILL = {"noise_scale": 0, "noise_w": 0}


def declared(path: Path, **options: Any) -> VoiceSpec:
    return VoiceSpec("piper", "piper", 1, "", {"model": str(path), **options}, trim_silence=False)


async def test_a_voice_is_as_its_files_say(tmp_path: Path) -> None:
    async with speaker(declared(piper_model.write(tmp_path))) as voice:
        capabilities = voice.replica.capabilities
        assert capabilities.sample_rate_hz == piper_model.RATE_HZ
        assert capabilities.language == "en-US"
        assert capabilities.variants == ()
        assert not capabilities.deterministic
        assert capabilities.revision.startswith("piper-")
        # The noise is the model's own.
        assert (await voice.speak(TEXT, seed=1)).pcm != (await voice.speak(TEXT, seed=1)).pcm


async def test_speakers_are_variants(tmp_path: Path) -> None:
    path = piper_model.write(tmp_path, speakers=3)
    async with speaker(declared(path, **STILL, speaker="Speaker2")) as voice:
        assert [variant.name for variant in voice.replica.capabilities.variants] == [
            "speaker0",
            "speaker1",
            "speaker2",
        ]
        takes = {
            name: (await voice.speak(TEXT, variant=name)).pcm for name in ("speaker0", "speaker1", "speaker2")
        }
        assert len(set(takes.values())) == 3
        assert (await voice.speak(TEXT)).pcm == takes["speaker2"]


async def test_sounds_are_as_long_as_was_set(tmp_path: Path) -> None:
    path = piper_model.write(tmp_path)
    async with (
        speaker(declared(path, **STILL)) as voice,
        speaker(declared(path, **STILL, length_scale=1.5)) as slow,
    ):
        plain, longer = await voice.speak(TEXT), await slow.speak(TEXT)
        assert longer.samples == pytest.approx(1.5 * plain.samples, rel=0.001)
        assert (await slow.speak(TEXT, speed=1.5)).samples == pytest.approx(plain.samples, rel=0.001)
        assert voice.replica.capabilities.revision != slow.replica.capabilities.revision


async def test_phonemes_in_a_text_are_spoken_and_not_obeyed(tmp_path: Path) -> None:
    path = piper_model.write(tmp_path)
    piper_voice = PiperVoice.load(path)
    # The model makes 256 samples of each symbol.
    obeyed, spoken = (
        sum(256 * len(piper_voice.phonemes_to_ids(sentence)) for sentence in piper_voice.phonemize(text))
        for text in ("[[aI]] said so.", "  aI]] said so.")
    )
    async with speaker(declared(path, **STILL)) as voice:
        take = await voice.speak("[[aI]] said so.")
        assert abs(take.samples - spoken) < abs(take.samples - obeyed)


async def test_letters_that_a_voice_does_not_know_are_refused(tmp_path: Path) -> None:
    path = piper_model.write(tmp_path, phoneme_type="text")
    async with speaker(declared(path)) as voice:
        take = await voice.speak("\u4f60\u597d")
        assert take.end == "text: the voice knows none of its letters"
        assert (await voice.speak("hello")).samples


@pytest.mark.parametrize(
    ("options", "config", "says"),
    [
        ({"model": "/no/voice.onnx"}, {}, "option model: must be the path of a voice .* '/no/voice.onnx'"),
        ({"config": "/no/config"}, {}, "option config: /no/config cannot be read: No such file"),
        ({}, {"audio": {}}, "option config: it does not describe a voice of Piper: KeyError"),
        ({}, {"phoneme_type": "pinyin"}, "option model: a voice of phoneme type 'pinyin'"),
        ({"speaker": "anna"}, {}, "option speaker: the voice has one speaker"),
        ({"speaker": "anna"}, {"num_speakers": 2}, "option speaker: the voice has no 'anna'; it has 0, 1"),
        ({"voice": "x"}, {}, "option voice: piper has the options model"),
        ({"noise_scale": 3}, {}, "option noise_scale: must be a number from 0 to 2"),
        ({"slots": 0}, {}, "option slots: must be a whole number from 1 to 64"),
        ({"model": 5}, {}, "option model: must be a text"),
    ],
)
async def test_a_wrong_declaration_says_what_it_may_be(
    tmp_path: Path, options: dict[str, Any], config: dict[str, Any], says: str
) -> None:
    path = piper_model.write(tmp_path, **config)
    with pytest.raises(ReplicaStartError, match=says) as caught:
        await launch_worker(declared(path, **options), Ear())
    assert caught.value.declaration_at_fault


@pytest.mark.parametrize("broken", ["model", "config"])
async def test_files_that_are_something_else_are_told(tmp_path: Path, broken: str) -> None:
    path = piper_model.write(tmp_path)
    (path if broken == "model" else Path(f"{path}.json")).write_text("<html>")
    with pytest.raises(ReplicaStartError, match=f"option {broken}: ") as caught:
        await launch_worker(declared(path), Ear())
    assert caught.value.declaration_at_fault


def test_the_model_is_the_same_everywhere(tmp_path: Path) -> None:
    one, other = (piper_model.write(tmp_path, name).read_bytes() for name in ("one", "other"))
    assert one == other
    assert len(one) < 300_000
    assert json.loads((tmp_path / "one.onnx.json").read_text())["num_symbols"] == piper_model.SYMBOLS
