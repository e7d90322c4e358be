"""Build the wheel and use it as a caller would: installed alone, with nothing but its own needs.

Fails if it holds anything but `voicemesh/`, if it brings in more than it says, or if the client
cannot be imported from it.
"""

import pathlib
import subprocess
import sys
import tempfile
import venv
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
# typing-extensions is what grpcio itself needs.
EXPECTED = {"voicemesh", "grpcio", "protobuf", "googleapis-common-protos", "typing-extensions"}
MUST_HOLD = {"voicemesh/py.typed", "voicemesh/client/__init__.py", "voicemesh/gateway/v1/gateway_pb2.pyi"}


def pip(*arguments: str) -> str:
    """Run pip with the pinned versions and return what it prints."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> int:
    """Build, look inside, install, import."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        pip("wheel", "--quiet", "--no-deps", "--wheel-dir", scratch, ".")
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
        strangers = {name for name in names if name.split("/")[0] not in ("voicemesh", wheel_info(wheel))}
        missing = MUST_HOLD - names
        if strangers or missing:
            print(f"{wheel.name}: should not hold {sorted(strangers)}, should hold {sorted(missing)}")
            return 1
        venv.create(folder / "venv", with_pip=False)
        python = str(folder / "venv" / "bin" / "python")
        pip("--python", python, "install", "--quiet", "--constraint", "constraints.txt", str(wheel))
        listing = pip("--python", python, "list", "--format", "freeze")
        installed = {line.split("==")[0].lower().replace("_", "-") for line in listing.split()}
        if installed != EXPECTED:
            print(f"{wheel.name}: brings in {sorted(installed)}, should bring in {sorted(EXPECTED)}")
            return 1
        # In another folder and isolated, so that the checkout cannot stand in for the wheel.
        done = subprocess.run([python, "-I", "-c", "import voicemesh.client"], cwd=scratch, check=False)
        return done.returncode


def wheel_info(wheel: pathlib.Path) -> str:
    """Return the name of the folder in `wheel` that holds its metadata."""
    name, version, *_ = wheel.name.split("-")
    return f"{name}-{version}.dist-info"


if __name__ == "__main__":
    sys.exit(main())
