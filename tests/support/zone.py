"""A name server on loopback: one zone whose records change, and a cache in front of it, as a cluster has.

callers ── over UDP and TCP ── cache: what was answered, for `ttl_s` ── records: what is true now
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSError, DNSRecord

HOST: Final = "127.0.0.1"
_UDP_BYTES: Final = 512
"""Longest answer that goes into a datagram; who asked asks again over TCP."""


class Zone:
    """Records of names, and a server that tells them.

    Args:
        ttl_s: How long an answer is given again as it was, and may be kept by who asked; whole seconds.
        now_s: A clock.

    Attributes:
        port: Where it listens, UDP and TCP.
        asked: How often each name was asked for.
        broken: While True every answer is SERVFAIL.
        silent: While True nothing is answered.

    """

    def __init__(self, ttl_s: int = 0, now_s: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._now_s = now_s
        self._records: dict[str, list[str]] = {}
        self._kept: dict[str, tuple[float, list[str]]] = {}
        self.port = 0
        self.asked: Counter[str] = Counter()
        self.broken = False
        self.silent = False

    def target(self, name: str, port: int) -> str:
        """Return what gRPC is told to ask this server for the processes behind a name."""
        return f"dns://{HOST}:{self.port}/{name}:{port}"

    def set(self, name: str, addresses: list[str]) -> None:
        """Say where the processes behind a name are; nowhere: there is no such name."""
        self._records[name] = list(addresses)

    def get(self, name: str) -> list[str]:
        """Return where they are."""
        return list(self._records.get(name, ()))

    def _kept_answer(self, name: str) -> tuple[int, list[str]]:
        """Return what is told now, and for how many seconds it may be kept."""
        now_s = self._now_s()
        until_s, addresses = self._kept.get(name, (0.0, []))
        if now_s >= until_s:
            addresses, until_s = self.get(name), now_s + self._ttl_s
            self._kept[name] = (until_s, addresses)
        return round(until_s - now_s), addresses

    def answer(self, data: bytes, *, most_bytes: int = 0) -> bytes:
        """Return the answer to one question; what is longer than `most_bytes` is said to be so."""
        request = DNSRecord.parse(data)
        reply = request.reply()
        name = str(request.q.qname).rstrip(".")
        self.asked[name] += 1
        if self.broken:
            reply.header.rcode = RCODE.SERVFAIL
            return bytes(reply.pack())
        ttl_s, addresses = self._kept_answer(name)
        if not addresses:
            reply.header.rcode = RCODE.NXDOMAIN
        for address in addresses:
            kind, data_of = ("AAAA", AAAA) if ":" in address else ("A", A)
            if QTYPE[request.q.qtype] == kind:
                reply.add_answer(RR(request.q.qname, getattr(QTYPE, kind), rdata=data_of(address), ttl=ttl_s))
        packed = bytes(reply.pack())
        return bytes(reply.truncate().pack()) if 0 < most_bytes < len(packed) else packed

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, DNSError):
            while not self.silent:
                length = int.from_bytes(await reader.readexactly(2))
                reply = self.answer(await reader.readexactly(length))
                writer.write(len(reply).to_bytes(2) + reply)
                await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Zone"]:
        """Answer on a free port."""
        loop = asyncio.get_running_loop()
        server, transport = await self._bound(loop)
        try:
            yield self
        finally:
            transport.close()
            server.close()

    async def _bound(
        self, loop: asyncio.AbstractEventLoop
    ) -> tuple[asyncio.Server, asyncio.DatagramTransport]:
        """Bind the same port over TCP and UDP: one that is free for the first may not be for the second."""
        while True:
            server = await asyncio.start_server(self._serve_stream, HOST, 0)
            self.port = int(server.sockets[0].getsockname()[1])
            try:
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self), local_addr=(HOST, self.port)
                )
            except OSError:
                server.close()
                continue
            return server, transport


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        if not self._zone.silent:
            with contextlib.suppress(DNSError):
                self._transport.sendto(self._zone.answer(data, most_bytes=_UDP_BYTES), address)
