"""The files of a voice, checked against the digests that its declaration has, before anything loads one.

A name in `digests` is one within the folder of the option `model`, or a whole path for files elsewhere.
Workers import this module: standard library only.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from services.tts.engines.base import OptionsError
from services.tts.engines.loading import loading
from voicemesh.digests import digest_of, files_in
from voicemesh.secret_variables import texts_of

_REQUIRE = "VOICEMESH_TTS_REQUIRE_DIGESTS"
_OF_FILES = ("coqui", "piper")
"""Engines whose option `model` is a model's files."""


def check_digests(
    engine: str, options: Mapping[str, Any], digests: Mapping[str, str], *, required: bool
) -> None:
    """Compare every file that has a digest with it.

    Args:
        engine: The voice's.
        options: Its options; texts in them that are paths are files of the voice.
        digests: Name of a file to its `sha256:…`.
        required: Whether each file must have one.

    Raises:
        OptionsError: One is missing or another, or has no digest and must have one. The text names it.

    """
    folder = _folder(options)
    expected = {_path(folder, name): (name, digest) for name, digest in digests.items()}
    if required:
        for path in _files(engine, options):
            if path not in expected:
                raise OptionsError(
                    f"digests: {path} has none, and {_REQUIRE} wants one for every file: "
                    "`voicemesh digest PATH` prints them"
                )
    for path, (name, digest) in expected.items():
        loading(f"the digest of {path.name}")
        try:
            found = digest_of(path)
        except OSError as error:
            raise OptionsError(f"digests: {name}: {path} cannot be read: {error.strerror or error}") from None
        if found != digest:
            raise OptionsError(
                f"digests: {path} is not the file that was declared: expected {digest}, found {found}"
            )


def _folder(options: Mapping[str, Any]) -> Path:
    model = Path(str(options.get("model", ""))).expanduser()
    return model if model.is_dir() else model.parent


def _path(folder: Path, name: str) -> Path:
    path = Path(name).expanduser()
    if ".." in path.parts:
        raise OptionsError(f"digests: {name}: must be within the model's folder, or a whole path")
    return (path if path.is_absolute() else folder / path).absolute()


def _files(engine: str, options: Mapping[str, Any]) -> Iterator[Path]:
    """Yield every file that the options name, and those of every folder."""
    model = options.get("model")
    if engine in _OF_FILES and isinstance(model, str) and not Path(model).expanduser().exists():
        raise OptionsError(
            f"option model: {model!r} is not on this machine yet, and {_REQUIRE} wants a digest for each of "
            "its files: name its folder or file"
        )
    for text in texts_of(options):
        path = Path(text).expanduser()
        try:
            if not path.exists():
                continue
        except OSError:
            continue  # a text that is too long for a path is none
        try:
            yield from (file.absolute() for _, file in files_in(path))
        except OSError as error:
            raise OptionsError(f"digests: {error}") from None
