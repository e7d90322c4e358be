"""Models with random weights, made once for each process of the run."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# The library's own imports warn of what others have deprecated; ours are made before it is quiet again.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from benchmarks.random_models import make_vits
    from services.tts.engines.coqui.library import load_library

    load_library()
    import torch
    import TTS.utils.synthesizer

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that makes a VITS as `make_vits` does, each kind once."""
    folder = tmp_path_factory.mktemp("models")
    made: dict[str, Path] = {}

    def make(**values: Any) -> Path:
        key = repr(sorted(values.items()))
        if key not in made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made[key] = make_vits(folder / f"model-{len(made)}", **values)
        return made[key]

    return make


@pytest.fixture(scope="session")
def load_original() -> Callable[[Path], Any]:
    """Return a function that loads a model as the library does."""

    def load(folder: Path) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return TTS.utils.synthesizer.Synthesizer(
                tts_checkpoint=str(folder / "model.pth"), tts_config_path=str(folder / "config.json")
            ).tts_model

    return load
