"""What pyproject.toml says that packages are needed, with its extras that stand on others taken apart."""

import pathlib
import re
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any, Final

ROOT: Final = pathlib.Path(__file__).resolve().parent.parent
_OWN_EXTRAS: Final = re.compile(r"voicemesh\[([\w,-]+)\]")


def load() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def extras() -> dict[str, list[str]]:
    """Return extra → requirements, without those that name extras of voicemesh itself."""
    declared: dict[str, list[str]] = load()["project"]["optional-dependencies"]
    return {name: list(dict.fromkeys(_flat(declared, name))) for name in declared}


def requirements(wanted: Iterable[str]) -> list[str]:
    """Return what voicemesh needs with these extras, each requirement once."""
    known = extras()
    always: list[str] = load()["project"]["dependencies"]
    return list(dict.fromkeys([*always, *(item for name in wanted for item in known[name])]))


def _flat(declared: dict[str, list[str]], name: str) -> Iterator[str]:
    for item in declared[name]:
        if own := _OWN_EXTRAS.fullmatch(item):
            for each in own[1].split(","):
                yield from _flat(declared, each)
        else:
            yield item
