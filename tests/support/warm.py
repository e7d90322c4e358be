"""Processes that begin without importing: each is a fork of one that has.

Most of what a process of the mesh costs a test is the import of gRPC, pydantic and its own modules: 0.7 s of
a core each time. Within a test run one process imports that once (see `warm_image`), and the others are forks
of it. They are real processes in all else (`tests/contract/test_warm_starts.py`). What a test is about still
begins by its command: `voicemesh up` in `tests/mesh/test_command_line.py`, the life of a process in
`tests/contract/test_runtime_life.py`, each service in `tests/contract/test_*_process.py`. With
`COLD_STARTS=1` everything does.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

ROOT: Final = pathlib.Path(__file__).resolve().parents[2]
_PR_SET_CHILD_SUBREAPER: Final = 36
_ANSWER_S: Final = 120.0


@dataclass(frozen=True)
class Image:
    """What processes that are forks of one image have in common."""

    modules: tuple[str, ...]
    """What is imported. A module `__main__` is imported for what it imports itself."""
    flags: tuple[str, ...] = ()
    """Of the interpreter."""


MESH: Final = Image(
    (
        *(f"services.{name}.__main__" for name in ("llm", "chunker", "tts", "cache")),
        "gateway.__main__",
        "services.llm.core.openai_client",
    )
)

COMMAND_LINE: Final = Image(
    (
        "voicemesh.cli.__main__",
        "voicemesh.cli.app",
        *(
            f"voicemesh.cli.{name}"
            for name in ("bench", "chat", "compare", "invalidate", "lookup", "speak", "warm")
        ),
    ),
    flags=("-W", "error", "-X", "utf8"),
)


class _Input:
    """The writing end of a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, data: bytes) -> None:
        """Write everything, however long the process takes to read it."""
        view = memoryview(data)
        with contextlib.suppress(BrokenPipeError):
            while view:
                view = view[self._file.write(view) :]

    def close(self) -> None:
        """End the input."""
        self._file.close()


class WarmProcess:
    """A process that was forked; what is here means what it does in `asyncio.subprocess.Process`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.stdin: _Input | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._ended = os.pidfd_open(pid)
        self._status: int | None = None

    @property
    def returncode(self) -> int | None:
        """Its exit status, or less than 0: the signal that ended it. None: it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
                os.close(self._ended)
                if self.stdin is not None:
                    self.stdin.close()
        return self._status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end; return `returncode`."""
        while self.returncode is None:
            await _readable(self._ended)
        assert self._status is not None
        return self._status

    async def communicate(self, data: bytes | None = None) -> tuple[bytes, bytes]:
        """Write `data`, read both streams to their ends, and wait."""
        out, err, _ = await asyncio.gather(_all(self.stdout), _all(self.stderr), self._feed(data))
        await self.wait()
        return out, err

    async def _feed(self, data: bytes | None) -> None:
        if self.stdin is not None:
            await asyncio.to_thread(self.stdin.write, data or b"")
            self.stdin.close()


async def _all(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    # Its own: several may wait, and a loop has one reader for each descriptor.
    own = os.dup(descriptor)
    event = asyncio.Event()
    loop.add_reader(own, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(own)
        os.close(own)


Running = asyncio.subprocess.Process | WarmProcess


class _RunningImage:
    """An image that can be forked."""

    def __init__(self, image: Image) -> None:
        self._asking, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable, *image.flags, "-m", "tests.support.warm_image",
                    str(theirs.fileno()), *image.modules,
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # A Ctrl-C in a terminal is for who started them, who ends them in order.
                start_new_session=True,
            )  # fmt: skip
        self._lock = threading.Lock()

    def fork(self, message: bytes, descriptors: Sequence[int]) -> int:
        """Return the id of a process that the image has become."""
        with self._lock:
            socket.send_fds(self._asking, [message], descriptors)
            ready, _, _ = select.select([self._asking], [], [], _ANSWER_S)
            answer = self._asking.recv(32) if ready else b""
        if not answer:
            raise RuntimeError("the image that processes are forked from is gone or does not answer")
        return int(answer)

    def close(self) -> None:
        """End it. What was forked from it goes on."""
        self._asking.close()
        self.process.wait()


class Warm:
    """The images of this process; none may be used until it is allowed."""

    def __init__(self) -> None:
        self._allowed = False
        self._images: dict[Image, _RunningImage] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Let processes be forks of images, where the system can; images end with this."""
        if sys.platform == "linux" and hasattr(os, "pidfd_open") and not os.environ.get("COLD_STARTS"):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            self._allowed = True
        yield
        self._allowed = False
        for image in self._images.values():
            image.close()
        self._images.clear()

    @property
    def pids(self) -> set[int]:
        """The images themselves, which live as long as the run."""
        return {image.process.pid for image in self._images.values()}

    async def start(
        self,
        image: Image,
        module: str,
        *arguments: str | bytes,
        environment: Mapping[str, str],
        folder: pathlib.Path = ROOT,
        stdin: int | None = DEVNULL,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> Running:
        """Start `python -m MODULE ARGUMENTS…`; the streams are as in `create_subprocess_exec`."""
        if not self._allowed:
            return await asyncio.create_subprocess_exec(
                sys.executable, *image.flags, "-m", module, *arguments,
                cwd=folder, env=dict(environment), stdin=stdin, stdout=stdout, stderr=stderr,
            )  # fmt: skip
        job = {
            "module": module,
            "arguments": [os.fsdecode(argument) for argument in arguments],
            "environment": dict(environment),
            "folder": str(folder),
        }
        theirs, ours = _streams(stdin, stdout, stderr)
        try:
            pid = await asyncio.to_thread(self._fork, image, json.dumps(job).encode(), theirs)
        except BaseException:
            for descriptor in ours.values():
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        process = WarmProcess(pid)
        process.stdin = _Input(ours[0]) if 0 in ours else None
        process.stdout = await _reader(ours[1]) if 1 in ours else None
        process.stderr = await _reader(ours[2]) if 2 in ours else None
        return process

    def _fork(self, image: Image, message: bytes, descriptors: Sequence[int]) -> int:
        with self._lock:
            if image not in self._images:
                self._images[image] = _RunningImage(image)
        return self._images[image].fork(message, descriptors)


def _streams(*wanted: int | None) -> tuple[list[int], dict[int, int]]:
    """Open the three standard streams: the descriptors of the process, and our ends of pipes by number."""
    theirs: list[int] = []
    ours: dict[int, int] = {}
    for number, stream in enumerate(wanted):
        if stream == PIPE:
            reading, writing = os.pipe()
            theirs.append(writing if number else reading)
            ours[number] = reading if number else writing
        elif stream == DEVNULL:
            theirs.append(os.open(os.devnull, os.O_RDWR))
        else:
            theirs.append(os.dup(number if stream is None else stream))
    return theirs, ours


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    file = os.fdopen(descriptor, "rb", buffering=0)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    return reader


warm: Final = Warm()
