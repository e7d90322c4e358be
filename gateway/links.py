"""One turn's streams to the services: bounded, traced, and always ended."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import grpc
from grpc import StatusCode
from opentelemetry.trace import Span

from voicemesh.call_end import CallEnd
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.calls import TURN_ID_METADATA, CallMeter
from voicemesh.runtime.errors import ServiceUnavailableError
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.retry_budget import attempt_metadata
from voicemesh.runtime.sessions import Session
from voicemesh.runtime.status import RemoteError, code_of, from_rpc_error, to_status
from voicemesh.runtime.streams import Outbox
from voicemesh.runtime.telemetry import Telemetry, end_span, inject, metadata_of, trace_id_of

_log = get_logger(__name__)
_REQUEST_LIMIT: Final = 64

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
        meter: Is told how long the call took, from its first message on.
        turn_id: The turn, for the service's log; "" where there is none yet.
        attempt: How often the turn opened a stream in place of this one before, which broke off.

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
        meter: CallMeter | None = None,
        turn_id: str = "",
        attempt: int = 0,
    ) -> None:
        self._service = service
        self._method = method
        self._telemetry = telemetry
        self._span = None if parent is None else telemetry.client_span(method, parent)
        self._requests: Outbox[Q] = Outbox(_REQUEST_LIMIT)
        metadata = metadata_of(self._span) if self._span else ()
        metadata = (*metadata, *attempt_metadata(attempt))
        if turn_id:
            metadata = (*metadata, (TURN_ID_METADATA, quote(turn_id)))
        self._call: grpc.aio.StreamStreamCall[Q, R] = open_call(
            self._requests, metadata=metadata or None, timeout=timeout_s
        )
        self._call_end = CallEnd(self._call)
        self._meter = meter
        self._began_s = 0.0
        self._cancelled = False
        self._over = False
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
        if not self._began_s:
            self._began_s = time.monotonic()
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
        self.reader.add_done_callback(self._read_no_more)

    async def _run(self) -> None:
        error = await self._read()
        self._ended(error)

    async def _read(self) -> RemoteError | None:
        error: RemoteError | None = None
        try:
            async for response in self._call:
                if response is None:  # what grpc.aio makes of bytes that are no message
                    error = RemoteError(to_status(_no_message(self._service)))
                    break
                await self._take(response)
        except grpc.aio.AioRpcError as failure:
            why = await self._call_end.why(failure)
            if why is not None and not self._cancelled:
                error = from_rpc_error(why, self._service)
        except Exception as failure:  # noqa: BLE001 - whatever a message did to us, its turn must end
            _log.error("cannot take a message", service=self._service, exc_info=failure)
            error = RemoteError(to_status(failure, trace_id_of(self._span) if self._span else ""))
        except asyncio.CancelledError:
            # Either this task is cancelled, or the call was by `cancel`: then the task goes on.
            if not self._cancelled:
                raise
        finally:
            self._end(error)
        return error

    def _read_no_more(self, _reader: asyncio.Task[None]) -> None:
        """End what a reader leaves behind that was cancelled before it began."""
        self._end(None)

    def _end(self, error: RemoteError | None) -> None:
        if self._over:
            return
        self._over = True
        self._requests.abort()
        self._call.cancel()
        self._measure(error)
        if self._span is not None:
            if error is None and self._cancelled:
                self._span.set_attribute(names.RPC_STATUS, StatusCode.CANCELLED.name)
                self._span.end()
            else:
                end_span(self._span, error)

    def _measure(self, error: RemoteError | None) -> None:
        if self._meter is None or not self._began_s:
            return  # it stood by, and nobody came
        if error is not None:
            code = code_of(error)
        else:
            code = StatusCode.CANCELLED if self._cancelled else StatusCode.OK
        self._meter.took(self._method, code, time.monotonic() - self._began_s, self._span)


def _no_message(service: str) -> ServiceUnavailableError:
    return ServiceUnavailableError(
        f"the {service} service sent what is no message of the contract", retry_after_ms=1000
    )


def broke_off(service: str) -> ServiceUnavailableError:
    """Return the error of a stream that ended, with OK, before all was said."""
    return ServiceUnavailableError(f"the {service} service ended its stream early", retry_after_ms=1000)
