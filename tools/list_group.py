"""Print the requirements of one dependency group of pyproject.toml, a line each.

pip reads groups itself from 25.1 on (`--group`); the one that comes with Python 3.11 is older.
"""

import pathlib
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main() -> int:
    """Print the group that the one argument names."""
    (name,) = sys.argv[1:]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    print("\n".join(project["dependency-groups"][name]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
