"""One child of the supervisor: a process, what it writes, and how it ended."""

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from voicemesh.cli.logs import LogLine, parse

_LINE_LIMIT_BYTES: Final = 1024 * 1024
_LINES_KEPT: Final = 20
_LAST_WORDS_S: Final = 1.0
_TAIL_COLUMNS: Final = 200


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """A child to run.

    Attributes:
        name: Short name, for people.
        argv: Program and arguments.
        env: Its whole environment.
        cwd: Folder that it runs in.
        address: Where it answers `grpc.health.v1`.
        front: True where the others serve it: it is stopped before them.

    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    address: str
    front: bool = False


Relay = Callable[[LogLine], bool]
"""Is given every line that a child writes; says whether people have seen it now."""


class Child(asyncio.SubprocessProtocol):
    """One running child.

    A protocol of its own, because `asyncio.subprocess.Process.wait()` returns only when the pipes
    are closed too: workers that a crashed child leaves behind hold them open
    (https://github.com/python/cpython/issues/119710).
    """

    def __init__(self, spec: ChildSpec, relay: Relay) -> None:
        self.spec = spec
        self.last_lines: deque[LogLine] = deque(maxlen=_LINES_KEPT)
        self.unseen: deque[LogLine] = deque(maxlen=_LINES_KEPT)
        self.exited = asyncio.Event()
        self._relay = relay
        self._silent = asyncio.Event()
        self._rest = b""
        self._skipping = False
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002 - asyncio's signature
        """Cut what it writes into lines."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(b"(a line of more than 1 MiB was left out)" if self._skipping else line)
            self._skipping = False
        if len(self._rest) > _LINE_LIMIT_BYTES:
            self._rest, self._skipping = b"", True

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - as above
        """Note the end of what it writes."""
        if fd == 1:
            self._line(self._rest)
            self._rest = b""
            self._silent.set()

    def process_exited(self) -> None:
        """Note its end."""
        self.exited.set()

    def _line(self, data: bytes) -> None:
        if text := data.decode(errors="backslashreplace").rstrip():
            line = parse(self.spec.name, text)
            self.last_lines.append(line)
            if not self._relay(line):
                self.unseen.append(line)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._transport is not None
        return self._transport.get_pid()

    @property
    def status(self) -> int | None:
        """Its exit status, below zero for a signal; None while it runs."""
        assert self._transport is not None
        return self._transport.get_returncode()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it is still there."""
        if not self.exited.is_set() and self._transport is not None:
            with contextlib.suppress(ProcessLookupError):
                self._transport.send_signal(number)

    def kill_group(self) -> None:
        """Kill what is left of it and of the processes that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def end_input(self) -> None:
        """Close its standard input."""
        assert self._transport is not None
        pipe = self._transport.get_pipe_transport(0)
        if pipe is not None:
            pipe.close()

    async def clean_up(self) -> None:
        """Of a child that has ended: kill what it started, read the last of what it wrote."""
        self.kill_group()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._silent.wait()
        assert self._transport is not None
        self._transport.close()

    def how_it_ended(self) -> str:
        """Return its end in words."""
        status = self.status
        if status is None:
            return "is running"
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with exit status {status}"


def last_words(children: Sequence[Child]) -> str:
    """Return what the children complained of; of those who complained of nothing, how far they came."""
    return "".join(_last_words_of(child) for child in children)


def _last_words_of(child: Child) -> str:
    # Nothing is said twice.
    loud = [line for line in child.last_lines if line.is_loud]
    lines = [line for line in child.unseen if line.is_loud or not loud][-8:]
    if loud and not lines:
        return ", for the reason above"
    return "".join(
        f"\n  {child.spec.name} | {part[:_TAIL_COLUMNS]}" for line in lines for part in line.text.splitlines()
    )
