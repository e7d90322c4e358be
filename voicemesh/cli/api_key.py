"""The key that the command line shows: from the environment, a file or standard input, never an argument.

Everybody on a machine sees the arguments of its processes.
"""

import os
import sys
from pathlib import Path
from typing import Final

from voicemesh.cli.exits import usage

VARIABLE: Final = "VOICEMESH_API_KEY"
ALLOW_VARIABLE: Final = "VOICEMESH_ALLOW_PLAIN_KEY"
_MAX_BYTES: Final = 16_384
_file: list[str] = []
_read: dict[str, str] = {}


def use(file: str) -> None:
    """Take the key from a file, or for "-" from the first line of standard input; "" for the environment."""
    _file[:] = [file] if file else []


def shown() -> str:
    """Return the key; "" where there is none.

    Raises:
        Failure: The file cannot be read.

    """
    if not _file:
        return os.environ.get(VARIABLE, "").strip()
    (file,) = _file
    if file not in _read:
        _read[file] = _key_in(file)
    return _read[file]


def may_be_plain() -> bool:
    """Return whether the key may go over a connection without TLS to another machine."""
    return os.environ.get(ALLOW_VARIABLE, "").lower() in ("1", "true", "yes", "on")


def _key_in(file: str) -> str:
    try:
        if file == "-":
            text = sys.stdin.readline(_MAX_BYTES)
        else:
            with Path(file).open("rb") as opened:
                text = opened.read(_MAX_BYTES).decode("ascii")
    except OSError as error:
        raise usage(f"--api-key-file: cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise usage(f"--api-key-file: {file} holds no key") from None
    if not (key := text.strip()):
        raise usage(f"--api-key-file: {file} is empty")
    return key
