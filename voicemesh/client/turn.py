"""One turn as its caller reads it: events from a bounded inbox."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from types import TracebackType
from typing import Final, Self

from google.rpc import status_pb2

from voicemesh.client.errors import VoiceMeshError, cut_off, from_status
from voicemesh.client.events import (
    AudioFormat,
    Degraded,
    Event,
    Frame,
    TurnEnded,
    TurnStarted,
    Wire,
    event_from_proto,
)
from voicemesh.client.files import write_audio
from voicemesh.client.observer import Observer
from voicemesh.client.report import FAILED, TurnReport, as_observed, report_from_proto
from voicemesh.gateway.v1 import gateway_pb2

INBOX_LIMIT: Final = 512
"""Events of a turn that wait for their reader. Behind that the connection's flow control holds."""


_GATEWAY: Final = "gateway"
"""What was given up where a turn was asked again."""


class Inbox:
    """A bounded queue of events with an end.

    the call's reader ── put ──> [ … at most INBOX_LIMIT … ] ──> next ── the caller
    """

    def __init__(self, limit: int = INBOX_LIMIT) -> None:
        self._limit = limit
        self._events: deque[Event] = deque()
        self._ended = False
        self._muted = False
        self._error: Exception | None = None
        self._changed = asyncio.Condition()

    def __len__(self) -> int:
        """Number of events that are queued."""
        return len(self._events)

    async def put(self, event: Event) -> None:
        """Queue `event`, waiting for room; once muted or ended, drop it."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: len(self._events) < self._limit or self._muted or self._ended
            )
            if not self._muted and not self._ended:
                self._events.append(event)
                self._changed.notify_all()

    async def end(self, last: Event | Exception) -> None:
        """End the queue with a last event, or with an error that the caller's iteration raises."""
        async with self._changed:
            if self._ended:
                return
            self._ended = True
            if isinstance(last, Exception):
                self._error = last
            else:
                self._events.append(last)
            self._changed.notify_all()

    async def mute(self) -> None:
        """Drop what is queued and what comes, but not the end."""
        async with self._changed:
            if not self._ended:
                self._muted = True
                self._events.clear()
                self._changed.notify_all()

    async def clear(self) -> None:
        """Drop what is queued."""
        async with self._changed:
            if not self._ended:
                self._events.clear()
                self._changed.notify_all()

    async def next(self) -> Event | None:
        """Return the next event, waiting for it; None at the end. Raises the error that ended the queue."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._events or self._ended)
            if self._events:
                event = self._events.popleft()
                self._changed.notify_all()
                return event
            if self._error is not None:
                raise self._error
            return None


@dataclass(frozen=True)
class Recording:
    """A whole turn: its audio, in one piece, and its account.

    Attributes:
        audio: All of it. Packets of Opus do not say where they end: `frames` has them one by one.
        format: Of the audio.
        report: The account of the turn.
        frames: The frames that the audio came in.

    """

    audio: bytes
    format: AudioFormat
    report: TurnReport
    frames: tuple[Frame, ...] = ()

    @property
    def text(self) -> str:
        """What was said."""
        return self.report.text

    def save(self, path: str | PathLike[str]) -> None:
        """Write a file, in the encoding that the turn was asked for. Raises as `write_audio`."""
        frames = [frame.audio for frame in self.frames] or [self.audio]
        write_audio(path, frames, [frame.samples for frame in self.frames], self.format)


def recording(frames: Sequence[Frame], fmt: AudioFormat, report: TurnReport) -> Recording:
    """Return the recording that is made of `frames`."""
    return Recording(b"".join(frame.audio for frame in frames), fmt, report, tuple(frames))


async def _nothing() -> None:
    return


class Turn:
    """One turn. Iterate over it for its events; it ends with `TurnEnded`, or raises `VoiceMeshError`.

    A turn of `VoiceMesh.ask` or `say` begins when it is iterated over, and is cancelled when the
    iteration is left early. A turn of a conversation has begun already, and goes on until it ends,
    is interrupted, or the conversation begins another.

    Attributes:
        turn_id: The turn.
        report: Its account; None until it has ended.

    """

    def __init__(
        self,
        turn_id: str,
        observer: Observer,
        *,
        start: Callable[[], Awaitable[None]] = _nothing,
        close: Callable[[], Awaitable[None]] = _nothing,
        pace: Callable[[], gateway_pb2.SpeechOptions | None] = lambda: None,
    ) -> None:
        self.turn_id = turn_id
        self.report: TurnReport | None = None
        self.observer = observer
        self._start = start
        self._close = close
        self._pace = pace
        self._inbox = Inbox()
        # What ended the caller's own words, to be raised to the reader of the turn.
        self.cause: Exception | None = None
        self._muted = False
        self._given_up: tuple[str, ...] = ()

    def __aiter__(self) -> AsyncIterator[Event]:
        """Iterate over the events of the turn, once."""
        # A generator of its own: when a caller breaks out of the loop, the event loop closes it,
        # and the call ends at once rather than with the client.
        return self._events()

    async def _events(self) -> AsyncIterator[Event]:
        try:
            await self._start()
            while (event := await self._inbox.next()) is not None:
                yield event
        finally:
            await self._close()

    async def __aenter__(self) -> Self:
        """Return the turn."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the call of the turn, if it has one of its own."""
        await self.aclose()

    async def aclose(self) -> None:
        """End the call of the turn, if it has one of its own."""
        await self._close()

    async def collect(self) -> Recording:
        """Read the turn to its end and return all of its audio, in memory. Raises `VoiceMeshError`.

        A recording is not played as it comes: a turn of `VoiceMesh.ask` or `say` that has not begun yet
        is made as fast as it can be, unless its options say how far ahead synthesis may be.
        """
        speech = self._pace()
        if speech is not None and not speech.HasField("max_lead_ms"):
            speech.max_lead_ms = 0
        frames: list[Frame] = []
        fmt = AudioFormat()
        async for event in self:
            if isinstance(event, Frame):
                frames.append(event)
            elif isinstance(event, TurnStarted):
                fmt = event.format
        assert self.report is not None
        return recording(frames, fmt, self.report)

    @property
    def inbox_size(self) -> int:
        """Number of events that wait to be read."""
        return len(self._inbox)

    # What follows is called by the reader of the turn's call.

    async def deliver(self, message: Wire) -> None:
        """Take an event that has just arrived; of an interrupted turn, drop it."""
        event = event_from_proto(message)
        if event is None or self._muted:
            return
        self.observer.event(event)
        await self._inbox.put(event)

    async def mute(self) -> None:
        """The caller wants no more of this turn but its end."""
        self._muted = True
        await self._inbox.mute()

    async def anew(self, lost: str, found: str) -> None:
        """The gateway at `lost` is gone before any audio came, and the one at `found` is asked."""
        self._given_up = (_GATEWAY,)
        self.observer.anew()
        await self._inbox.clear()
        detail = f"the gateway at {lost} was lost before any audio came: {found} is asked instead"
        await self._inbox.put(Degraded(self.turn_id, _GATEWAY, detail))

    async def completed(self, message: gateway_pb2.TurnReport) -> None:
        """The turn ended well, or was interrupted."""
        report = as_observed(report_from_proto(message), self.observer.seen())
        self.report = replace(report, turn_id=self.turn_id, degraded=(*report.degraded, *self._given_up))
        await self._inbox.end(self.cause or TurnEnded(self.turn_id, self.report))

    async def failed(self, status: status_pb2.Status, message: gateway_pb2.TurnReport) -> None:
        """The mesh says that the turn failed."""
        await self._fail(from_status(status), report_from_proto(message))

    async def lost(self, error: VoiceMeshError) -> None:
        """The turn's call ended before the turn did."""
        if self.report is None:
            seen = self.observer
            report = TurnReport(turn_id=self.turn_id, session_id=seen.session_id, trace_id=seen.trace_id)
            # One error may end several turns; each has its own report.
            own = error.copy()
            if seen.heard and not error.reached:
                own = cut_off(error, seen.arrived_ms(), seen.played_ms())
            await self._fail(own, report)

    async def _fail(self, error: VoiceMeshError, report: TurnReport) -> None:
        observed = as_observed(report, self.observer.seen())
        degraded = (*observed.degraded, *self._given_up)
        self.report = replace(observed, turn_id=self.turn_id, outcome=FAILED, error=error, degraded=degraded)
        error.report = self.report
        await self._inbox.end(self.cause or error)
