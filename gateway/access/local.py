"""Names and addresses of this machine."""

import ipaddress
import re
from typing import Final

_HOST: Final = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d{1,5})?")


def name_of(host: str) -> str:
    """Return the name, or the address, of a `Host` header; "" where it is malformed."""
    matched = _HOST.fullmatch(host)
    return matched["name"].lower().strip("[]") if matched else ""


def is_address(name: str) -> bool:
    """Say whether a name is an address: nobody can make one point elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_local_name(host: str) -> bool:
    """Say whether a `Host` header names this machine to itself."""
    name = name_of(host)
    return name in ("localhost", "localhost.") or is_loopback(name)


def is_loopback(address: str) -> bool:
    """Say whether an address is this machine's own to itself."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback
