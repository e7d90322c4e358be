"""The images of the mesh, and what each holds: lock files, their checks and the proof go by this table."""

import pathlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from project import ROOT

FOLDER: Final = ROOT / "deploy" / "images"
PYTHON: Final = "3.11"
"""Debian bookworm's."""
MARKERS: Final = {
    "implementation_name": "cpython",
    "implementation_version": f"{PYTHON}.2",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": f"{PYTHON}.2",
    "python_version": PYTHON,
    "sys_platform": "linux",
}
"""What requirements are asked about the Python of the images (PEP 508)."""
_PIN: Final = re.compile(r"([a-z0-9.-]+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})*)")


@dataclass(frozen=True)
class Target:
    """One image.

    Attributes:
        name: Of the target in the Dockerfile; the image is `voicemesh/NAME`.
        extras: Of pyproject.toml; their packages are all that it holds beside the mesh's own code.
        package: The package that its process runs; "" for the command line, which is in `voicemesh` itself.
        heavy: It has PyTorch: its lock is for x86-64 alone, and constraints-coqui.txt has its versions, too.

    """

    name: str
    extras: tuple[str, ...]
    package: str
    heavy: bool = False

    @property
    def lock(self) -> pathlib.Path:
        """The file of its pins."""
        return FOLDER / f"{self.name}.lock"


TARGETS: Final = (
    Target("gateway", ("gateway", "codecs", "flags"), "gateway"),
    Target("llm", ("llm",), "services.llm"),
    Target("chunker", ("chunker",), "services.chunker"),
    Target("tts", ("tts", "espeak"), "services.tts"),
    Target("tts-coqui-cpu", ("tts", "coqui"), "services.tts", heavy=True),
    Target("tts-coqui-cuda", ("tts", "coqui"), "services.tts", heavy=True),
    Target("cache", ("cache", "semantic"), "services.cache"),
    Target("cli", ("cli",), ""),
)
BUILD_LOCK: Final = FOLDER / "build.lock"
"""What builds the mesh's wheel, and the packages that come as source alone; in no image."""


@dataclass(frozen=True)
class Pin:
    """One package of a lock file: its version and the digests of the files that pip may take."""

    name: str
    version: str
    hashes: tuple[str, ...]


def read_lock(path: pathlib.Path) -> dict[str, Pin]:
    """Return name → pin.

    Raises:
        ValueError: A line is none of comment, blank and pin.

    """
    return {pin.name: pin for pin in _pins(path)}


def _pins(path: pathlib.Path) -> Iterator[Pin]:
    for line in path.read_text().replace(" \\\n   ", "").splitlines():
        if not line or line.startswith("#"):
            continue
        found = _PIN.fullmatch(line)
        if found is None:
            raise ValueError(f"{path.name}: {line!r} is no name==version with hashes")
        name, version, hashes = found.groups()
        yield Pin(name, version, tuple(hashes.replace("--hash=", "").split()))


def read_pins(path: pathlib.Path) -> dict[str, str]:
    """Return name → version of a file of constraints, or of Debian's packages (`name=version`)."""
    lines = (line.strip() for line in path.read_text().splitlines())
    pins = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: version.removeprefix("=") for name, _, version in pins}
