"""Runs child processes together: all of them serve, or none is left.

    start() ── spawn all ── ready(): every child SERVING ── … ── stop(): SIGTERM the last of the
       │                         │                                children (the gateway: no new
       └── a child ends ─────────┴── ended(): which one, how       turns), then the others; SIGKILL
                                                                   after the grace
Children get a pipe as standard input that nobody writes to: when the supervisor dies in whatever
way, it closes, and they drain (VOICEMESH_EXIT_WITH_STDIN).
"""

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from voicemesh.cli.exits import FAILED, UNREACHABLE, USAGE, Failure
from voicemesh.cli.logs import LogLine, parse

_LINE_LIMIT_BYTES: Final = 1024 * 1024
_LINES_KEPT: Final = 20
_LAST_WORDS_S: Final = 1.0
_TAIL_COLUMNS: Final = 200
_LISTENING: Final = "listening"
"""How the line begins that a process logs when its address is bound."""
_PASSED_ON: Final = {USAGE: "WRONG_SETTINGS", UNREACHABLE: "PORT_IN_USE"}


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """A child to run.

    Attributes:
        name: Short name, for people.
        argv: Program and arguments.
        env: Its whole environment.
        cwd: Folder that it runs in.
        address: Where it answers `grpc.health.v1`.

    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    address: str


Relay = Callable[[LogLine], bool]
"""Is given every line that a child writes; says whether people have seen it now."""

Health = Callable[[str], Awaitable[None]]
"""Returns once the process at an address is SERVING."""


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


async def wait_serving(address: str) -> None:
    """Return once the process at `address` is SERVING."""
    from voicemesh.cli.health import HealthClient  # noqa: PLC0415 - gRPC, while the children start

    async with HealthClient(address) as client:
        await client.wait_serving()


class Supervisor:
    """Runs children; the last of them is the one that the others serve, and is stopped first.

    Args:
        specs: The children, in order of starting.
        relay: Is given every line that they write.
        grace_s: Seconds that each of the two steps of stopping may take before SIGKILL.
        health: How to wait for SERVING.

    """

    def __init__(
        self, specs: Sequence[ChildSpec], relay: Relay, *, grace_s: float, health: Health = wait_serving
    ) -> None:
        self._specs = specs
        self._relay = relay
        self._grace_s = grace_s
        self._health = health
        self._listening: set[str] = set()
        self._limit: asyncio.Timeout | None = None
        self._complaint_s: float | None = None
        self._complained = False
        self.children: list[Child] = []

    async def start(self) -> None:
        """Spawn every child at once."""
        loop = asyncio.get_running_loop()
        for spec in self._specs:
            _, child = await loop.subprocess_exec(
                functools.partial(Child, spec, self._line),
                *spec.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(spec.env),
                cwd=spec.cwd,
                # Ctrl-C goes to the supervisor alone: it stops the children in order.
                start_new_session=True,
            )
            self.children.append(child)

    def _line(self, line: LogLine) -> bool:
        if line.text.startswith(_LISTENING):
            self._listening.add(line.service)
        elif line.is_loud and line.service in self._listening:
            self._complained = True
            self._hurry()
        return self._relay(line)

    def _hurry(self) -> None:
        """Wait no longer than is said: a child is up, and something keeps it from working."""
        if self._complained and self._limit and self._complaint_s:
            soon = asyncio.get_running_loop().time() + self._complaint_s
            self._limit.reschedule(min(self._limit.when() or soon, soon))

    async def ready(
        self,
        timeout_s: float,
        on_serving: Callable[[Child], None],
        *,
        complaint_s: float | None = None,
    ) -> None:
        """Return once every child is SERVING; `on_serving` is told of each.

        Raises Failure when one ends first, after `timeout_s` seconds, or `complaint_s` seconds after one
        that listens has complained.
        """
        began_s = asyncio.get_running_loop().time()
        ended = asyncio.create_task(self.ended())
        waits = [asyncio.create_task(self._serving(child, on_serving)) for child in self.children]
        everyone = asyncio.gather(*waits)
        self._complaint_s = complaint_s
        try:
            async with asyncio.timeout(timeout_s) as self._limit:
                self._hurry()  # a complaint may have come while the others were started
                first: set[asyncio.Future[Any]] = {ended, everyone}
                await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise self.failure(ended.result())
            await everyone
        except TimeoutError:
            slow = [child for child, wait in zip(self.children, waits, strict=True) if not wait.done()]
            names = ", ".join(child.spec.name for child in slow)
            took_s = asyncio.get_running_loop().time() - began_s
            guilty = [child for child in slow if any(line.is_loud for line in child.last_lines)]
            message = f"not ready after {took_s:.0f} s: {names}{_tail(guilty or slow)}"
            raise Failure(FAILED, "NOT_READY", message) from None
        finally:
            self._limit = None
            for task in (ended, *waits):
                task.cancel()
            everyone.cancel()
            await asyncio.gather(ended, *waits, everyone, return_exceptions=True)

    async def _serving(self, child: Child, on_serving: Callable[[Child], None]) -> None:
        await self._health(child.spec.address)
        on_serving(child)

    async def ended(self) -> Child:
        """Return the first child that ends, once one does, with all that it wrote."""
        waits = {asyncio.create_task(child.exited.wait()): child for child in self.children}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        child = waits[next(iter(done))]
        await child.clean_up()
        return child

    def failure(self, child: Child) -> Failure:
        """Return the failure that the end of `child` is for the whole."""
        status = child.status or 0
        reason = _PASSED_ON.get(status, "PROCESS_ENDED")
        message = f"{child.spec.name} {child.how_it_ended()}{_tail([child])}"
        return Failure(status if status in _PASSED_ON else FAILED, reason, message)

    async def stop(self, hurry: asyncio.Event | None = None) -> list[Child]:
        """Stop every child: the last one first, then the others; kill after the grace.

        When `hurry` is set, kill at once. Returns the children that had to be killed.
        """
        killed: list[Child] = []
        for group in (self.children[-1:], self.children[:-1]):
            for child in group:
                child.send(signal.SIGTERM)
            killed += await self._await_end(group, hurry)
        for child in self.children:
            child.end_input()
            await child.clean_up()
        return killed

    async def _await_end(self, group: Sequence[Child], hurry: asyncio.Event | None) -> list[Child]:
        running = [child for child in group if not child.exited.is_set()]
        if not running:
            return []
        gone = asyncio.gather(*(child.exited.wait() for child in running))
        hurried = asyncio.create_task((hurry or asyncio.Event()).wait())
        try:
            first: set[asyncio.Future[Any]] = {gone, hurried}
            await asyncio.wait(first, timeout=self._grace_s, return_when=asyncio.FIRST_COMPLETED)
            killed = [child for child in running if not child.exited.is_set()]
            for child in killed:
                child.kill_group()
            await gone
            return killed
        finally:
            hurried.cancel()
            await asyncio.gather(hurried, return_exceptions=True)


def _tail(children: Sequence[Child]) -> str:
    return "".join(_last_words(child) for child in children)


def _last_words(child: Child) -> str:
    """Return what it complained of; where of nothing, how far it came. Nothing is said twice."""
    loud = [line for line in child.last_lines if line.is_loud]
    lines = [line for line in child.unseen if line.is_loud or not loud][-8:]
    if loud and not lines:
        return ", for the reason above"
    return "".join(
        f"\n  {child.spec.name} | {part[:_TAIL_COLUMNS]}" for line in lines for part in line.text.splitlines()
    )
