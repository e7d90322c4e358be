"""Looks a name up, beside the event loop.

`getaddrinfo` blocks, and for many seconds where no name server answers; nothing can stop it. So each lookup
has a thread of its own that nobody waits for when a process ends: asyncio's threads would be joined.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Final

from voicemesh.addresses import Name

_ANSWER_S: Final = 2.0
"""How long a name server that a target names may take; those of the machine have its own limits."""
_LARGEST: Final = 65_535


async def look_up(name: Name) -> frozenset[str]:
    """Return the IP addresses behind a name; none where it stands for nothing.

    Raises OSError where nobody could be asked. May be cancelled: the answer is dropped then.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[frozenset[str]] = loop.create_future()
    find = _ask if name.server else _ask_system

    def settle(found: frozenset[str] | None, error: OSError | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found or frozenset())

    def work() -> None:
        found, error = _tried(find, name)
        # The loop may be gone by now.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, found, error)

    try:
        threading.Thread(target=work, name=f"look up {name.host}", daemon=True).start()
    except RuntimeError as error:  # the machine gives no more threads
        raise OSError(f"{name.host}: {error}") from None
    return await answer


def _tried(
    find: Callable[[Name], frozenset[str]], name: Name
) -> tuple[frozenset[str] | None, OSError | None]:
    try:
        return find(name), None
    except OSError as error:
        return None, error
    except Exception as error:  # noqa: BLE001 - a name that cannot be one, or any other answer: who asked waits
        return None, OSError(f"{name.host}: {error}")


def _ask_system(name: Name) -> frozenset[str]:
    try:
        found = socket.getaddrinfo(name.host, name.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return frozenset()
        raise
    return frozenset(str(address[0]) for *_, address in found)


def _ask(name: Name) -> frozenset[str]:
    """Ask the name server that the target names, as gRPC does: the system's resolver cannot be told one."""
    try:
        import dnslib  # noqa: PLC0415 - few targets name a server
    except ImportError:
        raise OSError(
            f"{name.server}: the package dnslib is needed to ask a name server of one's own"
        ) from None
    found: set[str] = set()
    for kind in ("A", "AAAA"):
        query = dnslib.DNSRecord.question(name.host, kind)
        try:
            answer = dnslib.DNSRecord.parse(_over_udp(query.pack(), name))
            if answer.header.tc:
                answer = dnslib.DNSRecord.parse(_over_tcp(query.pack(), name))
        except dnslib.DNSError as error:
            raise OSError(f"{name.server}: its answer cannot be read: {error}") from None
        if answer.header.id != query.header.id:
            raise OSError(f"{name.server}: its answer is to another question")
        if answer.header.rcode not in (dnslib.RCODE.NOERROR, dnslib.RCODE.NXDOMAIN):
            raise OSError(f"{name.server}: {dnslib.RCODE[answer.header.rcode]}")
        found |= {str(record.rdata) for record in answer.rr if dnslib.QTYPE[record.rtype] == kind}
    return frozenset(found)


def _over_udp(query: bytes, name: Name) -> bytes:
    family = socket.AF_INET6 if ":" in name.server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(_ANSWER_S)
        asking.connect((name.server, name.server_port))  # nobody else's datagrams are taken
        asking.send(query)
        return asking.recv(_LARGEST)


def _over_tcp(query: bytes, name: Name) -> bytes:
    with socket.create_connection((name.server, name.server_port), timeout=_ANSWER_S) as asking:
        asking.sendall(len(query).to_bytes(2) + query)
        with asking.makefile("rb") as answer:
            length = int.from_bytes(answer.read(2))
            return answer.read(length)
