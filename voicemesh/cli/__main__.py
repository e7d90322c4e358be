"""The entry point `voicemesh`."""

import os
import sys


def main() -> None:
    """Run the command line; ends the process."""
    # gRPC's own notes about connections are not for people.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from voicemesh.cli.app import app  # noqa: PLC0415 - may be missing what it imports
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "click"):
            raise
        print(
            f"error: NOT_INSTALLED: the command line needs {error.name}\nhint: pip install 'voicemesh[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows "?" rather than end the command.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # both are text files here
    app(prog_name="voicemesh")


if __name__ == "__main__":
    main()
