"""Where a model's files are, and what kind of model they hold.

Workers import this module: standard library only, but where a name of the library's is looked up.
"""

from pathlib import Path
from typing import Any, Final, NamedTuple

from services.tts.engines.base import OptionsError
from services.tts.engines.model_json import read_object

_CHECKPOINTS: Final = ("model.pth", "model_file.pth", "model_file.pth.tar", "checkpoint.pth")
_TYPES: Final = ("tts_models",)


class ModelFiles(NamedTuple):
    """The files of one model."""

    folder: Path
    config: Path
    checkpoint: Path | None
    """None where the model loads itself from its folder, as XTTS does."""
    kind: str
    """The config's `model`: "vits", "xtts", …"""
    name: str = ""
    """As the library lists it; "" for a folder of one's own."""


def find_model(options: dict[str, Any]) -> ModelFiles:
    """Return the files of the option `model`. Downloads what the library lists and is not here yet.

    Raises:
        OptionsError: There is no such model, or files of it are missing.

    """
    model = options.get("model", "")
    if not isinstance(model, str) or not model:
        raise OptionsError(
            "option model: must be a folder with config.json and a checkpoint, or a name of the library's"
            " as tts_models/en/ljspeech/vits"
        )
    if model.startswith(tuple(f"{kind}/" for kind in _TYPES)) and not Path(model).is_dir():
        return _named(model)
    return _in_folder(Path(model).expanduser())


def _in_folder(folder: Path) -> ModelFiles:
    if not folder.is_dir():
        raise OptionsError(f"option model: there is no folder {folder}")
    config = folder / "config.json"
    if not config.is_file():
        raise OptionsError(f"option model: {folder} has no config.json")
    checkpoint = next((folder / name for name in _CHECKPOINTS if (folder / name).is_file()), None)
    if checkpoint is None:
        found = sorted(folder.glob("*.pth"))
        checkpoint = found[0] if len(found) == 1 else None
    if checkpoint is None:
        raise OptionsError(
            f"option model: {folder} has no checkpoint: one of {', '.join(_CHECKPOINTS)}, or a single *.pth"
        )
    return ModelFiles(folder, config, checkpoint, _kind(config))


def _named(name: str) -> ModelFiles:
    from services.tts.engines.coqui.library import load_library  # noqa: PLC0415 - heavy

    load_library()
    from TTS.utils.manage import ModelManager  # noqa: PLC0415 - heavy

    manager = ModelManager(progress_bar=False)
    known = manager.list_tts_models()
    if name not in known:
        near = [other for other in known if other.split("/")[1:2] == name.split("/")[1:2]]
        raise OptionsError(
            f"option model: the library lists no {name!r}; near it are {', '.join(near or known[:5])}"
        )
    try:
        model, config, _ = manager.download_model(name)
    except Exception as error:  # no network, a licence that nobody has agreed to, a full disk
        raise RuntimeError(
            f"the model {name} is not here and cannot be downloaded ({type(error).__name__}: {error}): "
            "name a folder that has its files in the option `model`"
        ) from error
    model = Path(model)
    folder = model if model.is_dir() else model.parent
    config = Path(config) if config is not None else folder / "config.json"
    return ModelFiles(folder, config, model if model.is_file() else None, _kind(config), name)


def _kind(config: Path) -> str:
    kind = read_object(config, "model").get("model", "")
    if not isinstance(kind, str) or not kind:
        raise OptionsError(f"option model: {config} does not say which kind of model it is (`model`)")
    return kind.lower()
