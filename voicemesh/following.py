"""A channel that follows a name: what comes up behind it gets calls within seconds.

gRPC itself looks a name up again only when a connection ends, and not within 30 s of the last time. So it is
looked up here, off the path of any call, and a change of its addresses makes another version of the channel
(`voicemesh.rotating`):

    look up ── every second or so ── other addresses? ──┬── plain text: the same target, which gRPC looks up;
       │                                                │   again 1, 2, 4 … 32 s behind it
       └── fails, or finds nothing: what is there stays └── TLS: a list of the addresses

In plain text versions with the same target share their connections, and only what is new is connected to. It
is done again because gRPC may have asked another name server, which still had an older answer. Over TLS
nothing is shared, as grpcio makes credentials of its own for each channel: so each change makes one version
there, of exactly what was found.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import grpc

from voicemesh.addresses import Known, Name
from voicemesh.lookups import look_up
from voicemesh.rotating import RotatingChannel

OPTIONS: Final = (
    # gRPC's own lookup, for when there is no other: it would not look again for 30 s, in which all that it
    # knows may have been replaced.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
)
Options = tuple[tuple[str, int | str], ...]
_SPREAD: Final = 0.2
"""Part of the time between two lookups by which they differ, so that those of many processes spread."""
_AGAIN_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""When, behind a change, the channel is made anew once more. Name servers keep answers for 30 s at most."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """The addresses behind a name are others.

    Attributes:
        name: The name.
        addresses: Those that are known now.
        before: Those that were known before; none at first.

    """

    name: Name
    addresses: frozenset[str]
    before: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class LookupFailed:
    """A name could not be looked up, or stands for nothing, and the time before it could be and did not.

    Attributes:
        name: The name.
        why: In words.

    """

    name: Name
    why: str


News = Moved | LookupFailed


class FollowingChannel(RotatingChannel):
    """A channel to the processes behind a name, from its first use on.

    Args:
        target: What gRPC resolves.
        name: The name in it.
        make: Opens a channel to a target, with the options that it is given on top of its own.
        every_s: How often the name is looked up.
        shares: Whether such channels share their connections where they have the same target.
        tell: Is told what came of it.
        held_up: As for any rotating channel.
        look: Looks a name up.

    """

    def __init__(
        self,
        target: str,
        name: Name,
        make: Callable[[str, Options], grpc.aio.Channel],
        *,
        every_s: float,
        shares: bool,
        tell: Callable[[News], None] | None = None,
        held_up: Callable[[], None] | None = None,
        look: Callable[[Name], Awaitable[frozenset[str]]] = look_up,
    ) -> None:
        # Whatever it is told to reach, calls are addressed to the name, and certificates are for it.
        options: Options = () if shares else (("grpc.default_authority", name.authority),)
        self._target = target
        super().__init__(lambda: make(self._target, options), held_up)
        self._name = name
        self._shares = shares
        self._every_s = every_s
        self._tell = tell
        self._look = look
        self._known = Known()
        self._failing = False
        self._following: asyncio.Task[None] | None = None
        self._again_s: list[float] = []

    def use(self) -> None:
        """Begin to follow the name."""
        if self._following is None and not self._closed:
            self._following = asyncio.get_running_loop().create_task(
                self._follow(), name=f"follow {self._name.host}"
            )

    async def close(self, grace: float | None = None) -> None:
        """Follow the name no more, and close what is in use."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await super().close(grace)

    async def _follow(self) -> None:
        now_s = asyncio.get_running_loop().time
        while True:
            try:
                answer = await self._look(self._name)
            except OSError as error:
                self._failed(str(error) or type(error).__name__)
            else:
                self._hear(answer, now_s())
            apart = 1 + _SPREAD * (random.random() - 0.5)  # noqa: S311 - nobody is to be surprised
            await asyncio.sleep(self._every_s * apart)

    def _hear(self, answer: frozenset[str], now_s: float) -> None:
        if not answer:
            self._failed("it stands for no address")
            return
        self._failing = False
        before = self._known.addresses
        if self._known.hear(answer):
            if self._shares:
                self._again_s = [now_s + behind_s for behind_s in _AGAIN_S]
            else:
                self._target = self._name.target(self._known.addresses)
            self.rotate()
            if self._tell is not None:
                self._tell(Moved(name=self._name, addresses=self._known.addresses, before=before))
        elif self._again_s and now_s >= self._again_s[0]:
            self._again_s = [at_s for at_s in self._again_s if at_s > now_s]
            self.rotate()

    def _failed(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            if self._tell is not None:
                self._tell(LookupFailed(name=self._name, why=why))
