"""The gateways that a client knows: which one is asked, and when a turn is asked again at another.

asked ──── a frame arrives ────> it stays: what is lost now is an error that says what was heard
  │
  └─ the gateway is lost, or drains ─ another one, at most so many times ─> asked again, same turn id
"""

import asyncio
import contextlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc

from voicemesh.client.diagnosis import why_not_reached
from voicemesh.client.errors import DRAINING, VoiceMeshError, is_unexplained, unreachable
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from voicemesh.tls import Tls

_LISTS: Final = ("ipv4:", "ipv6:", "unix:")
"""Schemes of gRPC that take several addresses, parted by commas."""
_SCHEME: Final = re.compile(r"(?:dns|ipv4|ipv6|unix|unix-abstract|xds):")
_ATTEMPT: Final = "voicemesh-attempt"
_REFUSED: Final = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


def addresses_of(address: str | Sequence[str]) -> tuple[str, ...]:
    """Return the addresses of gateways, in order: `address` is one, several parted by commas, or a list.

    Raises ValueError where there is none.
    """
    parts: list[str] = []
    for part in address.split(",") if isinstance(address, str) else ():
        if parts and parts[-1].startswith(_LISTS) and not _SCHEME.match(part):
            parts[-1] += f",{part}"  # one target of several addresses, between which gRPC chooses
        else:
            parts.append(part.strip())
    found = tuple(parts) if isinstance(address, str) else tuple(address)
    if not found or not all(found):
        raise ValueError(f"address: {address!r} must be HOST:PORT, or several of them parted by commas")
    return found


class Attempts:
    """How often one turn is asked again. No I/O.

    Args:
        most: How often, at most.

    Attributes:
        made: How often it was.

    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.made = 0

    def again(self, error: VoiceMeshError, *, heard: bool) -> bool:
        """Return whether a turn that ended with `error` may be asked again, and count it.

        Not where any of its audio was `heard`: a second telling is no continuation of the first.
        """
        if heard or self.made >= self._most or not is_lost(error):
            return False
        self.made += 1
        return True

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what tells a gateway that the call was made before."""
        return ((_ATTEMPT, str(self.made)),) if self.made else ()


def is_lost(error: VoiceMeshError) -> bool:
    """Return whether it was the gateway that failed and not the turn: it is gone, or takes no more."""
    return not error.reached or (error.reason == DRAINING and not error.retried_by)


@dataclass(frozen=True)
class Gateway:
    """One gateway, or one name for several.

    Attributes:
        address: Where it is.
        channel: The connection to it.
        tls: How TLS is spoken on it; None for plain text.
        foreign: True where that is not known: the credentials are the caller's own.

    """

    address: str
    channel: grpc.aio.Channel
    tls: Tls | None = None
    foreign: bool = False

    @property
    def stub(self) -> GatewayServiceStub:
        """What calls it."""
        return GatewayServiceStub(self.channel)

    async def connected(self, timeout_s: float) -> bool:
        """Connect, and return whether that was possible in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while (state := self.channel.get_state(try_to_connect=True)) not in _REFUSED:
                    if state is grpc.ChannelConnectivity.READY:
                        return True
                    await self.channel.wait_for_state_change(state)
        return False

    async def why_not(self) -> str:
        """Return what is wrong about TLS between here and there; "" where that is not the reason."""
        return "" if self.foreign else await why_not_reached(self.address, self.tls)

    async def explained(self, error: VoiceMeshError, *, heard: bool = False) -> VoiceMeshError:
        """Return `error` as its caller gets it: with what is wrong about TLS where nothing else is said.

        Takes up to a few seconds where nobody answers: for what is not asked again elsewhere. A gateway that
        was `heard` in the same call is not looked at: TLS was not the reason.
        """
        if heard or not is_unexplained(error, self.address):
            return error
        why = await self.why_not()
        return unreachable(self.address, why) if why else error


class Gateways:
    """All that a client knows. The present one is asked until it is lost.

    Args:
        gateways: In the order of preference.
        asks_again: How often one turn is asked again, at most.
        connect_s: How long the connection to another one may take.

    """

    def __init__(self, gateways: Sequence[Gateway], *, asks_again: int, connect_s: float) -> None:
        self._gateways = tuple(gateways)
        self._asks_again = asks_again
        self._connect_s = connect_s
        self._place = 0

    @property
    def present(self) -> Gateway:
        """The one that is asked."""
        return self._gateways[self._place]

    def home_of(self, channel: str) -> Gateway:
        """Return where the members of a channel meet: their gateways share no turns."""
        by_address = sorted(self._gateways, key=lambda gateway: gateway.address)
        return by_address[zlib.crc32(channel.encode()) % len(by_address)]

    def attempts(self) -> Attempts:
        """Return how often a turn that begins now may be asked again."""
        return Attempts(self._asks_again)

    def in_order(self) -> list[Gateway]:
        """Return all of them, the present one first."""
        return [*self._gateways[self._place :], *self._gateways[: self._place]]

    def lost(self, gateway: Gateway) -> None:
        """Note that one is gone: the one behind it is the present one now."""
        if gateway is self.present:
            self._place = (self._place + 1) % len(self._gateways)

    async def another(self, gone: Gateway) -> Gateway | None:
        """Return what to ask instead of a gateway that was lost, connected; None where there is nothing."""
        self.lost(gone)
        for gateway in self.in_order():
            if gateway is not gone and await gateway.connected(self._connect_s):
                self._place = self._gateways.index(gateway)
                return gateway
        # A name may stand for several: then its channel is connected to the others still.
        ready = gone.channel.get_state() is grpc.ChannelConnectivity.READY
        return gone if ready else None

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(gateway.channel.close(None) for gateway in self._gateways))
