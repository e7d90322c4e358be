"""A client channel that is made anew under its users: with other certificates, or to other addresses.

gRPC's credentials cannot change, and it looks addresses up when it likes, so there is one channel for each
version of them:

    version 1   ══ calls ══════════╪═ those in flight go on ═╪ closed when the last has ended
    version 2        connecting ───╪═ new calls ══════════════════════════════════════

New calls go to the new one when it is connected: no call waits for a handshake. Where it cannot be connected
(the peer may not know the new authority yet) the old one is used as long as it works. Versions with the same
target, credentials and options share their connections: only what is new is connected to.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, Self

import grpc

_LOOK_S: Final = 1.0
_ENDLESS: Final = ("/grpc.health.v1.Health/Watch",)
"""Calls that end with their channel: who watches begins anew."""


class _Version:
    """The channel of one version, and the calls on it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.in_flight = 0
        self.replaced = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()

    def count(self, call: Any) -> None:
        self.in_flight += 1
        self.idle.clear()
        call.add_done_callback(self._ended)

    def _ended(self, _: object) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self.idle.set()


class _Callable:
    """A method of a service on whichever channel is in use."""

    def __init__(self, owner: "RotatingChannel", kind: str, method: str, arguments: Any, named: Any) -> None:
        self._owner = owner
        self._make = (kind, method, arguments, named)
        self._counted = method not in _ENDLESS
        self._version: _Version | None = None
        self._call: Any = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self._owner.use()
        version = self._owner.version
        if version is not self._version:
            kind, method, made_with, made_with_named = self._make
            self._call = getattr(version.channel, kind)(method, *made_with, **made_with_named)
            self._version = version
        call = self._call(*arguments, **named)
        if self._counted:
            version.count(call)
        return call


class RotatingChannel(grpc.aio.Channel):
    """A channel that is made anew by `rotate`.

    Args:
        make: Makes a channel as it is to be now.
        held_up: Is told, once for each version, that it cannot be connected and the one before it is used.

    Attributes:
        version: What new calls use.

    """

    def __init__(
        self, make: Callable[[], grpc.aio.Channel], held_up: Callable[[], None] | None = None
    ) -> None:
        self._make = make
        self._held_up = held_up
        self.version = _Version(make())
        self._wanted = 0
        self._task: asyncio.Task[None] | None = None
        self._draining: set[asyncio.Task[None]] = set()
        self._told: list[Callable[[], None]] = []
        self._closed = False

    def use(self) -> None:
        """Note that somebody calls, or is about to."""

    def subscribe(self, moved: Callable[[], None]) -> None:
        """Have `moved` called whenever new calls begin to use another channel than those before them."""
        self._told.append(moved)

    def rotate(self) -> None:
        """Connect anew, and use that for new calls once it is done."""
        self._wanted += 1
        if not self._closed and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._rotate(), name="connect anew")

    async def _rotate(self) -> None:
        while True:
            made, new = self._wanted, _Version(self._make())
            try:
                await self._connected(new.channel, made)
            except asyncio.CancelledError:
                await new.channel.close(None)
                raise
            if made == self._wanted:
                break
            await new.channel.close(None)  # it changed again meanwhile
        old, self.version = self.version, new
        old.replaced.set()
        draining = asyncio.get_running_loop().create_task(_drain(old), name="old connections")
        self._draining.add(draining)
        draining.add_done_callback(self._draining.discard)
        for moved in self._told:
            moved()

    async def _connected(self, new: grpc.aio.Channel, made: int) -> None:
        """Wait until `new` is connected, works no worse than what is in use, or is outdated itself."""
        ready = grpc.ChannelConnectivity.READY
        said = False
        while made == self._wanted:
            state = new.get_state(try_to_connect=True)
            if state is ready or (said and self.version.channel.get_state(try_to_connect=True) is not ready):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await new.wait_for_state_change(state)
            if not said and new.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                said = True
                if self._held_up is not None:
                    self._held_up()

    # ------------------------------------------------------------ grpc.aio.Channel

    async def __aenter__(self) -> Self:
        """Return the channel."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close(None)

    async def close(self, grace: float | None = None) -> None:
        """Close what is in use, and what still drains."""
        self._closed = True
        tasks = [*self._draining, *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.version.channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the channel in use."""
        if try_to_connect:
            self.use()
        return self.version.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait for another state of the channel in use, or until another one is."""
        version = self.version
        changed = asyncio.ensure_future(version.channel.wait_for_state_change(last_observed_state))
        replaced = asyncio.ensure_future(version.replaced.wait())
        try:
            await asyncio.wait({changed, replaced}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (changed, replaced):
                waiting.cancel()
            # A channel that was closed behind its back is an error to who waits for it.
            (error, _) = await asyncio.gather(changed, replaced, return_exceptions=True)
        if isinstance(error, Exception) and not version.replaced.is_set():
            raise error

    async def channel_ready(self) -> None:
        """Wait until the channel in use is connected."""
        while (state := self.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            await self.wait_for_state_change(state)

    def unary_unary(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Return the method."""
        return _Callable(self, "unary_unary", method, arguments, named)

    def unary_stream(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Return the method."""
        return _Callable(self, "unary_stream", method, arguments, named)

    def stream_unary(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Return the method."""
        return _Callable(self, "stream_unary", method, arguments, named)

    def stream_stream(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Return the method."""
        return _Callable(self, "stream_stream", method, arguments, named)


async def _drain(old: _Version) -> None:
    """Close a channel when its last call has ended, or when this is cancelled."""
    try:
        await old.idle.wait()
    finally:
        await old.channel.close(None)
