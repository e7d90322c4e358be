"""What happens, numbered, for readers that each go at their own pace.

       oldest                     newest
    ┌────┬────┬────┬────┬────┬────┐
    │ 41 │ 42 │ 43 │ 44 │ 45 │ 46 │   a ring: whoever falls behind its oldest event is told to begin anew
    └────┴────┴────┴────┴────┴────┘
            ^ reader                  no queue for each reader: a slow one costs nothing

An id is `EPOCH-NUMBER`. The epoch is new with each process, so that an id of another one is known as such.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

LIMIT: Final = 512
"""Events that are kept."""


@dataclass(slots=True)
class Event:
    """One thing that happened. It is put into words when the first reader wants it."""

    id: str
    number: int
    kind: str
    tell: Callable[[], Any]
    _encoded: bytes = field(default=b"", repr=False)

    def encoded(self) -> bytes:
        """Return it as server-sent events have it: https://html.spec.whatwg.org/#server-sent-events."""
        if not self._encoded:
            data = json.dumps(self.tell(), separators=(",", ":"))  # has no line break: one `data:` is enough
            self._encoded = f"id: {self.id}\nevent: {self.kind}\ndata: {data}\n\n".encode()
        return self._encoded


class Feed:
    """The last events.

    Args:
        epoch: Names this process; letters and digits.
        limit: Events that are kept.

    Attributes:
        closed: True once there will be no more.

    """

    def __init__(self, epoch: str, limit: int = LIMIT) -> None:
        self.closed = False
        self._epoch = epoch
        self._events: deque[Event] = deque(maxlen=limit)
        self._number = 0
        self._wake = asyncio.Event()

    @property
    def last_id(self) -> str:
        """Id of the newest event."""
        return f"{self._epoch}-{self._number}"

    def publish(self, kind: str, tell: Callable[[], Any]) -> None:
        """Note what happened; `tell` gives what can be said of it, as JSON has it."""
        self._number += 1
        self._events.append(Event(self.last_id, self._number, kind, tell))
        self._wake.set()

    def number_of(self, event_id: str) -> int | None:
        """Return the number of an event of this process; None for any other text, and for one to come."""
        epoch, _, number = event_id.rpartition("-")
        if epoch != self._epoch or not (number.isascii() and number.isdigit()) or len(number) > 18:
            return None
        return int(number) if int(number) <= self._number else None

    def after(self, number: int) -> list[Event] | None:
        """Return the events behind that one, oldest first; None where some of them are gone already."""
        missing = self._number - number
        if missing > len(self._events):
            return None
        return [event for event in self._events if event.number > number] if missing else []

    async def changed(self, number: int, timeout_s: float) -> bool:
        """Wait until there is more behind `number`, or the end; return False where nothing came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._number <= number and not self.closed:
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Have every reader end."""
        self.closed = True
        self._wake.set()
