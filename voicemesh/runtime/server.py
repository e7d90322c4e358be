"""`run()`: hosts one service in one process, from its settings to a clean exit.

settings ── bind ── start() ── SERVING ── … ── SIGTERM/SIGINT ── NOT_SERVING ── drain()
                                                                                  │
          exit 0 ── telemetry flushed ── close() ── sessions joined ── stop(grace)┘
"""

import asyncio
import contextlib
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from voicemesh.runtime import logs, settings
from voicemesh.runtime.clock import Clock, SystemClock
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.interceptors import ErrorInterceptor
from voicemesh.runtime.sessions import SessionRegistry
from voicemesh.runtime.settings import ServerSettings
from voicemesh.runtime.telemetry import Telemetry

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2
EXIT_ADDRESS: Final = 3

_log = logs.get_logger(__name__)
S = TypeVar("S", bound=ServerSettings)


class HealthSink(Protocol):
    """Where the state of a service is told: `grpc_health.v1.health.aio.HealthServicer`."""

    async def set(self, service: str, status: Any) -> None:
        """Set the status of `service`, a `HealthCheckResponse.ServingStatus`."""
        ...


class Readiness:
    """What a service says about itself to `grpc.health.v1`: SERVING only while it can really work."""

    def __init__(self, servicer: HealthSink, full_name: str) -> None:
        self._servicer = servicer
        self._names = ("", full_name)
        self._draining = False
        self.serving = False

    async def set(self, serving: bool, reason: str) -> None:
        """Say that the service can work, or that it cannot, and why. While draining it stays NOT_SERVING."""
        serving = serving and not self._draining
        if serving != self.serving:
            (_log.info if serving else _log.warning)("serving" if serving else "not serving", reason=reason)
        self.serving = serving
        value = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in self._names:
            await self._servicer.set(name, value)

    async def drain(self) -> None:
        """Say NOT_SERVING from now on."""
        self._draining = True
        await self.set(False, "draining")


class Runtime:
    """What `run()` gives to the service that it hosts."""

    def __init__(self, service: str, readiness: Readiness, telemetry: Telemetry, clock: Clock) -> None:
        self.service = service
        self.readiness = readiness
        self.telemetry = telemetry
        self.clock = clock
        self.sessions = SessionRegistry()


class Hosted(ABC):
    """A service that `run()` can host."""

    @abstractmethod
    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer to `server`."""

    @abstractmethod
    async def start(self) -> None:
        """Make ready. When it can work it calls `Runtime.readiness.set(True, …)`, now or later.

        Raising ends the process: `MeshError` and `SettingsError` with their text.
        """

    async def drain(self) -> None:  # noqa: B027 - most services have nothing to refuse
        """Begin to end: refuse new work, let what is running finish. Called before `stop(grace)`."""

    @abstractmethod
    async def close(self) -> None:
        """End everything that `start` began. Called last."""


def run(
    service: str,
    full_name: str,
    settings_type: type[S],
    listen_of: Callable[[S], str],
    build: Callable[[S, Runtime], Hosted],
) -> int:
    """Host one service until it is told to stop; return the exit status of the process.

    Args:
        service: Short name: "llm", "chunker", "tts", "cache" or "gateway".
        full_name: Fully qualified name of the gRPC service, for health and reflection.
        settings_type: Its settings.
        listen_of: The field of the settings that holds the listen address.
        build: Makes the service. Nothing else constructs.

    Returns:
        0 after a drain, 1 when the service failed, 2 for a wrong setting, 3 for an address that
        cannot be bound.

    """
    try:
        loaded = settings.load(settings_type)
    except SettingsError as error:
        _complain(service, f"wrong settings\n{error}")
        return EXIT_SETTINGS
    logs.configure(service, level=loaded.log_level, fmt=loaded.log_format)
    return asyncio.run(_serve(service, full_name, loaded, listen_of(loaded), build))


async def _serve(
    service: str, full_name: str, loaded: S, listen: str, build: Callable[[S, Runtime], Hosted]
) -> int:
    telemetry = Telemetry(service)
    stop = asyncio.Event()
    _stop_on_signals(stop, exit_with_stdin=loaded.exit_with_stdin)
    health_servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # its stubs lack aio
    server = make_server(loaded.max_message_bytes)
    runtime = Runtime(service, Readiness(health_servicer, full_name), telemetry, SystemClock())
    try:
        hosted = build(loaded, runtime)
    except SettingsError as error:
        _complain(service, f"wrong settings\n{error}")
        return EXIT_SETTINGS
    await runtime.readiness.set(False, "starting")
    hosted.register(server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if loaded.reflection:
        reflection.enable_server_reflection((full_name, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError:
        variable = f"{settings.PREFIX}{service.upper()}_LISTEN"
        _complain(
            service,
            f"cannot listen on {listen}: in use, or not an address of this machine. "
            f"Stop what uses it, or set {variable}.",
        )
        return EXIT_ADDRESS
    _log.info("settings", **settings.describe(loaded))
    await server.start()
    _log.info("listening", address=listen, port=port, pid=os.getpid())
    exit_status = 0
    starting = asyncio.ensure_future(hosted.start())
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        await stopping
    except Exception as error:  # noqa: BLE001 - whatever it is, the process ends in order and says so
        _log.error(
            "cannot start", error=str(error), exc_info=None if isinstance(error, SettingsError) else error
        )
        exit_status = EXIT_FAILED
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await _drain(hosted, runtime, server, loaded.drain_grace_s)
        await asyncio.get_running_loop().run_in_executor(None, telemetry.shutdown)
        _log.info("stopped", exit_status=exit_status)
    return exit_status


async def _drain(hosted: Hosted, runtime: Runtime, server: grpc.aio.Server, grace_s: float) -> None:
    await runtime.readiness.drain()
    await hosted.drain()
    await server.stop(grace_s)
    await runtime.sessions.join(timeout_s=1.0)
    await hosted.close()


def make_server(max_message_bytes: int = 4 * 1024 * 1024) -> grpc.aio.Server:
    """Make a server with the options and the error table that the whole mesh uses."""
    options: list[tuple[str, Any]] = [
        # Without this a second process could bind the same port and take half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        # Clients of the mesh ping every 20 s, also without calls.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    return grpc.aio.server(interceptors=(ErrorInterceptor(),), options=options)


def _complain(service: str, text: str) -> None:
    """Tell the person who started the process, in plain words, what to change."""
    sys.stderr.write(f"voicemesh {service}: {text}\n")


def _stop_on_signals(stop: asyncio.Event, *, exit_with_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if exit_with_stdin:

        def readable() -> None:
            with contextlib.suppress(BlockingIOError):
                if not os.read(sys.stdin.fileno(), 1024):
                    loop.remove_reader(sys.stdin.fileno())
                    stop.set()

        loop.add_reader(sys.stdin.fileno(), readable)
