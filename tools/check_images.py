"""Check that the lock files of the images agree with the constraints and with pyproject.toml; asks nobody.

Each package has the version of the constraints and digests of its files. What a light image holds is exactly
what its extras need. The packages of those with PyTorch may not be installed here: what their extras ask for
themselves is there.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Final

import project
from image_targets import BUILD_LOCK, FOLDER, MARKERS, TARGETS, Pin, read_lock, read_pins
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_OF_TORCH: Final = ("cuda-", "nvidia-", "triton")
"""A torch for GPUs pins these itself."""
_RENEW: Final = "make images-lock"


def main() -> int:
    """Check all; print what is wrong."""
    found = [*wrong_in_pins(), *wrong_in_sets(), *wrong_in_folder()]
    for line in found:
        print(f"{line}: {_RENEW}")
    return 1 if found else 0


def wrong_in_pins() -> Iterator[str]:
    """Yield where a version is not that of the constraints, or where a digest is missing."""
    light = read_pins(project.ROOT / "constraints.txt")
    heavy = light | read_pins(project.ROOT / "constraints-coqui.txt")
    for path, constraints in [(target.lock, heavy if target.heavy else light) for target in TARGETS] + [
        (BUILD_LOCK, light)
    ]:
        for pin in read_lock(path).values():
            yield from _wrong(path.name, pin, constraints)


def _wrong(where: str, pin: Pin, constraints: dict[str, str]) -> Iterator[str]:
    # "+cpu" and the like say where a build is from.
    version = pin.version.partition("+")[0]
    expected = constraints.get(pin.name)
    if expected is None and not pin.name.startswith(_OF_TORCH):
        yield f"{where}: {pin.name} is in no file of constraints"
    elif expected not in (None, version):
        yield f"{where}: {pin.name} is {version}, and the constraints say {expected}"
    if not pin.hashes:
        yield f"{where}: {pin.name} has no digest"


def wrong_in_sets() -> Iterator[str]:
    """Yield which packages are missing, and which nobody needs."""
    for target in TARGETS:
        locked = set(read_lock(target.lock))
        asked = [Requirement(item) for item in project.requirements(target.extras)]
        if target.heavy:
            needed: set[str] = {canonicalize_name(each.name) for each in asked if _applies(each)}
            unneeded: set[str] = set()
        else:
            needed = set(closure(asked))
            unneeded = locked - needed
        for name in sorted(needed - locked):
            yield f"{target.lock.name}: {name} is missing"
        for name in sorted(unneeded):
            yield f"{target.lock.name}: nothing needs {name}"


def wrong_in_folder() -> Iterator[str]:
    """Yield lock files of no image, and packages of Debian without a version."""
    known = {target.lock for target in TARGETS} | {BUILD_LOCK}
    for path in sorted(FOLDER.glob("*.lock")):
        if path.name.startswith("debian-"):
            for line in path.read_text().splitlines():
                if not re.fullmatch(r"#.*|[a-z0-9.+-]+=[\w.+:~-]+", line):
                    yield f"{path.name}: {line!r} is no name=version"
        elif path not in known:
            yield f"{path.name}: belongs to no image"


def closure(asked: Iterable[Requirement]) -> Iterator[str]:
    """Yield the names of what a Python of the images would need, by what the packages installed here say."""
    waiting, seen = list(asked), set()
    while waiting:
        each = waiting.pop()
        if not _applies(each):
            continue
        key = (canonicalize_name(each.name), *sorted(each.extras))
        if key in seen:
            continue
        seen.add(key)
        yield key[0]
        try:
            lines = metadata.requires(each.name) or ()
        except metadata.PackageNotFoundError:
            lines = ()  # only the images' Python needs it; those have no needs of their own
        for line in lines:
            wanted = Requirement(line)
            if _applies(wanted, each.extras):
                wanted.marker = None
                waiting.append(wanted)


def _applies(each: Requirement, extras: Iterable[str] = ()) -> bool:
    marker = each.marker
    return marker is None or any(marker.evaluate(MARKERS | {"extra": extra}) for extra in ("", *extras))


if __name__ == "__main__":
    sys.exit(main())
