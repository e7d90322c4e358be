"""SHA-256 of the files of a model, as the declaration of a voice has them.

Standard library only: workers, services and the command line share it.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MOST_FILES: Final = 10_000
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(path: Path) -> str:
    """Return the digest of a file, as `sha256:…`.

    Raises:
        OSError: It cannot be read.

    """
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def files_in(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a model, each with its name as seen from the model's folder, in order of names.

    Of a folder all that are in it, with those of its folders; of a file, that, and its `….json` beside it,
    as Piper has it.

    Raises:
        OSError: There is nothing at `path`, or it holds more than 10,000 files.

    """
    if not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"there is no file or folder {path}")
        beside = path.with_name(f"{path.name}.json")
        yield from ((each.name, each) for each in (path, beside) if each.is_file())
        return
    found = []
    for each in path.rglob("*"):
        if each.is_file():
            found.append(each)
        if len(found) > MOST_FILES:
            raise OSError(f"{path} holds more than {MOST_FILES} files")
    yield from ((each.relative_to(path).as_posix(), each) for each in sorted(found))
