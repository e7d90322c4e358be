"""Where each process of a mesh on this machine listens, and what it is told."""

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from voicemesh.cli.checkout import SERVERS
from voicemesh.cli.exits import UNREACHABLE, Failure, usage
from voicemesh.cli.supervisor import ChildSpec
from voicemesh.secret_variables import environment_of

DEFAULT_LISTEN: Final = {
    "gateway": "127.0.0.1:50050",
    "llm": "127.0.0.1:50051",
    "chunker": "127.0.0.1:50052",
    "tts": "127.0.0.1:50053",
    "cache": "127.0.0.1:50054",
    "http": "127.0.0.1:8080",
}
"""Process, and the gateway's HTTP edge, to where it listens when the environment does not say."""

METRICS_PORT: Final = 9450
"""Where Prometheus scrapes the first process when the environment does not say; the others follow."""
_SCRAPED: Final = ("gateway", "llm", "chunker", "tts", "cache")
"""The processes, in the order of their ports."""
_CALLED: Final = ("llm", "chunker", "tts", "cache")
_LAST_PORT: Final = 65535
_ANY_HOST: Final = ("0.0.0.0", "[::]")  # noqa: S104 - recognised, not bound


@dataclass(frozen=True)
class MeshPlan:
    """A mesh on this machine.

    Attributes:
        listen: Process ("http" for the gateway's HTTP edge) to the address that it binds.
        root: The checkout.
        metrics: Process to the address where Prometheus scrapes it; those that are missing are not scraped.
        unscraped: Processes that are not scraped because somebody has their port.
        on_free_ports: True where ports were free when it was made, but for those of metrics that were named.

    """

    listen: Mapping[str, str]
    root: Path
    metrics: Mapping[str, str] = field(default_factory=dict)
    unscraped: tuple[str, ...] = ()
    on_free_ports: bool = False

    def address(self, name: str) -> str:
        """Return the address at which `name` is reached from this machine."""
        return _from_here(self.listen[name])

    def scraped(self) -> dict[str, str]:
        """Return the addresses at which Prometheus on this machine scrapes, by process."""
        return {name: _from_here(address) for name, address in self.metrics.items()}

    def check_free(self) -> None:
        """Raise Failure where an address is taken: whoever has it would answer for a child of ours."""
        wanted = [*self.listen.items(), *((f"metrics of {name}", at) for name, at in self.metrics.items())]
        taken = [f"{address} ({name})" for name, address in wanted if not is_free(address)]
        if taken:
            raise Failure(
                UNREACHABLE,
                "PORT_IN_USE",
                f"in use, or not an address of this machine: {', '.join(taken)}",
                "leave out --metrics-port for free ones, or name another"
                if self.on_free_ports
                else "is another `voicemesh up` running? `--free-ports` takes free ones instead, "
                f"and {listen_variable('gateway')} and its like name others",
            )

    def specs(self, environment: Mapping[str, str], *, override: bool = False) -> list[ChildSpec]:
        """Return the children to run; `environment` is passed on, to each without the secrets of others.

        Addresses of services that the environment names are left alone, unless `override`.
        """
        env = dict(environment)
        for name, listen in self.listen.items():
            env[listen_variable(name)] = listen
        for name in _SCRAPED:
            env[metrics_variable(name)] = self.metrics.get(name, "")
        for name in _CALLED:
            variable = f"VOICEMESH_{name.upper()}_ADDR"
            env[variable] = self.address(name) if override else env.get(variable) or self.address(name)
        env["VOICEMESH_EXIT_WITH_STDIN"] = "true"
        env["VOICEMESH_LOG_FORMAT"] = "json"
        return [
            ChildSpec(
                name=name,
                argv=(sys.executable, "-m", module),
                env=environment_of(name, env, self.root),
                cwd=self.root,
                address=self.address(name),
            )
            for name, module in SERVERS.items()
        ]


def listen_variable(name: str) -> str:
    """Return the environment variable that says where `name` listens."""
    return f"VOICEMESH_{name.upper()}_LISTEN"


def metrics_variable(name: str) -> str:
    """Return the environment variable that says where Prometheus scrapes `name`."""
    return f"VOICEMESH_{name.upper()}_METRICS_LISTEN"


def _from_here(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    return f"127.0.0.1:{port}" if host in _ANY_HOST else listen


def is_free(address: str) -> bool:
    """Tell whether `address`, `HOST:PORT`, can be bound now; of other addresses nothing is known."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or host.startswith("unix"):
        return True
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # What a process that has ended leaves behind for a while does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except (OSError, OverflowError):
            return False
    return True


def plan(
    root: Path, environment: Mapping[str, str] | None = None, *, metrics_port: int | None = 0
) -> MeshPlan:
    """Return a mesh on the addresses that the environment names, or on the default ones.

    Prometheus scrapes the processes at `metrics_port` and the ports behind it, but where the environment
    names an address; at none for 0. For None they are the default ones, as far as nobody has them.

    Raises Failure for a port of 0, which nobody else could find, and for one that cannot be.
    """
    environment = os.environ if environment is None else environment
    listen = {
        name: environment.get(listen_variable(name)) or default for name, default in DEFAULT_LISTEN.items()
    }
    metrics = {
        name: environment[variable]
        for name in _SCRAPED
        if (variable := metrics_variable(name)) in environment
    }
    unscraped = []
    for offset, name in enumerate(_SCRAPED):
        if name in metrics or metrics_port == 0:
            continue
        address = f"127.0.0.1:{(metrics_port or METRICS_PORT) + offset}"
        if metrics_port is None and not is_free(address):
            unscraped.append(name)
        else:
            metrics[name] = address
    metrics = {name: address for name, address in metrics.items() if address}
    variables = {listen_variable(name): address for name, address in listen.items()}
    variables |= {metrics_variable(name): address for name, address in metrics.items()}
    for variable, address in variables.items():
        port = address.rpartition(":")[2]
        if port.isdecimal() and int(port) > _LAST_PORT and not address.startswith("unix:"):
            raise usage(f"{variable}: {address}: a port is 1 to {_LAST_PORT}")
        if address.endswith(":0"):
            raise usage(
                f"{variable}: port 0 takes a port that nobody can know",
                "--free-ports finds free ones for all",
            )
    return MeshPlan(listen, root, metrics, tuple(unscraped))


def plan_on_free_ports(root: Path, *, scraped: bool = False) -> MeshPlan:
    """Return a mesh on ports that are free now; Prometheus can scrape it where it is to be `scraped`."""
    names = [*DEFAULT_LISTEN, *(_SCRAPED if scraped else ())]
    probes = [socket.socket() for _ in names]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
    addresses = [f"127.0.0.1:{port}" for port in ports]
    listen = dict(zip(DEFAULT_LISTEN, addresses, strict=False))
    metrics = dict(zip(_SCRAPED, addresses[len(listen) :], strict=False))
    return MeshPlan(listen, root, metrics, on_free_ports=True)
