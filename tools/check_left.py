"""Fail if a process that a run has started still lives behind it, and end it.

    RUN_MARK=<unique> … everything that is to be watched …
    python tools/check_left.py <unique>

A process hands its environment down, also to those that outlive it: so whoever has the mark was started by
the run. Where there is no /proc nothing is known, and nothing is said.
"""

import contextlib
import os
import pathlib
import signal
import sys
import time

PROC = pathlib.Path("/proc")
VARIABLE = "RUN_MARK"
SETTLE_S = 5.0
"""How long processes that are ending may take."""


def main() -> int:
    """Check for the mark that the one argument names; return the exit status."""
    (mark,) = sys.argv[1:]
    deadline = time.monotonic() + SETTLE_S
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid, command in left.items():
        print(f"left behind: {pid} {command}", file=sys.stderr)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return 1 if left else 0


def marked(mark: str) -> dict[int, str]:
    """Return the processes that have the mark, but for this one: id → command."""
    wanted = f"{VARIABLE}={mark}".encode()
    found = {}
    for folder in PROC.glob("[0-9]*"):
        # Those of others cannot be read; those that end meanwhile neither.
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid():
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(folder.name)] = command.decode(errors="replace")[:200].strip()
    return found


if __name__ == "__main__":
    sys.exit(main())
