"""`run()`: hosts one service in one process, from its settings to a clean exit.

settings ── bind ── start() ── SERVING ── … ── SIGTERM/SIGINT ── NOT_SERVING ── notice ── GOAWAY, drain()
                                                                                             │
                  exit 0 ── telemetry flushed ── close() ── sessions joined ── stop(grace) ──┘

During the notice calls are still taken: who watches leaves this process out by itself, and nobody finds a
door closed that was open when it set out. GOAWAY then sends everybody else away, and calls in flight go on
to their end. The same signal once more cuts all of that: calls that still run are cancelled at once.
"""

import asyncio
import contextlib
import gc
import os
import signal
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from voicemesh.runtime import health, logs, settings
from voicemesh.runtime.allocator import keep_few_heaps
from voicemesh.runtime.calls import CallInterceptor
from voicemesh.runtime.clock import Clock, SystemClock
from voicemesh.runtime.errors import DrainingError, MeshError, SettingsError
from voicemesh.runtime.health import Readiness
from voicemesh.runtime.health_port import HealthPort
from voicemesh.runtime.interceptors import CallsInFlight, ErrorInterceptor
from voicemesh.runtime.metrics import Metrics, make_metrics
from voicemesh.runtime.process_metrics import ProcessMetrics
from voicemesh.runtime.sessions import SessionRegistry
from voicemesh.runtime.settings import ServerSettings
from voicemesh.runtime.telemetry import Telemetry
from voicemesh.runtime.tls import ProcessTls, is_local

__all__ = ["Hosted", "Readiness", "Runtime", "make_server", "run"]

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2
EXIT_ADDRESS: Final = 3

LEAST_PING_INTERVAL_MS: Final = 200
"""Peers that ping more often than this, while nothing is sent to them, are sent away."""
NOTICE_S: Final = 0.1
"""How long a process that somebody watches still takes calls once it has said that it is about to end."""
_LAST_WORD_S: Final = 0.5
"""How long before the end of the grace what still runs is told that it is cut off."""
_SESSIONS_S: Final = 1.0
"""How long the tasks of sessions may take to notice that their calls have ended."""

_log = logs.get_logger(__name__)
S = TypeVar("S", bound=ServerSettings)


class Runtime:
    """What `run()` gives to the service that it hosts.

    Attributes:
        service: Short name, as given to `run()`.
        readiness: Where the service says whether it can work.
        telemetry: Makes spans.
        metrics: Counts and measures; does nothing where nobody asked for it.
        clock: The machine's.
        tls: Its certificates; nothing where it speaks plain text.
        sessions: Holds the tasks of calls; joined before `Hosted.close`.
        in_flight: Calls that run.
        failed: Set by `fail`.

    """

    def __init__(
        self,
        service: str,
        readiness: Readiness,
        telemetry: Telemetry,
        clock: Clock,
        metrics: Metrics | None = None,
        tls: ProcessTls | None = None,
    ) -> None:
        self.service = service
        self.readiness = readiness
        self.telemetry = telemetry
        self.metrics = metrics or Metrics.off()
        self.tls = tls or ProcessTls(service, ServerSettings.model_construct())
        self.clock = clock
        self.sessions = SessionRegistry()
        self.in_flight = CallsInFlight()
        self.failed = asyncio.Event()

    def fail(self, what: str, error: BaseException | None) -> None:
        """End the process in order, with exit status 1: a part that it cannot do without is gone.

        Whoever started the process is expected to start another one. `what` goes to the log.
        """
        if not self.failed.is_set():
            _log.error("cannot go on", what=what, exc_info=error)
            self.failed.set()


