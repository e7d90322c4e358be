"""Find what must not be in the repository: unfinished work, paths of one machine, package registries.

A registry or a path that is right on one machine is wrong on the next, and unfinished work belongs
in the tracker. Names each place, and fails if there is one.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Written so that no pattern matches its own line.
FORBIDDEN = {
    "unfinished work": re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X])\b"),
    "a path of one machine": re.compile(r"(?<![\w.$}>)])/(?:wor[k]|roo[t]|hom[e]|User[s])/\w"),
    "a package registry": re.compile(
        r"pypi\.or[g]|pythonhosted\.or[g]|registry\.npmj[s]|(?:index|registr[y])-ur[l]\b"
    ),
}


def main() -> int:
    """Look into every file that is tracked, or is about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    found = 0
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # not text, or deleted and not yet committed
        for number, line in enumerate(text.splitlines(), start=1):
            for what, pattern in FORBIDDEN.items():
                if match := pattern.search(line):
                    print(f"{name}:{number}: {what}: {match.group()}")
                    found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
