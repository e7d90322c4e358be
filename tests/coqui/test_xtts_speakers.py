"""Reference clips: what may be one, and their latents."""

import re
import wave
from pathlib import Path
from typing import Any

import pytest
import torch

from services.tts.engines.base import OptionsError
from services.tts.engines.coqui.library import load_library
from services.tts.engines.coqui.xtts_model import LoadedXtts, load_xtts
from services.tts.engines.coqui.xtts_speakers import own_speakers, read_clip, speaker_of_clips
from tests.coqui.random_xtts import make_xtts, write_clip


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedXtts:
    load_library()
    folder = make_xtts(tmp_path_factory.mktemp("xtts"))
    return load_xtts(folder, folder / "config.json", None)


def test_latents_are_those_of_the_library(loaded: LoadedXtts, tmp_path: Path, monkeypatch: Any) -> None:
    from TTS.tts.models import xtts

    clips = [write_clip(tmp_path / "a.wav", seconds=5), write_clip(tmp_path / "b.wav", rate_hz=16000)]
    speaker = speaker_of_clips(loaded.model, clips, None, loaded.digest)
    # The library's own reader needs torchcodec.
    monkeypatch.setattr(xtts, "load_audio", lambda path, _: read_clip(Path(path)))
    config = loaded.model.config
    latents, embedding = loaded.model.get_conditioning_latents(
        [str(clip) for clip in clips],
        max_ref_length=config.max_ref_len,
        gpt_cond_len=config.gpt_cond_len,
        gpt_cond_chunk_len=config.gpt_cond_chunk_len,
    )
    assert torch.equal(speaker.latents, latents[0])
    assert torch.equal(speaker.embedding, embedding)


def test_latents_are_computed_once_and_kept(loaded: LoadedXtts, tmp_path: Path, monkeypatch: Any) -> None:
    clip, folder = write_clip(tmp_path / "a.wav"), tmp_path / "kept"
    first = speaker_of_clips(loaded.model, [clip], folder, loaded.digest)
    (kept,) = folder.iterdir()
    computed = []
    original = loaded.model.get_gpt_cond_latents

    def counted(*args: Any, **named: Any) -> Any:
        computed.append(1)
        return original(*args, **named)

    monkeypatch.setattr(loaded.model, "get_gpt_cond_latents", counted)
    again = speaker_of_clips(loaded.model, [clip], folder, loaded.digest)
    assert not computed
    assert torch.equal(first.latents, again.latents)
    assert torch.equal(first.embedding, again.embedding)
    # Another clip under the same name, another model: other latents.
    speaker_of_clips(loaded.model, [clip], folder, "another model")
    other = speaker_of_clips(loaded.model, [write_clip(clip, pitch_hz=300)], folder, loaded.digest)
    assert len(computed) == 2
    assert not torch.equal(other.latents, first.latents)
    # What cannot be read is made anew; what is not tensors is never unpickled.
    kept.write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    write_clip(clip)
    assert torch.equal(speaker_of_clips(loaded.model, [clip], folder, loaded.digest).latents, first.latents)
    assert len(computed) == 3
    assert len(list(folder.iterdir())) == 3


def test_clips_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    load_library()
    short = write_clip(tmp_path / "short.wav", seconds=0.9)
    long = write_clip(tmp_path / "long.wav", seconds=61, rate_hz=8000)
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    silent = tmp_path / "silent.wav"
    with wave.open(str(silent), "wb") as file:
        file.setparams((1, 2, 22050, 0, "NONE", ""))
        file.writeframes(bytes(2 * 22050 * 2))
    for path, message in (
        (tmp_path / "none.wav", f"there is no file {tmp_path / 'none.wav'}"),
        (tmp_path, "there is no file"),
        (short, f"{short} has 0.9 s; a clip has 1 to 60 s"),
        (long, f"{long} has 61.0 s; a clip has 1 to 60 s"),
        (text, f"{text} cannot be read as audio"),
        (silent, f"{silent} is silent"),
    ):
        with pytest.raises(OptionsError, match=re.escape(message)):
            read_clip(path)


def test_a_model_without_speakers_asks_for_a_clip(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="name a reference clip"):
        own_speakers(tmp_path / "speakers_xtts.pth", [])
    broken = tmp_path / "speakers_xtts.pth"
    torch.save({"A": {"gpt_cond_latent": torch.zeros(3), "speaker_embedding": torch.zeros(1)}}, broken)
    with pytest.raises(OptionsError, match="holds no speakers"):
        own_speakers(broken, [])
