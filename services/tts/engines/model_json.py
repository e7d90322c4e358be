"""What a model's own files say: read with a bound, and never led outside of the model's folder.

Workers import this module: standard library only.
"""

import json
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

from services.tts.engines.base import OptionsError

MOST_BYTES: Final = 16 * 1024 * 1024
"""Of a config: those of real models have some kilobytes, with a vocabulary some hundred."""


def read_object(path: Path, option: str) -> dict[str, Any]:
    """Return the JSON object in a file that the option named `option` leads to.

    Raises:
        OptionsError: It cannot be read, is too large or too deep, or is no object.

    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise OptionsError(f"option {option}: {path} cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise OptionsError(f"option {option}: {path} has more than {MOST_BYTES} bytes")
    try:
        found = json.loads(content)
    except ValueError as error:
        raise OptionsError(f"option {option}: {path} is no JSON: {error}") from None
    except RecursionError:
        raise OptionsError(f"option {option}: {path} is no JSON that can be read: it is too deep") from None
    if not isinstance(found, dict):
        raise OptionsError(f"option {option}: {path} holds no object")
    return found


def beside(folder: Path, name: str) -> Path:
    """Return the file that a model's config names: the one of that name in the model's folder.

    A config that was trained elsewhere names whole paths of that machine. Of one it is the last part that
    counts: what a downloaded file says leads nowhere else, whatever is there.
    """
    return folder / (PureWindowsPath(name).name if "\\" in name else PurePosixPath(name).name)
