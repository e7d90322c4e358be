"""`ChunkerService` over gRPC: one call is one `ChunkStream`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from functools import partial
from typing import Any, Final

from opentelemetry.trace import Span

from services.chunker.metrics import ChunkerMetrics
from services.chunker.policy import Chunk, Limits
from services.chunker.revision import revision_of
from services.chunker.stream import ChunkStream
from voicemesh.chunker.v1 import chunker_pb2, chunker_pb2_grpc
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.sessions import Session, SessionRegistry
from voicemesh.runtime.telemetry import Telemetry, end_span

FULL_NAME: Final = "voicemesh.chunker.v1.ChunkerService"
_CHUNK: Final = f"{FULL_NAME}/Chunk"
_LEAST_WAIT_S: Final = 0.001
_Told = Callable[[Iterable[Chunk]], Iterable[chunker_pb2.ChunkResponse]]
"""Makes the messages of chunks that go out, once each."""


class ChunkerServicer(chunker_pb2_grpc.ChunkerServiceServicer):
    """Hands messages to a stream and its chunks to the caller."""

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        sessions: SessionRegistry,
        telemetry: Telemetry,
        metrics: ChunkerMetrics,
    ) -> None:
        self._limits = limits
        revision_of(limits)  # reads files: not while somebody waits
        self._clock = clock
        self._sessions = sessions
        self._telemetry = telemetry
        self._metrics = metrics

    async def Chunk(
        self, request_iterator: AsyncIterator[chunker_pb2.ChunkRequest], context: Any
    ) -> AsyncGenerator[chunker_pb2.ChunkResponse, None]:
        """Cut one text. A chunk leaves in the step of the loop that took in the text that completes it."""
        span = self._telemetry.server_span(_CHUNK, context.invocation_metadata())
        stream = ChunkStream(self._limits, self._clock)
        told = partial(_responses, stream, span, self._metrics)
        timer = _Timer(stream, told, context, self._sessions.open())
        error: BaseException | None = None
        try:
            async for request in request_iterator:
                await timer.pause()
                first = True
                for chunks in stream.take(request):
                    if not first:
                        await asyncio.sleep(0)  # Between slices of a long text others get their turn.
                    first = False
                    for response in told(chunks):
                        yield response
                if stream.ended:
                    break
                timer.go_on()
            await timer.pause()
            if not stream.ended:
                for response in told(stream.end()):
                    yield response
            yield stream.done()
        except (asyncio.CancelledError, GeneratorExit):
            error = asyncio.CancelledError()
            raise
        except Exception as caught:
            error = caught
            raise
        finally:
            timer.cancel()
            span.set_attribute(names.TURN_ID, stream.turn_id)
            span.set_attribute(names.CHUNK_COUNT, stream.chunk_count)
            end_span(span, error)


def _responses(
    stream: ChunkStream, span: Span, metrics: ChunkerMetrics, chunks: Iterable[Chunk]
) -> Iterable[chunker_pb2.ChunkResponse]:
    for chunk in chunks:
        metrics.cut(chunk, span)
        if span.is_recording():
            span.add_event(
                names.CHUNK,
                {
                    names.CHUNK_INDEX: chunk.index,
                    names.CHUNK_REASON: chunk.reason.value,
                    names.HELD_MS: chunk.held_ns / 1_000_000,
                },
            )
        yield stream.message_of(chunk)


class _Timer:
    """Sends what was held too long, while the handler waits for the next message and only then.

    gRPC allows one write at a time. So the handler pauses the timer before it writes: then no tick
    begins, and one that is writing has ended.
    """

    def __init__(self, stream: ChunkStream, told: _Told, context: Any, session: Session) -> None:
        self._stream = stream
        self._told = told
        self._context = context
        self._session = session
        self._handle: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    async def pause(self) -> None:
        """Hold still until `go_on`."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await asyncio.wait({writing})

    def go_on(self) -> None:
        """Wake up when a tick is due."""
        due_in_s = self._stream.due_in_s()
        if due_in_s is not None:
            loop = asyncio.get_running_loop()
            self._handle = loop.call_later(max(due_in_s, _LEAST_WAIT_S), self._tick)

    def cancel(self) -> None:
        """End, now."""
        if self._handle is not None:
            self._handle.cancel()
        self._session.cancel()

    def _tick(self) -> None:
        self._handle = None
        chunks = self._stream.tick()
        if chunks:
            self._writing = self._session.spawn(self._write(chunks), "held chunks")
        else:
            self.go_on()

    async def _write(self, chunks: list[Chunk]) -> None:
        for response in self._told(chunks):
            await self._context.write(response)
        if self._writing is asyncio.current_task():
            # Nobody pauses: what is left may be due without another message.
            self._writing = None
            self.go_on()
