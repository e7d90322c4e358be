"""Generate the Python stubs of the contract into `voicemesh/<name>/v1`.

Messages and their types come from protoc in grpcio-tools, the types of the service stubs from
mypy-protobuf. `make proto` runs this. With `--check` nothing is written: it says which committed
stubs differ from what the protos give, and fails if any do.
"""

import pathlib
import sys
import tempfile

from google.rpc import status_pb2
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PLUGINS = pathlib.Path(sys.executable).parent
STUBS = "voicemesh/*/v1/*_pb2*.py*"


def main() -> int:
    """Generate everything, or check it; return the exit status."""
    if sys.argv[1:] == ["--check"]:
        with tempfile.TemporaryDirectory() as scratch:
            return generate(pathlib.Path(scratch)) or compare(pathlib.Path(scratch))
    return generate(ROOT)


def generate(target: pathlib.Path) -> int:
    """Write the stubs of every proto below `target`; return protoc's exit status."""
    files = sorted(path.relative_to(PROTOS) for path in PROTOS.rglob("*.proto"))
    site_packages = pathlib.Path(status_pb2.__file__).parents[2]
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    status: int = protoc.main(
        [
            "protoc",
            f"-I{PROTOS}",
            f"-I{site_packages}",
            f"-I{well_known}",
            f"--plugin=protoc-gen-mypy={PLUGINS / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={PLUGINS / 'protoc-gen-mypy_grpc'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out=quiet:{target}",
            f"--mypy_grpc_out=quiet,only_async:{target}",
            *map(str, files),
        ]
    )
    for file in files:
        package = (target / file).parent
        for folder in (package, package.parent):
            (folder / "__init__.py").touch()
    return status


def compare(fresh: pathlib.Path) -> int:
    """Name the stubs of the checkout that are missing, stale or left over; return 1 if there are any."""
    expected = {path.relative_to(fresh): path.read_bytes() for path in fresh.glob(STUBS)}
    present = {path.relative_to(ROOT): path.read_bytes() for path in ROOT.glob(STUBS)}
    wrong = sorted(
        path for path in expected.keys() | present.keys() if expected.get(path) != present.get(path)
    )
    for path in wrong:
        print(f"{path}: differs from what protos/ gives. Run `make proto` and commit the result.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
