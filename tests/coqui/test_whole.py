"""Models of other kinds, through the library's own API."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.tts.engines.base import CannotSpeakError, Engine, OptionsError, SpeakRequest, Word
from services.tts.engines.coqui import load
from services.tts.engines.coqui.whole import WholeEngine
from tests.coqui.random_whole import make_fast_pitch, make_glow

TEXT = "Hello there, my friend. How are you?"


class Take:
    """An output that keeps what it is given, and says stop at its `last` write."""

    def __init__(self, last: int = 10**9) -> None:
        self.parts: list[bytes] = []
        self._last = last

    def write(self, pcm: bytes) -> bool:
        self.parts.append(pcm)
        return len(self.parts) < self._last

    def words(self, words: list[Word]) -> None:
        raise AssertionError(words)

    def pause(self, seconds: float) -> bool:
        return not seconds

    @property
    def pcm(self) -> bytes:
        return b"".join(self.parts)


@pytest.fixture(scope="module")
def pitched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fast_pitch(tmp_path_factory.mktemp("pitch"))


def open_engine(folder: Path, **options: Any) -> WholeEngine:
    found = load("en-us", {"model": str(folder), "device": "cpu", "threads": 1, **options})
    assert isinstance(found, WholeEngine)
    return found


@pytest.fixture(scope="module")
def engine(pitched: Path) -> WholeEngine:
    return open_engine(pitched, vocoder=str(pitched / "vocoder"))


def speak(engine: Engine, text: str = TEXT, **values: Any) -> bytes:
    take = Take()
    variant = values.pop("variant", engine.capabilities.default_variant)
    engine.synthesize(SpeakRequest(text, variant, **values), take)
    return take.pcm


def test_a_model_without_a_vocoder_speaks_through_the_librarys_own(tmp_path: Path) -> None:
    engine = open_engine(make_glow(tmp_path))
    assert engine.capabilities.variants == ()
    pcm = speak(engine, "one.", seed=1)
    assert pcm == speak(engine, "one.", seed=1) != speak(engine, "one.", seed=2)
    assert len(speak(engine, "one two three.", seed=1, speed=0.5)) > len(
        speak(engine, "one two three.", seed=1)
    )


def test_speakers_are_variants_and_one_may_be_chosen(engine: WholeEngine, pitched: Path) -> None:
    names = [variant.name for variant in engine.capabilities.variants]
    assert names == ["voice-0", "voice-1", "voice-2"]
    takes = [speak(engine, variant=name) for name in names]
    assert len(set(takes)) == len(takes)
    chosen = open_engine(pitched, vocoder=str(pitched / "vocoder"), speaker="Voice 2")
    assert chosen.capabilities.variants == ()
    assert speak(chosen) == takes[2]


def test_frames_leave_after_each_sentence_and_a_cancel_ends_between(engine: WholeEngine) -> None:
    first = speak(engine, "Hello there, my friend.")
    whole = speak(engine, TEXT)
    assert whole.startswith(first)
    assert len(whole) > len(first) + 2000
    take = Take(last=2)
    engine.synthesize(SpeakRequest(TEXT, "voice-0"), take)
    assert len(take.parts) == 2
    assert whole.startswith(take.pcm)


def test_what_is_too_loud_is_scaled_and_not_cut(engine: WholeEngine, monkeypatch: Any) -> None:
    wave = np.sin(np.arange(30_000) / 20) * 3

    def loud(*_: Any, **__: Any) -> list[float]:
        return list(wave)

    monkeypatch.setattr(engine._synthesizer, "tts", loud)
    samples = np.frombuffer(speak(engine, "Loud."), "<i2")
    assert np.abs(samples).max() == 32767
    assert np.abs(samples - wave[: len(samples)] / 3 * 32767).max() <= 1 + 32767 * (
        1 - wave[:20_000].max() / 3
    )

    def broken(*_: Any, **__: Any) -> list[float]:
        return [float("nan")] * 20_000

    monkeypatch.setattr(engine._synthesizer, "tts", broken)
    with pytest.raises(RuntimeError, match="NaN"):
        speak(engine, "Broken.")


def test_letters_that_the_model_does_not_know_are_refused(engine: WholeEngine) -> None:
    with pytest.raises(CannotSpeakError, match="none of the letters"):
        speak(engine, "ᚠᚢᚦ")
    for text in ("", " ", "...", "\u200b"):
        assert speak(engine, text) == b""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speaker": "Nobody"}, "option speaker: 'Nobody' is not in the model; it has Voice 0, Voice 1"),
        ({"vocoder": "/nowhere"}, "there is no folder /nowhere"),
        ({"speaker_wav": "/nowhere.wav"}, "option speaker_wav: there is no file /nowhere.wav"),
        ({"precision": "fp16"}, "option precision: a model of the kind fast_pitch has the options"),
    ],
)
def test_wrong_options_are_named(pitched: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=re.escape(message)):
        open_engine(pitched, **options)


def test_a_model_that_cannot_be_downloaded_says_what_to_do(monkeypatch: Any) -> None:
    from TTS.utils.manage import ModelManager

    def offline(*_: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(ModelManager, "download_model", offline)
    with pytest.raises(RuntimeError, match=r"cannot be downloaded .*no route to host.*name a folder"):
        load("en", {"model": "tts_models/en/ljspeech/glow-tts"})
