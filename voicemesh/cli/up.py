"""`voicemesh up`: the whole mesh on this machine, until it is told to stop."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from voicemesh.cli import mesh_tls
from voicemesh.cli.checkout import find_checkout
from voicemesh.cli.child import Child
from voicemesh.cli.exits import DONE, STOPPED, Failure, report, usage
from voicemesh.cli.logs import LogLine, as_record, clock
from voicemesh.cli.plan import DEFAULT_LISTEN, REDIS_VARIABLE, MeshPlan, plan, plan_on_free_ports
from voicemesh.cli.restarts import RestartPolicy
from voicemesh.cli.supervisor import Back, Died, Supervisor

_DEFAULT_GRACE_S: Final = 30.0
# A child drains for its grace, then closes what it has; only then it counts as stuck.
_EXTRA_GRACE_S: Final = 5.0
_NAME: Final = "up"
"""The supervisor, among the processes whose lines are printed."""


@dataclass(frozen=True, kw_only=True)
class UpOptions:
    """What `voicemesh up` was asked for."""

    free_ports: bool = False
    metrics_port: int | None = None
    """Where Prometheus scrapes the first process; 0: nowhere, None: the default ones."""
    verbose: bool = False
    as_json: bool = False
    ready_timeout_s: float = 60.0
    replicas: int = 1
    """How many processes of each service and gateways there are."""
    restarts: int = RestartPolicy.restarts
    """How often in a row one of them is started again."""
    hung_after_s: float = RestartPolicy.hung_after_s
    """After so long without an answer one is killed; 0: never."""
    tls: bool = False
    """Whether it speaks TLS with certificates of its own."""


def run_up(options: UpOptions) -> int:
    """Run the mesh until SIGINT, SIGTERM or a child that cannot be kept; return the exit status."""
    if not options.tls:
        return asyncio.run(_up(options))
    with mesh_tls.certificates() as folder:
        return asyncio.run(_up(options, folder))


class Relay:
    """Prints what the children write: warnings and errors, or everything.

    Args:
        verbose: True for everything.
        as_records: True to print records as they are, and what is none as one: for programs.
        now: The time of day, here.

    Attributes:
        starting: True until all children serve. What several say while they start, they say of what they
            share, as a setting: it is printed once.
        quiet: True once they are told to stop.

    """

    def __init__(
        self,
        *,
        verbose: bool,
        as_records: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        self._verbose = verbose
        self._as_records = as_records
        self._now = now
        self._said: set[str] = set()
        self.starting = True
        self.quiet = False

    def __call__(self, line: LogLine) -> bool:
        """Print one line on standard error, if it is to be seen; return whether people have seen it."""
        if not (self._verbose or line.level == "error" or (line.is_loud and not self.quiet)):
            return False
        if self.starting and not self._verbose:
            if line.text in self._said:
                return True
            self._said.add(line.text)
        if self._as_records:
            print(as_record(line, self._now()), file=sys.stderr, flush=True)
            return True
        level = f"{line.level}: " if line.level else ""
        at = clock(line.time, self._now())
        print(f"{at} {line.service:<8}| {level}{line.text}", file=sys.stderr, flush=True)
        return True


@asynccontextmanager
async def running_mesh(
    mesh: MeshPlan,
    relay: Relay,
    *,
    override: bool,
    hurry: asyncio.Event | None = None,
    certificates: Path | None = None,
) -> AsyncIterator[Supervisor]:
    """Run the children of `mesh`; stop all of them at the end, whatever happens.

    They speak TLS as the environment says, or with the `certificates` in a folder.
    """
    specs = mesh.specs(os.environ, override=override)
    if certificates is not None:
        specs = mesh_tls.with_certificates(specs, certificates)
    supervisor = Supervisor(specs, relay, grace_s=_grace_s(), health=mesh_tls.asking(specs))
    try:
        await supervisor.start()
        yield supervisor
    finally:
        # Children that are told to stop have nothing to say that matters to people.
        relay.quiet = True
        stop = asyncio.create_task(supervisor.stop(hurry), name="stop")
        killed = await asyncio.shield(stop)
        for child in killed:
            print(f"warning: {child.spec.name} did not stop in time and was killed", file=sys.stderr)


async def _up(options: UpOptions, certificates: Path | None = None) -> int:
    began_s = time.monotonic()
    mesh = _plan(options)
    mesh.check_free()
    relay = Relay(
        verbose=options.verbose, as_records=os.environ.get("VOICEMESH_LOG_FORMAT", "").lower() == "json"
    )
    stop, hurry = asyncio.Event(), asyncio.Event()
    _stop_on_signals(stop, hurry)
    status = DONE
    async with running_mesh(
        mesh, relay, override=options.free_ports, hurry=hurry, certificates=certificates
    ) as supervisor:
        progress = Progress(supervisor, began_s, as_json=options.as_json, certificates=certificates)
        stopping = asyncio.create_task(stop.wait(), name="stopping")
        starting = asyncio.create_task(
            supervisor.ready(options.ready_timeout_s, progress.serving), name="starting"
        )
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                relay.starting = False
                progress.ready(mesh)
                await _until_end(supervisor, stopping, options, Keeping(relay, as_json=options.as_json))
        except Failure as failure:
            # Said at once: to stop the others may take as long as their turns.
            report(failure)
            status = failure.status
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
        if not options.as_json:
            print("stopping: turns in flight may finish (Ctrl-C again: at once)", file=sys.stderr)
    return STOPPED if hurry.is_set() else status


def _plan(options: UpOptions) -> MeshPlan:
    root, replicas = find_checkout(), options.replicas
    if not options.free_ports:
        return plan(root, metrics_port=options.metrics_port, replicas=replicas)
    shared_cache = bool(os.environ.get(REDIS_VARIABLE))
    scraped = options.metrics_port is None
    mesh = plan_on_free_ports(root, scraped=scraped, replicas=replicas, shared_cache=shared_cache)
    if not options.metrics_port:
        return mesh
    fixed = plan(root, {}, metrics_port=options.metrics_port, replicas=replicas)
    metrics = {name: address for name, address in fixed.metrics.items() if name in mesh.listen}
    return replace(mesh, metrics=metrics)


async def _until_end(
    supervisor: Supervisor, stopping: "asyncio.Task[bool]", options: UpOptions, keeping: "Keeping"
) -> None:
    """Keep the children until the mesh is told to stop. Raises Failure where one cannot be kept."""
    policy = RestartPolicy(
        restarts=options.restarts,
        hung_after_s=options.hung_after_s,
        # It may load for as long as at the start, or drain.
        closed_after_s=max(options.ready_timeout_s, _grace_s()),
    )
    kept = asyncio.create_task(supervisor.keep(policy, keeping), name="keep")
    try:
        await asyncio.wait({kept, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if kept.done() and not stopping.done():
            kept.result()
    finally:
        kept.cancel()
        await asyncio.gather(kept, return_exceptions=True)


class Keeping:
    """Says what became of children: to people and to the log in one line, to programs on standard output."""

    def __init__(self, relay: Relay, *, as_json: bool) -> None:
        self._relay = relay
        self._as_json = as_json

    def __call__(self, news: Died | Back) -> None:
        """Say it."""
        match news:
            case Died():
                text = (
                    f"{news.name} {news.how}: starting it again in {news.pause_s:.1f} s "
                    f"({news.deaths} of {news.restarts})"
                )
                self._relay(LogLine(_NAME, "warning", text))
            case Back():
                text = f"{news.name} serves again after {news.took_s:.1f} s, pid {news.pid}"
                self._relay(LogLine(_NAME, "warning", text))
                if self._as_json:
                    back = {"back": news.name, "pid": news.pid, "took_s": round(news.took_s, 3)}
                    print(json.dumps(back), flush=True)


class Progress:
    """Says how far the start is."""

    def __init__(
        self, supervisor: Supervisor, began_s: float, *, as_json: bool, certificates: Path | None = None
    ) -> None:
        self._supervisor = supervisor
        self._certificates = certificates
        self._began_s = began_s
        self._as_json = as_json
        if not as_json:
            names = ", ".join(child.spec.name for child in supervisor.children)
            print(f"starting {names} …", flush=True)

    def serving(self, child: Child) -> None:
        """One process is SERVING."""
        if not self._as_json:
            waited_s = time.monotonic() - self._began_s
            where = f"{child.spec.address:<21}  pid {child.pid}"
            print(f"  {child.spec.name:<9} {where:<34} serving after {waited_s:.1f} s", flush=True)

    def ready(self, mesh: MeshPlan) -> None:
        """Every process is SERVING."""
        if self._as_json:
            addresses = {name: mesh.address(name) for name in mesh.listen}
            pids = {child.spec.name: child.pid for child in self._supervisor.children}
            took_s = round(time.monotonic() - self._began_s, 3)
            print(
                json.dumps(
                    {
                        "ready": True,
                        "addresses": addresses,
                        "metrics": mesh.scraped(),
                        "pids": pids,
                        "took_s": took_s,
                        **({"certificates": str(self._certificates)} if self._certificates else {}),
                    }
                ),
                flush=True,
            )
            return
        scheme = mesh_tls.scheme(child.spec for child in self._supervisor.children)
        for address in mesh.addresses("http"):
            print(f"  {'http':<9} {scheme}://{address}/")
        if len(mesh.addresses("tts")) > len(mesh.addresses("cache")):
            print(f"  {'cache':<9} one: more would not share their histories without VOICEMESH_REDIS_URL")
        self._say_metrics(mesh)
        gateways = ",".join(mesh.addresses("gateway"))
        print(f'try: voicemesh ask "Hello" --addr {gateways}   (Ctrl-C stops the mesh)')
        where = {
            "VOICEMESH_ADDR": (gateways, "gateway"),
            "VOICEMESH_TTS_ADDR": (mesh.address("tts"), "tts"),
            "VOICEMESH_CACHE_ADDR": (",".join(mesh.addresses("cache")), "cache"),
        }
        elsewhere = {
            variable: address
            for variable, (address, name) in where.items()
            if address != DEFAULT_LISTEN[name]
        }
        if elsewhere:
            exports = " ".join(f"{variable}={address}" for variable, address in elsewhere.items())
            print(f"for all commands: export {exports}")
        if self._certificates is not None:
            print(f"with TLS: {mesh_tls.exports(self._certificates)}")
        print("voicemesh ready", flush=True)

    @staticmethod
    def _say_metrics(mesh: MeshPlan) -> None:
        """Say where Prometheus scrapes."""
        if mesh.metrics:
            listed = " ".join(f"{name}={address}" for name, address in mesh.scraped().items())
            print(f"  {'metrics':<9} {listed}")
        if mesh.unscraped:
            names = ", ".join(mesh.unscraped)
            print(f"  {'metrics':<9} not of {names}: their ports are in use (--metrics-port takes others)")


def _stop_on_signals(stop: asyncio.Event, hurry: asyncio.Event) -> None:
    def told() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told)


def _grace_s() -> float:
    text = os.environ.get("VOICEMESH_DRAIN_GRACE_S", "")
    try:
        return (float(text) if text else _DEFAULT_GRACE_S) + _EXTRA_GRACE_S
    except ValueError:
        raise usage(f"VOICEMESH_DRAIN_GRACE_S: {text!r} is not a number of seconds") from None
