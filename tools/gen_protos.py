"""Generate the Python stubs of the contract into `voicemesh/<name>/v1`.

Messages and their types come from protoc in grpcio-tools, the types of the service stubs from
mypy-protobuf. `make proto` runs this; `make check` runs it and fails if the tree changed.
"""

import pathlib
import sys

from google.rpc import status_pb2
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PLUGINS = pathlib.Path(sys.executable).parent


def main() -> int:
    """Generate everything; return protoc's exit status."""
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
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
            f"--python_out={ROOT}",
            f"--grpc_python_out={ROOT}",
            f"--mypy_out=quiet:{ROOT}",
            f"--mypy_grpc_out=quiet,only_async:{ROOT}",
            *files,
        ]
    )
    for file in files:
        package = (ROOT / file).parent
        for folder in (package, package.parent):
            (folder / "__init__.py").touch()
    return status


if __name__ == "__main__":
    sys.exit(main())
