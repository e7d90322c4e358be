"""Where each process of a mesh on this machine listens, and what it is told."""

import ipaddress
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from voicemesh.cli.checkout import SERVERS
from voicemesh.cli.child import ChildSpec
from voicemesh.cli.exits import UNREACHABLE, Failure, usage
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
_PORTS_APART: Final = 10
"""How far the ports of a further replica are from those of the one before it."""
MOST_REPLICAS: Final = 9
REDIS_VARIABLE: Final = "VOICEMESH_REDIS_URL"
_ANY_HOST: Final = ("0.0.0.0", "[::]")  # noqa: S104 - recognised, not bound


@dataclass(frozen=True)
class MeshPlan:
    """A mesh on this machine.

    Processes are named as their services, and further replicas of them as "tts-2".

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

    def addresses(self, service: str) -> list[str]:
        """Return the addresses at which all replicas of a service are reached from this machine."""
        return [self.address(name) for name in self.listen if _service_of(name) == service]

    def target(self, service: str) -> str:
        """Return what gRPC is told to reach every replica of a service. Raises Failure where it cannot be."""
        addresses = self.addresses(service)
        if len(addresses) == 1:
            return addresses[0]
        schemes = {_scheme_of(address) for address in addresses}
        if len(schemes) > 1 or "" in schemes:
            raise usage(
                f"{listen_variable(service)}: {addresses[0]}: with --replicas it must be an IP address "
                "and a port, or unix:PATH: a name cannot stand for several ports"
            )
        return f"{schemes.pop()}:" + ",".join(address.removeprefix("unix:") for address in addresses)

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
        for service in DEFAULT_LISTEN:
            env[listen_variable(service)] = self.listen[service]
        for service in _SCRAPED:
            env[metrics_variable(service)] = self.metrics.get(service, "")
        for service in _CALLED:
            variable = f"VOICEMESH_{service.upper()}_ADDR"
            env[variable] = self.target(service) if override else env.get(variable) or self.target(service)
        env["VOICEMESH_EXIT_WITH_STDIN"] = "true"
        env["VOICEMESH_LOG_FORMAT"] = "json"
        return [
            ChildSpec(
                name=name,
                argv=(sys.executable, "-m", module),
                env=environment_of(service, env | self._own(service, name), self.root),
                cwd=self.root,
                address=self.address(name),
                front=service == "gateway",
            )
            for service, module in SERVERS.items()
            for name in self.listen
            if _service_of(name) == service
        ]

    def _own(self, service: str, name: str) -> dict[str, str]:
        """Return what one replica is told beside what all processes are told."""
        if name == service:
            return {}
        own = {
            listen_variable(service): self.listen[name],
            metrics_variable(service): self.metrics.get(name, ""),
        }
        if service == "gateway":
            own[listen_variable("http")] = self.listen["http" + name.removeprefix(service)]
        return own


def listen_variable(name: str) -> str:
    """Return the environment variable that says where `name` listens."""
    return f"VOICEMESH_{name.upper()}_LISTEN"


def metrics_variable(name: str) -> str:
    """Return the environment variable that says where Prometheus scrapes `name`."""
    return f"VOICEMESH_{name.upper()}_METRICS_LISTEN"


def _from_here(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    return f"127.0.0.1:{port}" if host in _ANY_HOST else listen


def _service_of(name: str) -> str:
    return name.partition("-")[0]


def _scheme_of(address: str) -> str:
    """Return how gRPC calls a list of such addresses; "" where it takes no list of them."""
    if address.startswith("unix:"):
        return "unix"
    host = address.rpartition(":")[0].strip("[]")
    try:
        return f"ipv{ipaddress.ip_address(host).version}"
    except ValueError:
        return ""


def _further(address: str, number: int) -> str:
    """Return the address of the replica with this number, behind the first one's."""
    head, _, port = address.rpartition(":")
    if address.startswith("unix:") or not port.isdecimal():
        return f"{address}-{number}"
    return f"{head}:{int(port) + _PORTS_APART * (number - 1)}"


