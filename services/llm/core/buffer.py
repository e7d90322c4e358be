"""The text that waits for the caller to read it."""

import asyncio
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

    An event that the reader waits for is handed over at once. Deltas that meet no waiting reader
    are joined. `put` waits while more than `limit_chars` of text wait: that is the backpressure.
    `finish` and `close` end it behind what waits; `abort` drops what waits. For one reader and one
    writer.
    """

    def __init__(self, limit_chars: int = BUFFER_CHARS) -> None:
        self._limit_chars = limit_chars
        self._events: deque[GenerationEvent] = deque()
        self._chars = 0
        self._closed = False
        self._error: BaseException | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()

    @property
    def closed(self) -> bool:
        """True once `close` or `abort` was called."""
        return self._closed

    async def put(self, event: GenerationEvent) -> None:
        """Say `event`, then wait until there is room for more. Dropped where the buffer is closed."""
        if self._closed:
            return
        if isinstance(event, Delta):
            self._append_text(event)
        else:
            self._events.append(event)
        self._readable.set()
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
        event = self._events.popleft()
        if isinstance(event, Delta):
            if len(event.text) > MESSAGE_CHARS:
                self._events.appendleft(Delta(event.text[MESSAGE_CHARS:]))
                event = Delta(event.text[:MESSAGE_CHARS], event.timing)
            self._chars -= len(event.text)
            if self._chars <= self._limit_chars:
                self._writable.set()
        return event