class Hosted(ABC):
    """A service that `run()` can host."""

    @property
    def interceptors(self) -> Sequence[grpc.aio.ServerInterceptor]:  # type: ignore[type-arg]  # generic in stubs only
        """What calls pass before any handler."""
        return ()

    @property
    def server_options(self) -> Sequence[tuple[str, Any]]:
        """Options of the server beside those that the whole mesh uses."""
        return ()

    @abstractmethod
    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer to `server`."""

    @abstractmethod
    async def start(self) -> None:
        """Make ready. When it can work it calls `Runtime.readiness.set(True, …)`, now or later.

        Raising ends the process: `MeshError` and `SettingsError` with their text. Cancelled when the
        process is told to stop before it is done.
        """

    async def drain(self) -> None:  # noqa: B027 - most services have nothing to refuse
        """Begin to end: let what is running finish, tell what waits for work to go elsewhere.

        No call comes in any more, and callers were told. Cancelled when the grace is over.
        """

    def cut(self, error: MeshError) -> None:  # noqa: B027 - most have nothing but calls
        """End what runs, with `error`: the grace is nearly over. Does not wait; calls are cut off next."""

    @abstractmethod
    async def close(self) -> None:
        """End everything that `start` began, also where it was cancelled half-way. Called last."""


def run(
    service: str,
    full_name: str,
    settings_type: type[S],
    listen_of: Callable[[S], str],
    build: Callable[[S, Runtime], Hosted],
    metrics_of: Callable[[S], str] = lambda _: "",
) -> int:
    """Host one service until it is told to stop; return the exit status of the process.

    Args:
        service: Short name: "llm", "chunker", "tts", "cache" or "gateway".
        full_name: Fully qualified name of the gRPC service, for health and reflection.
        settings_type: Its settings.
        listen_of: The field of the settings that holds the listen address.
        build: Makes the service. Nothing else constructs.
        metrics_of: The field of the settings that says where Prometheus scrapes the process; "": nowhere.

    Returns:
        0 after a drain, 1 when the service failed, 2 for a wrong setting, 3 for an address that
        cannot be bound.

    """
    try:
        loaded = settings.load(settings_type)
        logs.configure(service, level=loaded.log_level, fmt=loaded.log_format, trace_url=loaded.log_trace_url)
        keep_few_heaps()
        listen, metrics_listen = listen_of(loaded), metrics_of(loaded)
        return asyncio.run(_serve(service, full_name, loaded, listen, metrics_listen, build))
    except SettingsError as error:
        _complain(service, f"wrong settings\n{error}")
        return EXIT_SETTINGS
    finally:
        # Python looks through all that it holds before it exits: seconds, on a machine that is busy, in which
        # whoever waits for the end of the process may lose patience. Nothing here depends on it.
        gc.freeze()


async def _serve(
    service: str,
    full_name: str,
    loaded: S,
    listen: str,
    metrics_listen: str,
    build: Callable[[S, Runtime], Hosted],
) -> int:
    signals = _Signals(exit_with_stdin=loaded.exit_with_stdin)
    readiness = Readiness(full_name)
    metrics = make_metrics(service, scraped=bool(metrics_listen))
    tls = ProcessTls(service, loaded, metrics)
    runtime = Runtime(
        service, readiness, Telemetry(service, content=loaded.trace_content), SystemClock(), metrics, tls
    )
    hosted = build(loaded, runtime)
    server = make_server(
        loaded.max_message_bytes,
        metrics=metrics,
        in_flight=runtime.in_flight,
        max_age_s=loaded.max_connection_age_s,
        max_age_grace_s=loaded.max_connection_age_grace_s,
        interceptors=(*tls.interceptors, *hosted.interceptors),
        own_options=hosted.server_options,
    )
    hosted.register(server)
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(readiness), server)
    # To strangers the contract is told only where somebody said so.
    if loaded.reflection and (is_local(listen) or "reflection" in loaded.model_fields_set):
        reflection.enable_server_reflection((full_name, health.NAME, reflection.SERVICE_NAME), server)
    try:
        port = tls.bind(server, listen)
    except RuntimeError:
        _complain_of_address(service, listen, f"{service.upper()}_LISTEN")
        return EXIT_ADDRESS
    try:
        health_port = HealthPort(readiness, loaded.health_listen) if loaded.health_listen else None
    except RuntimeError:
        _complain_of_address(service, loaded.health_listen, "HEALTH_LISTEN")
        return EXIT_ADDRESS
    if metrics.scraping is not None:
        try:
            metrics.scraping.listen(metrics_listen)
        except OSError:
            _complain_of_address(service, metrics_listen, f"{service.upper()}_METRICS_LISTEN")
            return EXIT_ADDRESS
    _log.info("settings", **settings.describe(loaded))
    for variable, nearest in settings.unknown(type(loaded), os.environ).items():
        hint = f"did you mean {nearest}?" if nearest else "docs/settings.md lists those that there are"
        _log.warning("unknown setting", variable=variable, hint=hint)
    await server.start()
    _log.info("listening", address=listen, port=port, pid=os.getpid())
    if health_port is not None:
        await health_port.start()
        _log.info("health", address=loaded.health_listen, port=health_port.port)
    if metrics.scraping is not None:
        _log.info("metrics", address=metrics.scraping.address)
    own = ProcessMetrics(metrics)
    own.start()
    tls.start()
    exit_status = EXIT_FAILED
    try:
        exit_status = await _until_stopped(service, hosted, runtime, signals)
    finally:
        if not await _end(hosted, runtime, server, signals, loaded):
            exit_status = exit_status or EXIT_FAILED
        if health_port is not None:
            await health_port.stop()
        own.stop()
        await tls.stop()
        await asyncio.gather(runtime.telemetry.flush(), metrics.flush())
        _log.info("stopped", exit_status=exit_status)
    return exit_status


async def _until_stopped(service: str, hosted: Hosted, runtime: Runtime, signals: "_Signals") -> int:
    """Start the service and wait for a signal, or for its failure; return the exit status so far."""
    starting = asyncio.ensure_future(hosted.start())
    stopping = asyncio.ensure_future(signals.stop.wait())
    failing = asyncio.ensure_future(runtime.failed.wait())
    ends = {stopping, failing}
    try:
        await asyncio.wait({starting, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            runtime.readiness.accept()
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    except SettingsError as error:
        _complain(service, f"wrong settings\n{error}")
        return EXIT_SETTINGS
    except MeshError as error:
        _log.error("cannot start", reason=error.reason, error=error.message)
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - whatever it is, the process ends in order and says so
        _log.error("cannot start", exc_info=error)
        return EXIT_FAILED
    finally:
        for task in (starting, *ends):
            task.cancel()
        await asyncio.gather(starting, *ends, return_exceptions=True)
    return EXIT_FAILED if runtime.failed.is_set() else 0


async def _end(
    hosted: Hosted, runtime: Runtime, server: grpc.aio.Server, signals: "_Signals", loaded: ServerSettings
) -> bool:
    """End in order; return False if a step failed. Every step is tried, whatever the others do."""
    await runtime.readiness.drain()
    gentle = asyncio.ensure_future(_finish_calls(hosted, runtime, server, loaded))
    hurried = asyncio.ensure_future(signals.hurry.wait())
    await asyncio.wait({gentle, hurried}, return_when=asyncio.FIRST_COMPLETED)
    if not gentle.done():
        _log.warning("not waiting for calls in flight")
        gentle.cancel()
    hurried.cancel()
    runtime.readiness.end()
    # Also where the grace is cut, or drain() failed: no call outlives this line.
    stopped = await _tried("stop", server.stop(None))
    finished = await _tried("drain", gentle)
    await runtime.sessions.join(timeout_s=_SESSIONS_S)
    closed = await _tried("close", hosted.close())
    return stopped and finished and closed


async def _finish_calls(
    hosted: Hosted, runtime: Runtime, server: grpc.aio.Server, loaded: ServerSettings
) -> None:
    loop = asyncio.get_running_loop()
    readiness, grace_s = runtime.readiness, loaded.drain_grace_s
    deadline = loop.time() + grace_s
    notice_s = max(loaded.drain_notice_s, NOTICE_S if readiness.watchers else 0.0)
    await asyncio.sleep(min(notice_s, grace_s))
    readiness.end()
    # GOAWAY first: who is told by `drain` to go elsewhere must not come back by the same connection.
    stopping = asyncio.ensure_future(server.stop(max(0.0, deadline - loop.time())))
    cutting = asyncio.ensure_future(_cut(hosted, runtime, deadline, grace_s))
    try:
        await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await hosted.drain()
    finally:
        await stopping
        cutting.cancel()
        await asyncio.gather(cutting, return_exceptions=True)


async def _cut(hosted: Hosted, runtime: Runtime, deadline: float, grace_s: float) -> None:
    """Shortly before the grace is over, tell what still runs that it will not end well, and why."""
    loop = asyncio.get_running_loop()
    last_s = min(_LAST_WORD_S, grace_s / 4)
    await asyncio.sleep(max(0.0, deadline - last_s - loop.time()))
    why = DrainingError(
        f"the {runtime.service} service had to end before this did: it waited for {grace_s:g} s "
        "(VOICEMESH_DRAIN_GRACE_S)",
        retry_after_ms=0,
    )
    _log.warning("grace is over", calls=len(runtime.in_flight))
    hosted.cut(why)
    await asyncio.sleep(last_s / 2)
    runtime.in_flight.cut(why)


async def _tried(step: str, work: Awaitable[object]) -> bool:
    try:
        await work
    except asyncio.CancelledError:
        return True
    except Exception as error:  # noqa: BLE001 - the steps behind this one must still run
        _log.error("cannot end in order", step=step, exc_info=error)
        return False
    return True


def make_server(
    max_message_bytes: int = 4 * 1024 * 1024,
    *,
    metrics: Metrics | None = None,
    in_flight: CallsInFlight | None = None,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),  # type: ignore[type-arg]  # generic in stubs only
    own_options: Sequence[tuple[str, Any]] = (),
    ping_after_ms: int = 20_000,
    ping_timeout_ms: int = 5_000,
    least_ping_interval_ms: int = LEAST_PING_INTERVAL_MS,
    max_age_s: float = 0.0,
    max_age_grace_s: float = 0.0,
) -> grpc.aio.Server:
    """Make a server with the options and the error table that the whole mesh uses.

    A peer that says nothing for `ping_after_ms` is pinged; one that does not answer that within
    `ping_timeout_ms` has vanished: its connection is closed and its calls end. One that pings more often
    than every `least_ping_interval_ms` is sent away. Its calls are measured where `metrics` are on, and pass
    `interceptors` before any handler. A peer that has been connected for `max_age_s` (gRPC adds or takes a
    tenth, so that not all come back at once) is asked to connect anew, and to look its target up again; what
    runs on the old connection goes on, for `max_age_grace_s` at most. 0: never, and without an end.
    """
    options: list[tuple[str, Any]] = [
        # Without this a second process could bind the same port and take half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", ping_after_ms),
        # The first finds a machine that is gone, by TCP; the second a process that hangs: its default is a
        # minute, whatever the first says.
        ("grpc.keepalive_timeout_ms", ping_timeout_ms),
        ("grpc.http2.ping_timeout_ms", ping_timeout_ms),
        ("grpc.http2.max_pings_without_data", 0),
        # Callers ping three times a second while a call is open, to know within a second that a process is
        # stopped. Without this gRPC allows a ping in five minutes and closes the connection of who pings
        # more often. (C core calls the constant
        # GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS; its text is another.)
        ("grpc.http2.min_ping_interval_without_data_ms", least_ping_interval_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        *own_options,
    ]
    if max_age_s:
        options.append(("grpc.max_connection_age_ms", round(max_age_s * 1000)))
        if max_age_grace_s:
            options.append(("grpc.max_connection_age_grace_ms", round(max_age_grace_s * 1000)))
    # Also where nothing is measured: what a call logs says by it which turn it is about.
    calls = CallInterceptor(metrics or Metrics.off())
    return grpc.aio.server(interceptors=[calls, *interceptors, ErrorInterceptor(in_flight)], options=options)


def _complain_of_address(service: str, address: str, setting: str) -> None:
    variable = f"{settings.PREFIX}{setting}"
    _complain(
        service,
        f"cannot listen on {address}: in use, or not an address of this machine. "
        f"Stop what uses it, or set {variable}.",
    )


def _complain(service: str, text: str) -> None:
    """Tell the person who started the process, in plain words, what to change."""
    sys.stderr.write(f"voicemesh {service}: {text}\n")


class _Signals:
    """SIGTERM, SIGINT and, where it is asked for, the end of standard input, as events.

    Attributes:
        stop: Set by the first of them.
        hurry: Set when one of the signals comes again. Not by another one: a Ctrl-C in a terminal
            reaches every process at once, and their supervisor passes it on as SIGTERM.

    """

    def __init__(self, *, exit_with_stdin: bool) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._seen: set[int] = set()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._signalled, number)
        if exit_with_stdin:
            mode = os.fstat(0).st_mode
            if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(0)):
                raise SettingsError(
                    f"{settings.PREFIX}EXIT_WITH_STDIN: standard input must be a pipe that someone holds open"
                )
            self._loop.add_reader(0, self._readable)

    def _signalled(self, number: int) -> None:
        if number in self._seen:
            self.hurry.set()
        self._seen.add(number)
        self.stop.set()

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if not os.read(0, 1024):
                self._loop.remove_reader(0)
                self.stop.set()
