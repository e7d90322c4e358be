"""The key or token that a caller shows, and to whom it may be shown."""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

_MAX_CHARS: Final = 8_192
_GOOD: Final = re.compile(r"[\x21-\x7e]+")


def metadata_of(
    api_key: str, addresses: Iterable[str], *, encrypted: bool, allow_plain: bool
) -> tuple[tuple[str, str], ...]:
    """Return the metadata that shows a key; none for "".

    Raises ValueError for what is no key, and where others could read it on its way. The text never holds it.
    """
    if not api_key:
        return ()
    if not _GOOD.fullmatch(api_key) or len(api_key) > _MAX_CHARS:
        raise ValueError(
            f"api_key: must be at most {_MAX_CHARS} printable characters of ASCII without spaces: "
            "is there a line break at its end?"
        )
    for address in addresses:
        if not (encrypted or allow_plain or is_local(address)):
            raise ValueError(
                f"api_key: would go to {address} without TLS, where others may read it: use "
                "TLS, or allow_plain_key=True (VOICEMESH_ALLOW_PLAIN_KEY=true) on a network that encrypts"
            )
    return (("authorization", f"Bearer {api_key}"),)


def is_local(target: str) -> bool:
    """Say whether every address of a gRPC target is this machine's own."""
    kind, colon, rest = target.partition(":")
    if kind in ("unix", "unix-abstract") and colon:
        return True
    if kind in ("dns", "ipv4", "ipv6") and colon and not rest.isdigit():
        target = rest.rpartition("/")[2] if kind == "dns" else unquote(rest)
    return all(_is_local(address) for address in target.split(","))


def _is_local(address: str) -> bool:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        host = address
    host = host.strip("[]").lower()
    if host in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
