"""Write the lock files of the images: each package with its version and the digests of its files.

    tools/lock_images.py [TARGET …] [--cpu-wheels PLACE]

Asks pip what it would install for a target's extras under the constraints, on x86-64 and on ARM (64 bits),
and downloads nothing but metadata. Needs a Python 3.11 on Linux and x86-64, as the images have.
`tts-coqui-cpu` takes PyTorch's build for CPUs, which is not among the packages that pip finds by itself:
PLACE is a folder, or a page of links, that has it; without it that target is left as it is.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from typing import Final

import project
from image_targets import BUILD_LOCK, MARKERS, PYTHON, TARGETS, Pin, Target

# pip asks the Python that it runs on which markers hold, whatever it is told to install for.
_PIP: Final = """
import json, runpy, sys
from pip._vendor.packaging import markers
markers.default_environment = lambda environment=json.loads(sys.argv.pop(1)): dict(environment)
sys.argv[0] = "pip"
runpy.run_module("pip", run_name="__main__")
"""
GLIBC: Final = 36
"""Debian bookworm's is 2.36."""
CONSTRAINTS: Final = ("constraints.txt", "constraints-coqui.txt")
CPU_TARGET: Final = "tts-coqui-cpu"
HEADER: Final = """\
# {what}.
# Written by `make images-lock` from pyproject.toml and {constraints}; do not edit.
"""


def main() -> int:
    """Ask pip and write."""
    parser = argparse.ArgumentParser(description="Write the lock files of the images.")
    parser.add_argument("targets", nargs="*", help="only these; `build` is what builds")
    parser.add_argument("--cpu-wheels", default="", help="where PyTorch's builds for CPUs are")
    arguments = parser.parse_args()
    here = (sys.version_info[:2], sys.platform, platform.machine())
    if here != ((3, 11), "linux", "x86_64"):
        print(
            f"Use Python {PYTHON} on Linux and x86-64, as the images have: this is {here}.", file=sys.stderr
        )
        return 1
    known = {target.name: target for target in TARGETS}
    if strangers := sorted(set(arguments.targets) - {*known, "build"}):
        print(f"no target: {', '.join(strangers)}; there are {', '.join([*known, 'build'])}", file=sys.stderr)
        return 1
    wanted = arguments.targets or [*known, "build"]
    for name in wanted:
        if name == "build":
            declared = project.load()["build-system"]["requires"]
            # setuptools builds what comes as source alone.
            pins = _both(resolve([*declared, "setuptools"]), resolve([*declared, "setuptools"], arm=True))
            _write(BUILD_LOCK, "What builds the images, and is in none of them", CONSTRAINTS[:1], pins)
        elif name == CPU_TARGET and not arguments.cpu_wheels:
            print(f"{name}: left as it is: --cpu-wheels is not given")
        else:
            _lock(known[name], arguments.cpu_wheels if name == CPU_TARGET else "")
    return 0


def _lock(target: Target, wheels: str) -> None:
    wanted = project.requirements(target.extras)
    constraints = CONSTRAINTS if target.heavy else CONSTRAINTS[:1]
    pins = resolve(wanted, constraints=constraints, wheels=wheels)
    if not target.heavy:
        pins = _both(pins, resolve(wanted, arm=True))
    _write(target.lock, f"What the image {target.name} holds beside the mesh's own code", constraints, pins)


def resolve(
    wanted: list[str], *, constraints: Iterable[str] = CONSTRAINTS[:1], arm: bool = False, wheels: str = ""
) -> dict[str, Pin]:
    """Return name → pin of all that pip would install for `wanted` into an empty environment."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        (folder / "wanted.txt").write_text("\n".join(wanted))
        report = folder / "report.json"
        markers = MARKERS | ({"platform_machine": "aarch64"} if arm else {})
        command = [sys.executable, "-c", _PIP, json.dumps(markers)]
        command += ["install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--report", str(report), "--requirement", str(folder / "wanted.txt")]
        for name in constraints:
            command += ["--constraint", name]
        if wheels:
            command += ["--find-links", wheels]
        if arm:
            command += ["--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp"]
            command += ["--target", str(folder / "nothing"), *_platforms("aarch64")]
        # Other places than pip's own would give other files under the same names.
        strange = ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT")
        environment = {name: value for name, value in os.environ.items() if name not in strange}
        environment["PIP_CONFIG_FILE"] = os.devnull
        subprocess.run(command, check=True, cwd=project.ROOT, env=environment)
        return _read(report.read_text())


def _platforms(machine: str) -> list[str]:
    """Return what pip is to take wheels for: every manylinux that Debian's glibc can carry."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 16, -1)]
    return [word for tag in [*tags, f"manylinux2014_{machine}"] for word in ("--platform", tag)]


def _read(report: str) -> dict[str, Pin]:
    found: dict[str, Pin] = {}
    for item in json.loads(report)["install"]:
        name = re.sub(r"[-_]+", "-", item["metadata"]["name"]).lower()
        digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
        found[name] = Pin(name, item["metadata"]["version"], (f"sha256:{digest}",))
    return found


def _both(here: dict[str, Pin], there: dict[str, Pin]) -> dict[str, Pin]:
    """Return the pins with the digests of both machines.

    Raises:
        ValueError: They would hold different packages.

    """
    if (left := {(pin.name, pin.version) for pin in here.values()}) != (
        right := {(pin.name, pin.version) for pin in there.values()}
    ):
        raise ValueError(f"x86-64 and ARM would differ: {sorted(left ^ right)}")
    return {
        name: Pin(name, pin.version, tuple(sorted({*pin.hashes, *there[name].hashes})))
        for name, pin in here.items()
    }


def _write(path: pathlib.Path, what: str, constraints: Iterable[str], pins: dict[str, Pin]) -> None:
    lines = [
        " \\\n    ".join([f"{pin.name}=={pin.version}", *(f"--hash={each}" for each in pin.hashes)])
        for _, pin in sorted(pins.items())
    ]
    header = HEADER.format(what=what, constraints=" and ".join(constraints))
    path.write_text(header + "\n".join(lines) + "\n")
    print(f"{path.relative_to(project.ROOT)}: {len(pins)} packages")


if __name__ == "__main__":
    sys.exit(main())
