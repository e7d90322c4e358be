"""A real mesh: five processes or more on unix sockets in a folder of their own."""

import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.delaying_proxy import DelayingProxy, delaying_proxy
from tests.support.warm import MESH, Running, warm
from voicemesh.tls import Tls

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVICES = ("llm", "chunker", "tts", "cache", "gateway")
_START_S = 60.0
_STOP_S = 60.0
"""Twice the grace of a drain: a process that uses all of it ends by itself, and says how."""
_PATIENT = {
    "VOICEMESH_REHEARSAL_TTFT_MS": "20",
    "VOICEMESH_REHEARSAL_TOKENS_PER_S": "400",
    # A busy machine must not make lookups late: tests of lateness set their own.
    "VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS": "2000",
    # Nor must it refuse turns: tests of overload set their own.
    "VOICEMESH_GATEWAY_MIN_TURNS": "256",
    "VOICEMESH_GATEWAY_START_TURNS": "256",
}
_KEPT_LINES = 200
AT_ONCE = tuple((f"grpc.{which}_reconnect_backoff_ms", 50) for which in ("initial", "min", "max"))
"""A process that takes long to listen is tried again soon: gRPC waits longer each time, up to minutes."""


@dataclass
class MeshProcess:
    """One process of the mesh."""

    name: str
    process: Running
    lines: list[str] = field(default_factory=list)
    """What it wrote to standard error."""
    reader: "asyncio.Task[None] | None" = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with every line."""
    told: Callable[[str], None] | None = None
    """Is given every line; only the last ones are kept then."""

    def take(self, line: str) -> None:
        """Take one line."""
        self.lines.append(line)
        if self.told is not None:
            del self.lines[:-_KEPT_LINES]
            self.told(line)
        self.news.set()

    @property
    def logs(self) -> list[dict[str, Any]]:
        """Its log, parsed."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    async def says(self, text: str) -> None:
        """Wait until a line of what it writes has `text` in it, those before now too."""
        while not any(text in line for line in self.lines):
            self.news.clear()
            await self.news.wait()

    async def stop(self) -> int:
        """Ask it to stop, and wait."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
        return await self.wait()

    async def kill(self) -> None:
        """Kill it, unless it has ended, and wait."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.wait()

    async def wait(self) -> int:
        """Wait for its end; return its exit status."""
        try:
            status = await asyncio.wait_for(self.process.wait(), _STOP_S)
        except TimeoutError:
            self.process.kill()
            status = await self.process.wait()
        if self.reader is not None:
            await self.reader
        return status


@dataclass(frozen=True)
class Own:
    """What one process of a mesh has for itself."""

    wrapper: tuple[str, ...] = ()
    """A command that runs the one behind it in its own place, such as `unshare`."""
    environment: Mapping[str, str] = field(default_factory=dict)


