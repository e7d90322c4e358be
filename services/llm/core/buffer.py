"""The text that waits for the caller to read it."""

import asyncio
import contextlib
from collections import deque
from typing import Final

from services.llm.core.model import Delta, GenerationEvent

BUFFER_CHARS: Final = 65_536
"""Text that may wait; the provider is read no further while there is more."""
MESSAGE_CHARS: Final = 16_384
"""Longest text of one delta: at most 64 KiB of UTF-8, far below the limit of a gRPC message."""


class ReplyBuffer:
    """What a generation has to say, joined while nobody reads.

        generation ── put ──> [ notices … | text, one growing delta … | finished ] ──> async for

    An event that the reader waits for is handed over at once. Deltas that meet no waiting reader are
    joined; after `join` also those that would meet one, for a while. `put` waits while more than
    `limit_chars` of text wait: that is the backpressure. `finish` and `close` end it behind what waits;
    `abort` drops what waits. For one reader and one writer.
    """

    def __init__(self, limit_chars: int = BUFFER_CHARS) -> None:
        self._limit_chars = limit_chars
        self._events: deque[GenerationEvent] = deque()
        self._chars = 0
        self._closed = False
        self._error: BaseException | None = None
        self._join_s = 0.0
        self._readable = asyncio.Event()
        self._urgent = asyncio.Event()
        self._writable = asyncio.Event()

    @property
    def closed(self) -> bool:
        """True once `close` or `abort` was called."""
        return self._closed

    def join(self, seconds: float) -> None:
        """Let text wait for so long for more of it, from now on; 0: hand it over at once."""
        self._join_s = seconds
        if not seconds:
            self._urgent.set()

    async def put(self, event: GenerationEvent) -> None:
        """Say `event`, then wait until there is room for more. Dropped where the buffer is closed."""
        if self._closed:
            return
        if isinstance(event, Delta):
            self._append_text(event)
        else:
            self._events.append(event)
            self._urgent.set()
        self._readable.set()
        if self._chars > MESSAGE_CHARS:
            self._urgent.set()
        while self._chars > self._limit_chars and not self._closed:
            self._writable.clear()
            await self._writable.wait()

    def _append_text(self, delta: Delta) -> None:
        self._chars += len(delta.text)
        last = self._events[-1] if self._events else None
        # A text that is as long as a message may be is left alone, so that joining stays cheap.
        if isinstance(last, Delta) and delta.timing is None and len(last.text) < MESSAGE_CHARS:
            self._events[-1] = Delta(last.text + delta.text, last.timing)
        else:
            self._events.append(delta)

    def finish(self, last: GenerationEvent) -> None:
        """Say `last` and end behind it, without waiting for room."""
        if not self._closed:
            self._events.append(last)
            self.close()

    def close(self, error: BaseException | None = None) -> None:
        """End behind what waits; with `error`, the reader's iteration raises it there."""
        if not self._closed:
            self._closed = True
            self._error = error
            self._readable.set()
            self._urgent.set()
            self._writable.set()

    def abort(self, error: BaseException | None = None) -> None:
        """End now: what waits is dropped."""
        self.drop()
        self.close(error)

    def drop(self) -> None:
        """Forget what waits."""
        self._events.clear()
        self._chars = 0
        self._writable.set()

    def __aiter__(self) -> "ReplyBuffer":
        """Iterate over the events until the end."""
        return self

    async def __anext__(self) -> GenerationEvent:
        """Return the next event, waiting for it."""
        while not self._events:
            if self._closed:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._readable.clear()
            await self._readable.wait()
            if self._join_s and not self._closed:
                await self._gather()
        event = self._events.popleft()
        if isinstance(event, Delta):
            if len(event.text) > MESSAGE_CHARS:
                self._events.appendleft(Delta(event.text[MESSAGE_CHARS:]))
                event = Delta(event.text[:MESSAGE_CHARS], event.timing)
            self._chars -= len(event.text)
            if self._chars <= self._limit_chars:
                self._writable.set()
        return event

    async def _gather(self) -> None:
        """Wait for more text, as long as the reader is patient; not for anything but text."""
        head = self._events[0] if self._events else None
        if not isinstance(head, Delta) or head.timing is not None or len(self._events) > 1:
            return
        self._urgent.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._join_s):
                await self._urgent.wait()
