"""Write which of Debian's packages the images hold beside their base, and which build them: name=version.

    tools/lock_debian.py --work FOLDER

Asks apt what it would install into a fresh Debian bookworm, from where this machine has its packages. Needs
root and debootstrap.
"""

import argparse
import pathlib
import re
import shutil
import sys
from typing import Final

from image_builds import CannotBuildError, check_machine, make_base, run
from image_targets import FOLDER

PYTHON: Final = ("python3.11-minimal", "libpython3.11-stdlib", "ca-certificates")
LOCKS: Final = {
    "debian-python.lock": ("What every image has of Debian beside its base", PYTHON),
    "debian-build.lock": ("What builds the images, beside that", (*PYTHON, "python3-pip")),
}
_WOULD: Final = re.compile(r"^Inst (\S+) (?:\[[^]]*\] )?\((\S+) ", re.MULTILINE)


def main() -> int:
    """Ask apt and write."""
    parser = argparse.ArgumentParser(description="Write the lock files of Debian's packages.")
    parser.add_argument(
        "--work", type=pathlib.Path, required=True, help="a folder for what is made on the way"
    )
    work = parser.parse_args().work.resolve()
    try:
        check_machine()
        work.mkdir(parents=True, exist_ok=True)
        make_base(work / "base.tar", work / "scratch")
        root = work / "apt"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        run(["tar", "--extract", "--file", str(work / "base.tar"), "-C", str(root)])
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        run(["chroot", str(root), "apt-get", "-qq", "update"])
        before: dict[str, str] = {}
        for name, (what, packages) in LOCKS.items():
            command = ["apt-get", "--simulate", "install", "--no-install-recommends", *packages]
            found = dict(_WOULD.findall(run(["chroot", str(root), *command])))
            pins = {package: version for package, version in found.items() if package not in before}
            before |= found
            lines = (f"{package}={version}" for package, version in sorted(pins.items()))
            header = f"# {what}. Written by `make images-lock-debian`; do not edit.\n"
            (FOLDER / name).write_text(header + "\n".join(lines) + "\n")
            print(f"deploy/images/{name}: {len(pins)} packages")
        shutil.rmtree(root)
    except CannotBuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