def names_of(replicas: int, *, shared_cache: bool) -> list[str]:
    """Return the names of what listens, in order, where there are `replicas` of each process.

    Of the cache there is one where its replicas would not share what they know, in a Redis: the history of a
    session must not depend on which of them is asked.
    """
    further = [name for name in DEFAULT_LISTEN if name != "cache" or shared_cache]
    return [*DEFAULT_LISTEN, *(f"{name}-{number}" for number in range(2, replicas + 1) for name in further)]


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
    root: Path,
    environment: Mapping[str, str] | None = None,
    *,
    metrics_port: int | None = 0,
    replicas: int = 1,
) -> MeshPlan:
    """Return a mesh on the addresses that the environment names, or on the default ones.

    Prometheus scrapes the processes at `metrics_port` and the ports behind it, but where the environment
    names an address; at none for 0. For None they are the default ones, as far as nobody has them. Each
    further one of `replicas` is ten ports behind the one before it, in every way.

    Raises Failure for a port of 0, which nobody else could find, and for one that cannot be.
    """
    environment = os.environ if environment is None else environment
    names = names_of(replicas, shared_cache=bool(environment.get(REDIS_VARIABLE)))
    listen = {}
    for name in names:
        service, number = _numbered(name)
        address = environment.get(listen_variable(service)) or DEFAULT_LISTEN[service]
        listen[name] = address if number == 1 else _further(address, number)
    metrics, unscraped = {}, []
    for name in names:
        service, number = _numbered(name)
        if service not in _SCRAPED:
            continue
        named = environment.get(metrics_variable(service))
        if named is not None:
            metrics[name] = named if number == 1 or not named else _further(named, number)
            continue
        if metrics_port == 0:
            continue
        offset = _SCRAPED.index(service) + _PORTS_APART * (number - 1)
        address = f"127.0.0.1:{(metrics_port or METRICS_PORT) + offset}"
        if metrics_port is None and not is_free(address):
            unscraped.append(name)
        else:
            metrics[name] = address
    metrics = {name: address for name, address in metrics.items() if address}
    variables = [(listen_variable(_service_of(name)), address) for name, address in listen.items()]
    variables += [(metrics_variable(_service_of(name)), address) for name, address in metrics.items()]
    for variable, address in variables:
        port = address.rpartition(":")[2]
        if port.isdecimal() and int(port) > _LAST_PORT and not address.startswith("unix:"):
            raise usage(f"{variable}: {address}: a port is 1 to {_LAST_PORT}")
        if address.endswith(":0"):
            raise usage(
                f"{variable}: port 0 takes a port that nobody can know",
                "--free-ports finds free ones for all",
            )
    for variable, address in variables if replicas > 1 else ():
        others = sorted({other for other, at in variables if at == address} - {variable})
        if others:
            raise usage(
                f"{variable}, {', '.join(others)}: with --replicas {replicas} both come to {address}",
                f"replicas are {_PORTS_APART} ports apart: name ports that leave room, or take --free-ports",
            )
    return MeshPlan(listen, root, metrics, tuple(unscraped))


def _numbered(name: str) -> tuple[str, int]:
    service, _, number = name.partition("-")
    return service, int(number or 1)


def plan_on_free_ports(
    root: Path, *, scraped: bool = False, replicas: int = 1, shared_cache: bool = False
) -> MeshPlan:
    """Return a mesh on ports that are free now; Prometheus can scrape it where it is to be `scraped`.

    Several of the cache make sense only where they have a `shared_cache`, a Redis.
    """
    names = names_of(replicas, shared_cache=shared_cache)
    measured = [name for name in names if _service_of(name) in _SCRAPED] if scraped else []
    probes = [socket.socket() for _ in (*names, *measured)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
    addresses = [f"127.0.0.1:{port}" for port in ports]
    listen = dict(zip(names, addresses, strict=False))
    metrics = dict(zip(measured, addresses[len(listen) :], strict=True))
    return MeshPlan(listen, root, metrics, on_free_ports=True)