class Mesh:
    """A process of each service, and of `replicas`, started together; `environment` is added to each one's.

    A `patient` one has times and limits at which no busy machine makes a test fail, on top of the defaults.

    A process is named as its service, or `SERVICE-NAME` where it is one more of them: `gateway-b` in front of
    the same services, without HTTP; `tts-b` beside `tts`, both known to every gateway.

    Attributes:
        folder: Where its sockets are.
        processes: By name.
        own: What single processes have beside that; looked at when they are started.
        proxies: What stands between the gateway and a process, by process.
        tls: How a service is spoken to over TLS, by service; one that is missing is spoken to in plain text.

    """

    def __init__(
        self,
        folder: pathlib.Path,
        environment: dict[str, str],
        *,
        replicas: Iterable[str] = (),
        proxied: Iterable[str] = (),
        patient: bool = True,
    ) -> None:
        self.folder = folder
        self.processes: dict[str, MeshProcess] = {}
        self.own: Mapping[str, Own] = {}
        self.proxies: dict[str, DelayingProxy] = {}
        self.tls: Mapping[str, Tls] = {}
        self.names = (*(name for name in SERVICES if name != "gateway"), *replicas, "gateway")
        proxied = frozenset(proxied)
        paths = {name: self.proxy_path(name) if name in proxied else self.path(name) for name in self.names}
        reached = {
            service: ",".join(path for name, path in paths.items() if service_of(name) == service)
            for service in SERVICES
        }
        self._environment = {
            **os.environ,
            **(_PATIENT if patient else {}),
            "VOICEMESH_HTTP_LISTEN": f"unix:{folder}/http.sock",
            **{f"VOICEMESH_{name.upper()}_LISTEN": self.address(name) for name in SERVICES},
            **{
                f"VOICEMESH_{name.upper()}_ADDR": f"unix:{paths}"
                for name, paths in reached.items()
                if name != "gateway"
            },
            "VOICEMESH_EXIT_WITH_STDIN": "true",
            **{name: value.replace("{folder}", str(folder)) for name, value in environment.items()},
        }

    def path(self, name: str) -> str:
        """Return the socket that a process listens on."""
        return f"{self.folder}/{name}.sock"

    def proxy_path(self, name: str) -> str:
        """Return the socket of the proxy in front of a process."""
        return f"{self.folder}/{name}-proxy.sock"

    def address(self, name: str) -> str:
        """Return where a process listens."""
        return f"unix:{self.path(name)}"

    def channel(self, name: str) -> grpc.aio.Channel:
        """Open a channel to a process, which finds it soon after it has begun to listen."""
        tls = self.tls.get(service_of(name))
        if tls is None:
            return grpc.aio.insecure_channel(self.address(name), options=AT_ONCE)
        options = (*AT_ONCE, *tls.options(self.address(name)))
        return grpc.aio.secure_channel(self.address(name), tls.credentials(), options=options)

    async def start(self, *names: str) -> None:
        """Start some processes (all, if none is named) and wait until they are SERVING.

        One that is there already is made anew: what it was is ended first.
        """
        for name in names or self.names:
            if name in self.processes:
                await self.processes[name].kill()
            self.processes[name] = await self._spawn(name)
        await asyncio.gather(*(self.wait_serving(name) for name in names or self.names))

    async def _spawn(self, name: str) -> MeshProcess:
        service = service_of(name)
        module = "gateway" if service == "gateway" else f"services.{service}"
        further = {"VOICEMESH_HTTP_ENABLED": "false"} if name != service else {}
        has = self.own.get(name, Own())
        environment = {
            **self._environment,
            f"VOICEMESH_{service.upper()}_LISTEN": self.address(name),
            **further,
            **has.environment,
        }
        # Python looks at variables of its own when it begins, and so before a fork.
        if has.wrapper or any(variable.startswith("PYTHON") for variable in has.environment):
            process: Running = await asyncio.create_subprocess_exec(
                *has.wrapper, sys.executable, "-m", module,
                cwd=ROOT, env=environment, stdin=PIPE, stderr=PIPE,
            )  # fmt: skip
        else:
            process = await warm.start(MESH, module, environment=environment, stdin=PIPE, stderr=PIPE)
        started = MeshProcess(name, process)
        started.reader = asyncio.create_task(read_lines(process, started), name=f"log of {name}")
        return started

    async def wait_serving(self, name: str, *, serving: bool = True) -> None:
        """Wait until a process says SERVING, or the contrary."""
        wanted = health_pb2.HealthCheckResponse.SERVING
        process = self.processes[name]
        async with self.channel(name) as channel:
            call = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(), wait_for_ready=True
            )
            ended = asyncio.create_task(process.process.wait())
            reading = asyncio.create_task(_until(call, wanted, equal=serving))
            await asyncio.wait({ended, reading}, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
            done = reading.done() and not reading.cancelled() and reading.exception() is None
            call.cancel()
            for task in (ended, reading):
                task.cancel()
            await asyncio.gather(ended, reading, return_exceptions=True)
        if not done:
            raise AssertionError(f"{name} is not ready:\n" + "\n".join(process.lines[-20:]))

    async def stop(self) -> dict[str, int]:
        """Stop everything, gateways first; return the exit statuses."""
        statuses = {}
        for name in sorted(self.processes, key=lambda name: service_of(name) != "gateway"):
            statuses[name] = await self.processes[name].stop()
        return statuses


def service_of(name: str) -> str:
    """Return the service that a process is one of."""
    return name.partition("-")[0]


async def _until(call: Any, wanted: int, *, equal: bool) -> None:
    async for response in call:
        if (response.status == wanted) is equal:
            return


async def read_lines(process: Running, of: MeshProcess) -> None:
    """Keep what a process writes, until it ends."""
    assert process.stderr is not None
    while line := await process.stderr.readline():
        of.take(line.decode(errors="backslashreplace").rstrip("\n"))


def running_mesh(**environment: str) -> contextlib.AbstractAsyncContextManager[Mesh]:
    """Run a mesh; `environment` are variables of every process."""
    return running_mesh_with(environment)


@contextlib.asynccontextmanager
async def running_mesh_with(
    environment: Mapping[str, str],
    *,
    own: Mapping[str, Own] | None = None,
    proxied: Iterable[str] = (),
    replicas: Iterable[str] = (),
    tls: Mapping[str, Tls] | None = None,
) -> AsyncIterator[Mesh]:
    """Run a mesh; `environment` are variables of every process, `own` is what single ones have beside it.

    Between the gateway and each process of `proxied` stands a proxy that can hold back its answers.
    `replicas` are further processes, such as `tts-b`. `tls` is how services are spoken to that speak TLS.
    """
    # Not pytest's tmp_path: the path of a socket has 107 bytes at most.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vm-"))
    proxied = tuple(proxied)
    mesh = Mesh(folder, dict(environment), replicas=replicas, proxied=proxied)
    mesh.own, mesh.tls = own or {}, tls or {}
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for name in proxied:
            proxy = delaying_proxy(mesh.proxy_path(name), mesh.path(name))
            mesh.proxies[name] = await stack.enter_async_context(proxy)
        stack.push_async_callback(mesh.stop)
        await mesh.start()
        yield mesh
