"""A program that says what it was started with, and ends as its first argument says."""

import atexit
import json
import os
import pathlib
import signal
import sys
import threading


def main() -> None:
    """Say everything, and end."""
    atexit.register(lambda: sys.stdout.write("at the exit\n"))
    told = {
        "arguments": sys.argv[1:], "folder": str(pathlib.Path.cwd()), "stdin": sys.stdin.read(),
        "name": __name__,
        "variables": sorted(name for name in os.environ if name.startswith("PROBE_")),
        "encodings": [stream.encoding for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "open": sorted(path.name for path in pathlib.Path("/proc/self/fd").iterdir()),
        "interrupts": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "warnings": sys.warnoptions, "threads": threading.active_count(),
    }  # fmt: skip
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stderr.write("to the standard error\n")
    match sys.argv[1]:
        case "number":
            sys.exit(3)
        case "text":
            sys.exit("for a reason")
        case "error":
            raise LookupError("nobody catches it")
        case "interrupt":
            signal.raise_signal(signal.SIGINT)
        case "killed":
            sys.stdout.flush()
            signal.raise_signal(signal.SIGKILL)
        case "thread":
            threading.Timer(0.01, sys.stdout.write, ["a thread, to its end\n"]).start()
        case _:
            pass


if __name__ == "__main__":
    main()
