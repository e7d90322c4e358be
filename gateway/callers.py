"""The caller's side of a turn: a bounded queue of responses."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Self

from google.protobuf.message import Message as ProtoMessage

from gateway.encoded import Encoding
from voicemesh.runtime.streams import Outbox

Item = tuple[Any, Callable[[], None] | None]
"""A response, and what to call when it is handed to the caller's connection."""

LIMIT: Final = 16
"""Responses that wait for a caller: about three seconds of audio, and no more is made meanwhile. One that
reads takes each as it comes."""
_KEPT: Final = frozenset({"turn_started", "turn_completed", "turn_failed"})
"""Events that an interrupt leaves in the queue: how turns begin and end is always told."""


class Responses:
    """The responses in an outbox, in order, their audio encoded as its turn began.

    `on_sent` of each is called as it is handed over; that of audio which fills no packet yet, with the
    packet, or when nothing else is there to send. What an interrupt drops from the outbox it drops here
    too: a frame of PCM may have become ten packets, of which the caller has one.

    Attributes:
        taken: How many the caller's connection took.
        writing: Whether one is on its way to it, and not taken yet.

    """

    def __init__(self, outbox: Outbox[Item]) -> None:
        self._outbox = outbox
        self._encoding = Encoding()
        self._ready: deque[Any] = deque()
        self._unsent: list[Callable[[], None]] = []
        self._discards = outbox.discards
        self.taken = 0
        self.writing = False

    def __aiter__(self) -> Self:
        """Iterate until the end of the outbox."""
        return self

    async def __anext__(self) -> Any:
        """Return the next response, waiting for it. Raises what the outbox was closed with."""
        self.writing = False
        self._drop_stale()
        while not self._ready:
            if not len(self._outbox):
                self._sent()
            response, on_sent = await anext(self._outbox)
            if on_sent is not None:
                self._unsent.append(on_sent)
            self._ready.extend(await self._encoding.take(response))
            self._drop_stale()  # an interrupt may have come meanwhile
        self._sent()
        self.taken += 1
        self.writing = True
        return self._ready.popleft()

    def _drop_stale(self) -> None:
        """Follow the outbox where it dropped what was queued."""
        if self._discards != self._outbox.discards:
            self._discards = self._outbox.discards
            self._ready = deque(response for response in self._ready if _is_kept(response))
            self._unsent.clear()
            self._encoding.drop()

    def _sent(self) -> None:
        unsent, self._unsent = self._unsent, []
        for on_sent in unsent:
            on_sent()


class OutboxCaller:
    """Queues a turn's events as responses of an RPC.

    Args:
        wrap: Turns an event (its field in the response, and the message) into a response; None drops it.
        outbox: Shared with other turns; a new one where it is not given.

    """

    def __init__(self, wrap: Callable[[str, ProtoMessage], Any], outbox: Outbox[Item] | None = None) -> None:
        self._wrap = wrap
        self.outbox = outbox if outbox is not None else Outbox[Item](LIMIT)

    def send(self, event: str, message: ProtoMessage, on_sent: Callable[[], None] | None = None) -> None:
        """Queue an event, without waiting."""
        response = self._wrap(event, message)
        if response is not None:
            self.outbox.push((response, on_sent))
        elif on_sent is not None:
            on_sent()  # nothing is on its way

    def drop(self) -> None:
        """Drop what is queued, but for how turns began and ended."""
        self.outbox.discard(lambda item: not _is_kept(item[0]))

    async def room(self) -> None:
        """Wait until the caller has read enough."""
        await self.outbox.room()

    def full(self) -> bool:
        """Say whether `room` would wait."""
        return self.outbox.full

    async def eased(self) -> None:
        """Wait until the caller has read half of what it may leave."""
        await self.outbox.eased()


def _is_kept(response: Any) -> bool:
    return response.WhichOneof("event") in _KEPT
