"""A process that has imported what others begin with, and becomes them.

`python -m tests.support.warm_image FD MODULE…` imports the modules; who is at the socket FD asks it:

    warm ── asks with descriptors 0, 1, 2 ──▶ image ── fork ──▶ between ── fork ──▶ the process
    (subreaper) ◀───────────── its id ────────── image             └ ends, so that `warm` adopts the process

From there on the process is one like any other: it has its own environment, folder, arguments, standard
streams, signals and exit status, and the `__main__` of its module is run as `python -m` runs it.
"""

import gc
import importlib
import io
import json
import os
import runpy
import signal
import socket
import sys
from typing import Any

MESSAGE_BYTES = 1 << 18
"""More than an environment has."""


def main(control: socket.socket, modules: list[str]) -> None:
    """Import `modules`, and start what is asked for until nobody can ask."""
    for module in modules:
        importlib.import_module(module)
        # It is run, not imported, by whoever this becomes.
        if module.endswith(".__main__"):
            del sys.modules[module]
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - of this machine, and no path
    if threads != 1:
        raise SystemExit(f"one of {modules} starts a thread when it is imported: a fork would lose it")
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 3)
        if not message:
            return
        job = json.loads(message)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            if (started := os.fork()) != 0:
                os.write(writing, str(started).encode())
                os._exit(0)
            for descriptor in (control.detach(), reading, writing):
                os.close(descriptor)
            become(job, descriptors)
        os.close(writing)
        for descriptor in descriptors:
            os.close(descriptor)
        os.waitpid(between, 0)
        control.send(os.read(reading, 32))
        os.close(reading)


def become(job: dict[str, Any], descriptors: list[int]) -> None:
    """Run the job in this process; never returns."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    sys.path[0] = job["folder"]
    sys.argv = ["-m", *job["arguments"]]
    sys.stdin = sys.__stdin__ = _text(0, "r")  # type: ignore[misc] # as an interpreter does when it begins
    sys.stdout = sys.__stdout__ = _text(1, "w")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text(2, "w")  # type: ignore[misc]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
    sys.exit(0)


def _text(descriptor: int, mode: str) -> io.TextIOWrapper:
    binary = open(descriptor, f"{mode}b")  # noqa: SIM115 - a descriptor, and for good
    line_buffering = descriptor == 2 or os.isatty(descriptor)
    errors = "backslashreplace" if descriptor == 2 else "strict"
    return io.TextIOWrapper(binary, "utf-8", errors, line_buffering=line_buffering)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        main(asked, sys.argv[2:])
