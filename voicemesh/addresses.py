"""Where the processes behind a name are, as one lookup after another tells. No I/O.

Name servers keep answers for seconds, and where there are several they do not keep the same ones:

    lookups   {A B}   {A B C}   {A B}   {A B C}  …  {B C} {B C} {B C} {B C} {B C}
    known      A B     A B C     A B C   A B C        A B C …               B C

So what is new counts at once, and what is missing once it was missing for some lookups. An address to which
nothing answers costs nobody a call meanwhile. A name that stands for nothing is taken for a fault of the
lookup: what was known stays.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

_MISSING: Final = 5
"""Lookups in a row without an address before it is forgotten."""
_DNS: Final = re.compile(r"dns:(?://(?P<server>[^/]*)/)?(?P<rest>.*)", re.DOTALL)
_SCHEME: Final = re.compile(r"(?:ipv4|ipv6|unix|unix-abstract|vsock|xds|google-c2p|passthrough):")
_HOST_AND_PORT: Final = re.compile(
    r"(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?):(?P<port>\d{1,5})"
)
_NAME_SERVER_PORT: Final = 53
_HIGHEST_PORT: Final = 65535


@dataclass(frozen=True)
class Name:
    """A name behind which there may be several processes, all on one port.

    Attributes:
        host: The name.
        port: Their port.
        server: Address of the name server that knows it; "": as the machine looks names up.
        server_port: Its port.

    """

    host: str
    port: int
    server: str = ""
    server_port: int = _NAME_SERVER_PORT

    @property
    def authority(self) -> str:
        """What calls are addressed to, and certificates are for, whichever process answers."""
        return f"{self.host.rstrip('.')}:{self.port}"

    def target(self, addresses: Collection[str]) -> str:
        """Return what gRPC is told to reach the processes at `addresses`, of which there is one at least."""
        found = sorted(
            (ipaddress.ip_address(each) for each in addresses), key=lambda ip: (ip.version, int(ip))
        )
        if all(ip.version == 4 for ip in found):
            return "ipv4:" + ",".join(f"{ip}:{self.port}" for ip in found)
        # A list has one family: IPv6 has a form for addresses of the other one.
        listed = (f"[::ffff:{ip}]" if ip.version == 4 else f"[{ip}]" for ip in found)
        return "ipv6:" + ",".join(f"{ip}:{self.port}" for ip in listed)


def name_of(target: str) -> Name | None:
    """Return the name that a target of gRPC stands for; None where it is none, or nothing can change.

    Names are `HOST:PORT`, `dns:HOST:PORT`, `dns:///HOST:PORT` and `dns://SERVER[:PORT]/HOST:PORT`. Addresses,
    sockets in folders, `localhost`, lists, and names without a port are none.
    """
    server, rest = "", target
    if found := _DNS.fullmatch(target):
        server, rest = found["server"] or "", found["rest"]
    elif _SCHEME.match(target):
        return None
    parts = _HOST_AND_PORT.fullmatch(rest)
    if parts is None or int(parts["port"]) > _HIGHEST_PORT or _is_ip(parts["host"]):
        return None
    if parts["host"].rstrip(".").lower() == "localhost":
        return None
    asked = _server_of(server)
    return None if asked is None else Name(parts["host"], int(parts["port"]), *asked)


def _server_of(server: str) -> tuple[str, int] | None:
    """Return address and port of a name server; None for one that is no address."""
    if not server:
        return "", _NAME_SERVER_PORT
    if _is_ip(server.strip("[]")):
        return server.strip("[]"), _NAME_SERVER_PORT
    host, _, port = server.rpartition(":")
    if not port.isdecimal() or int(port) > _HIGHEST_PORT or not _is_ip(host.strip("[]")):
        return None
    return host.strip("[]"), int(port)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Known:
    """The addresses of one name.

    Attributes:
        addresses: Those that are taken to be there; empty until a lookup found any.

    """

    def __init__(self) -> None:
        self.addresses: frozenset[str] = frozenset()
        self._missing: dict[str, int] = {}

    def hear(self, answer: Collection[str]) -> bool:
        """Take what a lookup found; return whether anything has changed by it."""
        if not answer:
            return False
        missing = {
            address: self._missing.get(address, 0) + 1 for address in self.addresses.difference(answer)
        }
        self._missing = {address: times for address, times in missing.items() if times < _MISSING}
        known = frozenset(answer) | self._missing.keys()
        changed = known != self.addresses
        self.addresses = known
        return changed
