"""One turn's streams to the services: bounded, traced, and always ended."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

import grpc
from opentelemetry.trace import Span

from gateway.breaker import Breaker
from voicemesh.cache.v1 import cache_pb2
from voicemesh.runtime.errors import ServiceUnavailableError
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.sessions import Session
from voicemesh.runtime.status import RemoteError, from_rpc_error, to_status
from voicemesh.runtime.streams import Outbox
from voicemesh.runtime.telemetry import Telemetry, end_span, inject, metadata_of, trace_id_of

_log = get_logger(__name__)
_REQUEST_LIMIT: Final = 64
_UNHURRIED_S: Final = 1.0
"""Longest wait for an answer that nobody waits for."""

Q = TypeVar("Q")
R = TypeVar("R")


class Link(Generic[Q, R]):
    """A stream to one service. Its span begins with it, or where it is opened ahead with `begin`.

    Args:
        service: Short name, for errors.
        method: Fully qualified name of the RPC, for the span.
        open_call: The stub's method.
        telemetry: Makes the span.
        parent: The turn's span; None where the stream is opened before there is a turn.
        timeout_s: What is left of the caller's deadline; None where it has none.

    Attributes:
        reader: The task that reads it, once it was started.

    """

    def __init__(
        self,
        service: str,
        method: str,
        open_call: Callable[..., Any],
        telemetry: Telemetry,
        parent: Span | None,
        timeout_s: float | None,
    ) -> None:
        self._service = service
        self._method = method
        self._telemetry = telemetry
        self._span = None if parent is None else telemetry.client_span(method, parent)
        self._requests: Outbox[Q] = Outbox(_REQUEST_LIMIT)
        self._call: grpc.aio.StreamStreamCall[Q, R] = open_call(
            self._requests, metadata=metadata_of(self._span) if self._span else None, timeout=timeout_s
        )
        self._cancelled = False
        self._take: Callable[[R], Awaitable[None]]
        self._ended: Callable[[RemoteError | None], None]
        self.reader: asyncio.Task[None] | None = None

    def begin(self, parent: Span) -> str:
        """Begin the span of a stream that was opened ahead; return the `traceparent` that must go with it."""
        if self._span is not None:
            return ""  # it went with the call
        self._span = self._telemetry.client_span(self._method, parent)
        return inject(self._span).get("traceparent", "")

    @property
    def open(self) -> bool:
        """False once nothing more can be sent."""
        return not self._requests.closed

    def send(self, request: Q) -> None:
        """Send a message, without waiting. What is sent after the end of the stream is dropped."""
        self._requests.push(request)

    async def room(self) -> None:
        """Wait until the service has taken enough of what was sent."""
        await self._requests.room()

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self._requests.close()

    def cancel(self) -> None:
        """End the stream now."""
        self._cancelled = True
        self._requests.abort()
        self._call.cancel()

    def listen(
        self, take: Callable[[R], Awaitable[None]], ended: Callable[[RemoteError | None], None]
    ) -> None:
        """Have every response from now on given to `take`, and the end of the stream to `ended`.

        `ended` is told why it ended; None where the service ended it with OK, or `cancel` was called.
        """
        self._take = take
        self._ended = ended

    def start(self, session: Session, name: str) -> None:
        """Read the stream until it ends, in a task of `session`; call once, behind `listen`."""
        self.reader = session.spawn(self._run(), name=name)

    async def _run(self) -> None:
        error = await self._read()
        self._ended(error)

    async def _read(self) -> RemoteError | None:
        error: RemoteError | None = None
        try:
            async for response in self._call:
                await self._take(response)
        except grpc.aio.AioRpcError as failure:
            if not self._cancelled:
                error = from_rpc_error(failure, self._service)
        except Exception as failure:  # noqa: BLE001 - whatever a message did to us, its turn must end
            _log.error("cannot take a message", service=self._service, exc_info=failure)
            error = RemoteError(to_status(failure, trace_id_of(self._span) if self._span else ""))
        except asyncio.CancelledError:
            # Either this task is cancelled, or the call was by `cancel`: then the task goes on.
            if not self._cancelled:
                raise
        finally:
            self._requests.abort()
            self._call.cancel()
            if self._span is not None:
                end_span(self._span, error)
        return error


def broke_off(service: str) -> ServiceUnavailableError:
    """Return the error of a stream that ended, with OK, before all was said."""
    return ServiceUnavailableError(f"the {service} service ended its stream early", retry_after_ms=1000)


Answer = Callable[[cache_pb2.ExchangeResponse | None, str], None]
"""Takes the answer to a request, or None and why there is none."""


class CacheLink:
    """A turn's stream to the cache service: requests by id, each answered in time or given up.

    A cache that fails or is late opens the breaker, and while it is open nothing is asked.

    Args:
        open_link: Opens the stream, and has it read with `take` and `ended`.
        breaker: Shared by all turns.
        timeout_s: Longest wait for an answer that somebody waits for.

    """

    def __init__(
        self,
        open_link: Callable[[], "Link[cache_pb2.ExchangeRequest, cache_pb2.ExchangeResponse]"],
        breaker: Breaker,
        timeout_s: float,
    ) -> None:
        self._open_link = open_link
        self._breaker = breaker
        self._timeout_s = timeout_s
        self._link: Link[cache_pb2.ExchangeRequest, cache_pb2.ExchangeResponse] | None = None
        self._waiting: dict[int, tuple[Answer | None, asyncio.TimerHandle]] = {}
        self._last_id = 0
        self._draining = False

    def request(self, request: cache_pb2.ExchangeRequest, answer: Answer | None = None) -> None:
        """Send a request.

        `answer` is called exactly once, from the event loop, never from in here. Without one nobody
        waits: the request may take its time, and its failure says nothing about the turn.
        """
        loop = asyncio.get_running_loop()
        if not self._breaker.allows():
            if answer is not None:
                loop.call_soon(answer, None, "the cache is held off after it failed")
            return
        if self._link is None or not self._link.open:
            self._link = self._open_link()
        self._last_id += 1
        request.request_id = self._last_id
        wait_s = self._timeout_s if answer is not None else _UNHURRIED_S
        self._waiting[self._last_id] = (answer, loop.call_later(wait_s, self._late, self._last_id))
        self._link.send(request)

    async def take(self, response: cache_pb2.ExchangeResponse) -> None:
        """Take a response from the service; one that comes too late is dropped."""
        waiting = self._waiting.pop(response.request_id, None)
        if waiting is not None:
            answer, timer = waiting
            timer.cancel()
            if answer is not None:
                self._breaker.succeeded()
                answer(response, "")
        self._close_if_drained()

    def ended(
        self,
        link: "Link[cache_pb2.ExchangeRequest, cache_pb2.ExchangeResponse]",
        error: RemoteError | None,
    ) -> None:
        """Note that a stream ended: what still waits for it is answered with nothing."""
        if link is not self._link:
            return  # it was drained, and another one is open
        self._link = None
        if error is not None:
            self._breaker.failed()
        waiting, self._waiting = self._waiting, {}
        for answer, timer in waiting.values():
            timer.cancel()
            if answer is not None:
                answer(None, error.message if error is not None else "the cache ended the stream")

    def drain(self) -> None:
        """End the stream once everything that was asked is answered."""
        self._draining = True
        self._close_if_drained()

    def _close_if_drained(self) -> None:
        if self._draining and not self._waiting and self._link is not None:
            self._link.half_close()

    def _late(self, request_id: int) -> None:
        answer, _ = self._waiting.pop(request_id)
        if answer is not None:
            self._breaker.failed()
            answer(None, f"the cache took longer than {self._timeout_s * 1000:.0f} ms")
        self._close_if_drained()
