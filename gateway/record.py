"""The turns that ended lately, and who watches them end: bounded by number and by bytes.

    begun ──> running ──ended──> reports (ring: the oldest goes first) ──> find, select, recent
      │                   │
      └───────────────────┴──> subscriptions: a bounded queue each, whose oldest events go first

All of it belongs to the event loop; nothing here waits, and nothing costs more than a turn's share.
"""

import asyncio
import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self

from voicemesh.gateway.v1 import gateway_pb2 as pb

Order = Literal["newest", "ttfa", "total"]
TurnName = tuple[str, str]
"""Tenant and id of a turn: no tenant finds another's."""
REFUSED: Final = "refused"
DISCARDED: Final = "discarded"
_ENTRY_BYTES: Final = 500
"""What an entry takes beside its report."""
_QUEUE: Final = 256


@dataclass(frozen=True, slots=True)
class TurnBegun:
    """A turn began. Drafts are told of when they end, for nobody may ever want them.

    Attributes:
        tenant: Whose it is.
        turn_id: The turn.
        session_id: Its session; "" for none.
        trace_id: Its trace.
        voice: Who speaks.
        kind: `prompt`, or `text` for the caller's own words.
        began_unix_us: Time of day, in microseconds since 1970.

    """

    tenant: str
    turn_id: str
    session_id: str
    trace_id: str
    voice: str
    kind: str
    began_unix_us: int


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A turn ended, or was refused before it began.

    Attributes:
        tenant: Whose it is.
        turn_id: The turn.
        sequence: Counts up with each turn that ended here.
        began_unix_us: Time of day, in microseconds since 1970.
        outcome: `completed`, `interrupted`, `failed`, `refused`, or `discarded` for a draft, whose report
            is empty and is kept nowhere.
        ttfa_us: Prompt to first frame; 0 where there was none.
        total_us: Prompt to the end.
        trace_id: Its trace.
        message: The report, serialised: a message of Python objects takes several times the memory.

    """

    tenant: str
    turn_id: str
    sequence: int
    began_unix_us: int
    outcome: str
    ttfa_us: int
    total_us: int
    trace_id: str
    message: bytes

    def report(self) -> pb.TurnReport:
        """Return the report, read anew."""
        return pb.TurnReport.FromString(self.message)


TurnEvent = TurnBegun | TurnEnded


class Subscription:
    """The turns that begin and end from now on. Use it with `with`, and iterate over it.

    Who is slower than the turns loses the oldest events, and none holds anything up.

    Attributes:
        lost: Events that were lost so far.

    """

    def __init__(self, record: "TurnRecord", tenant: str | None, most: int) -> None:
        self._record = record
        self._tenant = tenant
        self._queue: deque[TurnEvent] = deque(maxlen=most)
        self._news = asyncio.Event()
        self.lost = 0

    def __enter__(self) -> Self:
        """Begin."""
        self._record.watch(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._record.unwatch(self)

    def __aiter__(self) -> Self:
        """Return itself: there is one queue."""
        return self

    async def __anext__(self) -> TurnEvent:
        """Wait for the next event; it may be cancelled at any time, and loses nothing by it."""
        while not self._queue:
            self._news.clear()
            await self._news.wait()
        return self._queue.popleft()

    def take(self, event: TurnEvent) -> None:
        """Queue an event, if it is of the tenant."""
        if self._tenant is not None and event.tenant != self._tenant:
            return
        self.lost += len(self._queue) == self._queue.maxlen
        self._queue.append(event)
        self._news.set()


class TurnRecord:
    """What this gateway knows of its turns.

    Args:
        most: Turns that are kept; of those that were refused, as many more.
        most_bytes: Bytes of either, entries included. The last one is kept however large.

    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._ended = _Ring(most, most_bytes)
        # By themselves: a burst of refusals must not push out what the turns before it were like.
        self._refused = _Ring(most, most_bytes)
        self._running: dict[TurnName, TurnBegun] = {}
        self._watchers: set[Subscription] = set()
        self._sequence = 0

    def begin(self, turn: TurnBegun) -> None:
        """Take a turn that begins."""
        self._running[turn.tenant, turn.turn_id] = turn
        self._tell(turn)

    def end(self, tenant: str, told: pb.TurnReport, outcome: str) -> None:
        """Take a turn that ended, or was refused."""
        if outcome != REFUSED:
            self._running.pop((tenant, told.turn_id), None)
        self._sequence += 1
        entry = TurnEnded(
            tenant=tenant,
            turn_id=told.turn_id,
            sequence=self._sequence,
            began_unix_us=told.began_unix_us,
            outcome=outcome,
            ttfa_us=told.ttfa_us,
            total_us=told.total_us,
            trace_id=told.trace_id,
            message=told.SerializeToString(),
        )
        if outcome != DISCARDED:
            name = tenant, told.turn_id
            for ring in (self._ended, self._refused):
                ring.remove(name)  # an id that came again counts from now
            (self._refused if outcome == REFUSED else self._ended).add(name, entry)
        self._tell(entry)

    def find(self, tenant: str, turn_id: str) -> TurnEnded | None:
        """Return a tenant's turn; its last one that ran and ended, for ""; None where there is none."""
        if turn_id:
            name = tenant, turn_id
            return self._ended.turns.get(name) or self._refused.turns.get(name)
        return next((turn for turn in reversed(self._ended.turns.values()) if turn.tenant == tenant), None)

    def beginning(self, tenant: str, start: str) -> list[TurnEnded]:
        """Return a tenant's turns whose id, or whose trace's id, begins with `start`, the newest first."""
        found = [
            turn
            for turn in self.of(tenant, include_refused=True)
            if turn.turn_id.startswith(start) or turn.trace_id.startswith(start)
        ]
        return self.select(found, "newest")

    def running(self, tenant: str | None = None) -> list[TurnBegun]:
        """Return the turns that run, in the order in which they began; of one tenant, or of all for None."""
        return [turn for turn in self._running.values() if tenant in (None, turn.tenant)]

    def recent(
        self, tenant: str | None = None, limit: int = 100, *, include_refused: bool = False
    ) -> list[TurnEnded]:
        """Return the last turns that ended, newest first; of one tenant, or of all for None."""
        return self.select(self.of(tenant, include_refused=include_refused), "newest", limit)

    def of(self, tenant: str | None, *, include_refused: bool = False) -> list[TurnEnded]:
        """Return all turns that are kept of a tenant, or of all for None, in no order."""
        rings = (self._ended, self._refused) if include_refused else (self._ended,)
        return [turn for ring in rings for turn in ring.turns.values() if tenant in (None, turn.tenant)]

    def still(self, turns: Iterable[TurnEnded]) -> Iterator[TurnEnded]:
        """Give those of `turns` that are kept when their place comes."""
        for turn in turns:
            if self.find(turn.tenant, turn.turn_id) is turn:
                yield turn

    @staticmethod
    def select(turns: Iterable[TurnEnded], order: Order, limit: int = 0) -> list[TurnEnded]:
        """Return the first `limit` of `turns` (0: all) in an order; `ttfa` leaves out turns without audio."""
        if order == "ttfa":
            chosen = [turn for turn in turns if turn.ttfa_us]
            return _first(chosen, limit, lambda turn: (turn.ttfa_us, turn.sequence))
        if order == "total":
            return _first(turns, limit, lambda turn: (turn.total_us, turn.sequence))
        return _first(turns, limit, lambda turn: (turn.sequence,))

    @property
    def forgotten(self) -> bool:
        """True once a turn that ran was forgotten for want of room."""
        return self._ended.forgotten

    def subscribe(self, tenant: str | None = None, most: int = _QUEUE) -> Subscription:
        """Return the turns from when it is entered on: of one tenant, or of all for None.

        `most` events wait for a reader at once.
        """
        return Subscription(self, tenant, most)

    def watch(self, subscription: Subscription) -> None:
        """Tell a subscription of every turn from now on."""
        self._watchers.add(subscription)

    def unwatch(self, subscription: Subscription) -> None:
        """Tell it no more."""
        self._watchers.discard(subscription)

    def _tell(self, event: TurnEvent) -> None:
        for watcher in self._watchers:
            watcher.take(event)


class _Ring:
    """Turns by name, the oldest first, within two limits."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self.turns: OrderedDict[TurnName, TurnEnded] = OrderedDict()
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self.forgotten = False

    def add(self, name: TurnName, turn: TurnEnded) -> None:
        self.turns[name] = turn
        self._bytes += _size(turn)
        while len(self.turns) > self._most or (self._bytes > self._most_bytes and len(self.turns) > 1):
            _, oldest = self.turns.popitem(last=False)
            self._bytes -= _size(oldest)
            self.forgotten = True

    def remove(self, name: TurnName) -> None:
        turn = self.turns.pop(name, None)
        if turn is not None:
            self._bytes -= _size(turn)


def _size(turn: TurnEnded) -> int:
    return len(turn.message) + _ENTRY_BYTES


def _first(
    turns: Iterable[TurnEnded], limit: int, key: Callable[[TurnEnded], tuple[int, ...]]
) -> list[TurnEnded]:
    return heapq.nlargest(limit, turns, key=key) if limit else sorted(turns, key=key, reverse=True)
