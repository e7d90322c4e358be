"""Bounded streams between tasks."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")
_FIRST_S: Final = 0.5


async def one_more_said(requests: AsyncIterator[Any], most_s: float = _FIRST_S) -> None:
    """Wait until the caller of a stream that is about to be refused has sent one more message.

    grpc.aio replaces the status by "Internal error from Core" where a caller's write meets a call that has
    just ended. Who says nothing for `most_s` is refused all the same.
    """
    with contextlib.suppress(Exception):
        async with asyncio.timeout(most_s):
            await anext(aiter(requests))


class Outbox(Generic[T]):
    """A bounded queue with an end: what a session has to say to the reader of its call.

        session ── put ──> [ … at most `limit` items … ] ──> async for ── the RPC handler

    `put` waits while the queue is full: that is the backpressure. `close` ends it: the reader gets
    what is queued, then the error if one was given, then the end. `abort` drops what is queued.
    For one reader.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self._limit = limit
        self.discards = 0
        """How often `discard` was called: for a reader that keeps what it took."""
        self._items: deque[T] = deque()
        self._closed = False
        self._error: BaseException | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def __len__(self) -> int:
        """Number of items that are queued."""
        return len(self._items)

    @property
    def closed(self) -> bool:
        """True once `close` or `abort` was called."""
        return self._closed

    async def put(self, item: T) -> bool:
        """Queue `item`, waiting for room. Return False if the outbox is closed: the item is dropped."""
        await self.room()
        return self._push(item)

    def push(self, item: T) -> bool:
        """Queue `item` even beyond the limit, without waiting. Return False if the outbox is closed.

        For producers that must not wait in the middle of a step: they await `room` before the next one,
        so that the queue exceeds its limit by what one step makes, at most.
        """
        return self._push(item)

    @property
    def full(self) -> bool:
        """True while `room` waits."""
        return len(self._items) >= self._limit and not self._closed

    async def eased(self) -> None:
        """Wait until half of it is free, or the outbox is closed."""
        while 2 * len(self._items) > self._limit and not self._closed:
            self._writable.clear()
            await self._writable.wait()

    async def room(self) -> None:
        """Wait until there is room, or the outbox is closed."""
        while len(self._items) >= self._limit and not self._closed:
            self._writable.clear()
            await self._writable.wait()

    def _push(self, item: T) -> bool:
        if self._closed:
            return False
        self._items.append(item)
        self._readable.set()
        return True

    def discard(self, stale: Callable[[T], bool]) -> int:
        """Drop queued items for which `stale` is true. Return how many."""
        self.discards += 1
        kept = [item for item in self._items if not stale(item)]
        dropped = len(self._items) - len(kept)
        self._items = deque(kept)
        self._writable.set()
        return dropped

    def close(self, error: BaseException | None = None) -> None:
        """End the stream behind what is queued; with `error`, the reader's iteration raises it there."""
        if not self._closed:
            self._closed = True
            self._error = error
            self._readable.set()
            self._writable.set()

    def abort(self, error: BaseException | None = None) -> None:
        """End the stream now: what is queued is dropped."""
        self._items.clear()
        self.close(error)

    def __aiter__(self) -> "Outbox[T]":
        """Iterate over the items until the end."""
        return self

    async def __anext__(self) -> T:
        """Return the next item, waiting for it."""
        while not self._items:
            if self._closed:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._readable.clear()
            await self._readable.wait()
        item = self._items.popleft()
        if len(self._items) < self._limit:
            self._writable.set()
        return item
