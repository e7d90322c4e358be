"""Models that are not what they should be: a clear word at the start, and nothing of a file executed."""

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from services.tts.engines import coqui
from services.tts.engines.base import OptionsError
from services.tts.engines.coqui.model_files import find_model
from services.tts.engines.coqui.vits_model import load_vits
from services.tts.engines.coqui.weights import without_random_weights
from tests.coqui.random_whole import make_fast_pitch
from tests.coqui.random_xtts import make_xtts, write_clip


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


@pytest.fixture(scope="module")
def folders(make_model, tmp_path_factory):
    """Return a model of each kind, and the options that it needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xtts = make_xtts(tmp_path_factory.mktemp("xtts"))
        pitch = make_fast_pitch(tmp_path_factory.mktemp("pitch"))
    clip = str(write_clip(xtts / "clip.wav"))
    return {
        "vits": (make_model(), {}),
        "xtts": (xtts, {"speaker_wav": clip}),
        "whole": (pitch, {"vocoder": str(pitch / "vocoder")}),
    }


def copied(folders: Any, kind: str, to: Path) -> tuple[Path, dict[str, Any]]:
    folder, options = folders[kind]
    shutil.copytree(folder, to, dirs_exist_ok=True)
    return to, options


def load(folder: Path, options: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return coqui.load("en", {"model": str(folder), "device": "cpu", "threads": 1, **options})


@pytest.mark.parametrize("kind", ["vits", "xtts", "whole"])
def test_code_in_a_checkpoint_is_refused_and_not_executed(folders, kind, tmp_path):
    folder, options = copied(folders, kind, tmp_path / "model")
    torch.save({"model": {"x": Code(tmp_path / "executed")}}, folder / "model.pth")
    with pytest.raises(OptionsError, match=r"option model: .*model\.pth"):
        load(folder, options)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("kind", ["vits", "xtts", "whole"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 half a zip file"])
def test_a_file_that_is_no_checkpoint_is_named(folders, kind, content, tmp_path):
    folder, options = copied(folders, kind, tmp_path / "model")
    (folder / "model.pth").write_bytes(content)
    with pytest.raises(OptionsError, match=r"option model: .*model\.pth"):
        load(folder, options)


@pytest.mark.parametrize("saved", [[], {"model": []}, {"model": {"x": 1}}, torch.zeros(3)])
def test_a_checkpoint_without_weights_is_named(folders, saved, tmp_path):
    folder, options = copied(folders, "vits", tmp_path / "model")
    torch.save(saved, folder / "model.pth")
    with pytest.raises(OptionsError, match="holds no weights"):
        load(folder, options)


@pytest.mark.parametrize("kind", ["vits", "xtts"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named(folders, kind, number, tmp_path):
    """Its audio would be silence."""
    folder, options = copied(folders, kind, tmp_path / "model")
    saved = torch.load(folder / "model.pth", weights_only=True)
    name = next(name for name in reversed(saved["model"]) if "waveform_decoder" in name)
    saved["model"][name].view(-1)[-1] = number
    torch.save(saved, folder / "model.pth")
    with pytest.raises(OptionsError, match=f"{name} has NaN or infinity"):
        load(folder, options)


@pytest.mark.parametrize("kind", ["vits", "xtts"])
def test_weights_of_another_model_are_refused_in_few_words(folders, kind, tmp_path):
    folder, options = copied(folders, kind, tmp_path / "model")
    saved = torch.load(folder / "model.pth", weights_only=True)
    names = [name for name in saved["model"] if "conv_pre" not in name]
    for name in names[1::2]:
        del saved["model"][name]
    saved["model"]["of.another.kind"] = torch.zeros(1)
    torch.save(saved, folder / "model.pth")
    with pytest.raises(OptionsError, match=r"option model: .*model\.pth") as raised:
        load(folder, options)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    ("kind", "over"), [("vits", {"model_args": 7}), ("xtts", {"model_args": 7}), ("vits", {"audio": "loud"})]
)
def test_a_config_of_wrong_types_is_named(folders, kind, over, tmp_path):
    folder, options = copied(folders, kind, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **over}))
    with pytest.raises(OptionsError, match=r"option model: .*config"):
        load(folder, options)


@pytest.mark.parametrize("rate_hz", [0, -22050, 10**9, "fast", None])
def test_a_sample_rate_that_cannot_be_is_named(folders, rate_hz, tmp_path):
    folder, options = copied(folders, "vits", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["audio"]["sample_rate"] = rate_hz
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(OptionsError, match=r"option model: .*config\.json"):
        load(folder, options)


def test_every_weight_is_that_of_the_checkpoint(make_model):
    """None is drawn, so each must be loaded, and what is no weight must be made as ever."""
    folder = make_model(stochastic=True, speakers=2)
    saved = torch.load(folder / "model.pth", weights_only=True)["model"]
    model = load_vits(find_model({"model": str(folder)}))
    loaded = model.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)
    assert not {name for name, _ in model.named_buffers()} - loaded.keys()


def test_nothing_is_drawn_where_weights_are_to_be_loaded():
    state = torch.random.get_rng_state()
    with without_random_weights():
        layer = torch.nn.Linear(4, 4)
        torch.nn.init.normal_(layer.weight)
        layer.weight.data.uniform_()
        assert torch.equal(torch.ones(2) + 1, torch.full((2,), 2.0))
    assert torch.equal(torch.random.get_rng_state(), state)
