"""Which chunker this is: what changes whenever the same text might be cut, or said, otherwise."""

import hashlib
import importlib.resources
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.resources.abc import Traversable

from services.chunker.policy import Limits


@cache
def revision_of(limits: Limits) -> str:
    """Return 12 hexadecimal digits that stand for the code of the chunker and the limits that cut.

    They are made of the source itself, so that no change of a rule can forget to raise a number. A change
    that changes nothing costs no more than cutting stored replies once more.
    """
    digest = hashlib.sha256(f"{unicodedata.unidata_version} {limits.max_chars}".encode())
    for name, source in _sources(importlib.resources.files("services.chunker"), ""):
        digest.update(f"\n{name} {len(source)}\n".encode() + source)
    return digest.hexdigest()[:12]


def _sources(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name = f"{path}{entry.name}"
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _sources(entry, f"{name}/")
        elif entry.name.endswith(".py"):
            yield name, entry.read_bytes()
