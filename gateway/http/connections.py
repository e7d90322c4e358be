"""HTTP connections that cost others nothing: few enough, and none that says or takes nothing for long.

uvicorn waits for ever for a request that has begun, or never begins, and for a reader that stopped to read.

    connected ── TLS, request: `request_s` at most ── answer, each part taken within `reader_s` ──┐
        ^────────────────────────── kept open for uvicorn's few seconds ──────────────────────────┘
"""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.http.errors import error_body
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)
_ARRIVING: Final = (h11.IDLE, h11.SEND_BODY)
_TELL_S: Final = 10.0
_LATE_S: Final = 2.0
"""How long what has not arrived may still take once the process is about to end: it would be refused."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What connections may take."""

    connections: int = 1_024
    address_connections: int = 256
    request_s: float = 30.0
    reader_s: float = 60.0
    """0: a reader may take for ever."""


@dataclass(slots=True)
class Connections:
    """All of one server."""

    limits: HttpLimits
    total: int = 0
    by_address: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    """Those that were ended, by why; not told of yet."""
    shaking: set["asyncio.Task[None]"] = field(default_factory=set)
    """Handshakes that go on."""
    ending: bool = False
    """Whether nobody is taken in any more."""
    _telling: asyncio.TimerHandle | None = None

    def enter(self, address: str) -> bool:
        """Take one in; False where there is no place, or nobody is answered any more."""
        if self.ending:
            return False
        if self.total >= self.limits.connections or (
            address and self.by_address[address] >= self.limits.address_connections
        ):
            self.note("too many")
            return False
        self.total += 1
        self.by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Let one go."""
        self.total -= 1
        self.by_address[address] -= 1
        if not self.by_address[address]:
            del self.by_address[address]

    def end(self) -> None:
        """Let nobody in any more, also who is about to: nothing was asked there."""
        self.ending = True
        for task in tuple(self.shaking):
            task.cancel()

    def note(self, why: str) -> None:
        """Count one that was ended, and tell of all such in a while."""
        self.cut[why] += 1
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(_TELL_S, self.tell)

    def tell(self) -> None:
        """Tell of those that were ended since the last time."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self.cut:
            _log.warning(
                "HTTP connections were ended", **{why.replace(" ", "_"): n for why, n in self.cut.items()}
            )
            self.cut.clear()


class GuardedConnection(H11Protocol):
    """uvicorn's connection, with limits.

    TLS is begun here and not by the event loop, which tells of a connection only once its handshake has
    ended: one that says nothing would take a place that nobody counts.
    """

    def __init__(
        self,
        *args: Any,
        connections: Connections,
        tls: Callable[[], ssl.SSLContext] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._all = connections
        self._tls = tls
        self._wire: asyncio.Transport | None = None
        self._address = ""
        self._inside = self._begun = False
        self._early = b""
        self._arrival: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it in, or end it at once."""
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._wire = wire = cast("asyncio.Transport", transport)
        self._inside = self._all.enter(self._address)
        if not self._inside:
            wire.abort()
            return
        self._await_request()
        if self._tls is None:
            self._begin(wire)
            return
        wire.pause_reading()  # what comes is for TLS
        task = self.loop.create_task(self._shake_hands(wire, self._tls()), name="TLS handshake")
        self._all.shaking.add(task)
        task.add_done_callback(self._all.shaking.discard)

    async def _shake_hands(self, wire: asyncio.Transport, tls: ssl.SSLContext) -> None:
        try:
            # `_arrival` ends it before that time is over.
            longest_s = 2 * self._all.limits.request_s
            transport = await self.loop.start_tls(
                wire, self, tls, server_side=True, ssl_handshake_timeout=longest_s
            )
        except (OSError, asyncio.CancelledError):  # all that TLS has to say is one
            wire.abort()
            self._leave()
            return
        if transport is None or wire.is_closing():
            self._leave()
            return
        self._begin(transport)

    def _begin(self, transport: asyncio.Transport) -> None:
        self._begun = True
        super().connection_made(transport)
        if self._early:
            early, self._early = self._early, b""
            self.data_received(early)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let it go."""
        self._leave()
        if self._begun:
            self.resume_writing()
            super().connection_lost(exc)

    def _leave(self) -> None:
        self._arrived()
        if self._inside:
            self._inside = False
            self._all.leave(self._address)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        if not self._begun:  # it came with the end of the handshake
            self._early += data
            return
        super().data_received(data)
        if self.conn.their_state not in _ARRIVING:
            self._arrived()
        elif self._arrival is None:
            self._await_request()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, also where an answer to what came before has begun.

        uvicorn writes a second answer behind the one that it sends, or lets the application write one behind
        this: both end in an error of the server.
        """
        begun = self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE)
        if self.cycle is not None and not self.cycle.response_complete:
            begun |= self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if begun:
            # What is written is still sent; one that is not whole is known by its length.
            self.transport.close()
            return
        body = json.dumps(error_body(f"this is no HTTP request: {msg}", "invalid_request")).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def on_response_complete(self) -> None:
        """Wait for the next request for as long as uvicorn does."""
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE:
            self._arrived()

    def pause_writing(self) -> None:
        """Note that the peer does not read as fast as it is sent to."""
        super().pause_writing()
        if self._stall is None and self._all.limits.reader_s:
            self._stall = self.loop.call_later(self._all.limits.reader_s, self._cut, "slow readers")

    def resume_writing(self) -> None:
        """Note that it has read."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resume_writing()

    def hurry(self) -> None:
        """Give a request that is still to arrive little time."""
        if self._arrival is not None:
            self._arrival.cancel()
            self._await_request()

    def _await_request(self) -> None:
        longest_s = self._all.limits.request_s
        if self._all.ending:
            longest_s = min(longest_s, _LATE_S)
        self._arrival = self.loop.call_later(longest_s, self._cut, "slow requests")

    def _arrived(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _cut(self, why: str) -> None:
        self._all.note(why)
        if self._wire is not None:
            self._wire.abort()
