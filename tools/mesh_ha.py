"""Two of each on this machine, found as on Kubernetes: by names whose addresses change.

    make mesh-ha [ARGS="--replicas 3 --dns-ttl-s 30"]

Each process has an address of its own in 127.0.0.0/8 and the settings of `k8s/base`; a name server on
loopback has an A record for each that is told. Standard input takes commands: `pods`, `roll SERVICE`,
`scale SERVICE N`, `delete POD`, `kill POD`. Ctrl-C ends it: gateways first, turns in flight finish.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from typing import Any, Final

from tests.support.cluster import HTTP_PORT, Cluster, host_of, running_cluster
from tests.support.mesh import SERVICES, service_of
from tests.support.redis_server import redis_server

_HELP: Final = "commands: pods | roll SERVICE | scale SERVICE N | delete POD | kill POD"
_LOUD: Final = ("warning", "error", "critical")


def relay(name: str, line: str) -> None:
    """Print what somebody should see of a process's log."""
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError:
        record = {"level": "error", "event": line}
    if record.get("level") in _LOUD or record.get("event") in ("peer addresses", "draining"):
        rest = {
            key: value
            for key, value in record.items()
            if key not in ("event", "level", "timestamp", "service", "module", "trace_id", "span_id")
        }
        shown = " ".join(f"{key}={value}" for key, value in rest.items())
        print(
            f"{time.strftime('%H:%M:%S')} {name:<11}| {record['event']} {shown}", file=sys.stderr, flush=True
        )


def say(text: str) -> None:
    """Print a line, with the time that logs have, too."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def show(cluster: Cluster) -> None:
    """Print the pods, and which of them are told."""
    for service in SERVICES:
        told = set(cluster.zone.get(host_of(service)))
        for pod in cluster.pods.values():
            if service_of(pod.name) == service:
                state = "ready" if pod.ready else "not ready"
                listed = "in DNS" if pod.address in told else "not in DNS"
                where = f"{cluster.address(pod.name):<20} pid {pod.process.process.pid:<8}"
                again = f", restarts {pod.restarts}" if pod.restarts else ""
                print(f"  {pod.name:<11} {where} {state}, {listed}{again}")
    sys.stdout.flush()


async def obey(cluster: Cluster, line: str) -> None:
    """Do what one line says."""
    began_s = time.monotonic()
    match line.split():
        case []:
            return
        case ["pods"]:
            show(cluster)
            return
        case ["roll", service] if service in SERVICES:
            statuses = await cluster.roll(service)
            say(f"rolled {service} in {time.monotonic() - began_s:.1f} s, exit statuses {statuses}")
        case ["scale", service, count] if service in SERVICES and count.isdecimal():
            await cluster.scale(service, int(count))
            say(f"{service}: {count} after {time.monotonic() - began_s:.1f} s")
        case ["delete", name] if name in cluster.pods:
            say(f"{name} ended with {await cluster.delete(name)}")
        case ["kill", name] if name in cluster.pods:
            say(f"{name} is killed")
            if await cluster.kill(name):
                say(f"{name} is ready again after {time.monotonic() - began_s:.1f} s")
        case _:
            say(f"{line!r} is no command, or names nothing that is there; {_HELP}")


async def read_commands(cluster: Cluster) -> None:
    """Obey standard input until it ends, each command in a task: a roll takes a while."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    # Its own descriptor: a terminal's is shared with standard output, which must go on to block.
    with contextlib.suppress(OSError, ValueError):
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(0), "rb"))
        async with asyncio.TaskGroup() as group:
            while line := await reader.readline():
                group.create_task(obey(cluster, line.decode(errors="replace").strip()))


async def run(options: argparse.Namespace) -> int:
    """Run it until a signal."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    further = [f"{service}-{n}" for n in range(2, options.replicas + 1) for service in SERVICES]
    began_s = time.monotonic()
    async with redis_server() as redis:
        environment = {"VOICEMESH_REDIS_URL": redis.url}
        if options.simulated:
            environment["VOICEMESH_TTS_VOICES"] = options.simulated
        async with running_cluster(
            environment,
            replicas=further,
            ttl_s=options.dns_ttl_s,
            block=options.block,
            told=relay,
            patient=False,
            restarts=True,
        ) as (cluster, _):
            kept = f"answers are kept for {options.dns_ttl_s} s"
            print(f"names are looked up at 127.0.0.1:{cluster.zone.port}, {kept}")
            show(cluster)
            for pod in cluster.pods.values():
                if service_of(pod.name) == "gateway":
                    print(f"  {'http':<11} http://{pod.address}:{HTTP_PORT}/")
            print(f'try: voicemesh ask "Hello" --addr {cluster.target("gateway")}   (Ctrl-C stops the mesh)')
            print(_HELP)
            print(f"voicemesh ready after {time.monotonic() - began_s:.1f} s", flush=True)
            commands = asyncio.create_task(read_commands(cluster), name="commands")
            await stop.wait()
            commands.cancel()
            await asyncio.gather(commands, return_exceptions=True)
            print("stopping: turns in flight may finish", file=sys.stderr, flush=True)
            statuses = await cluster.stop()
    bad = {name: status for name, status in statuses.items() if status}
    if bad:
        print(f"exit statuses that are not 0: {bad}", file=sys.stderr)
    return 1 if bad else 0


def main() -> int:
    """Run it as the arguments say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replicas", type=int, default=2, help="pods of each service at the start")
    parser.add_argument("--dns-ttl-s", type=int, default=5, help="how long the name server keeps an answer")
    parser.add_argument(
        "--block", default="127.0.50", help="first three numbers of all addresses; empty: free ones"
    )
    parser.add_argument(
        "--simulated", default="", metavar="JSON", help="VOICEMESH_TTS_VOICES instead of k8s/base's"
    )
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    raise SystemExit(main())
