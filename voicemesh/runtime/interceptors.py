"""The one place where an exception becomes the status of a call."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from voicemesh.runtime import telemetry
from voicemesh.runtime.errors import InvalidFieldError, MeshError
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.status import to_status

_log = get_logger(__name__)


class CallsInFlight:
    """Calls that run, so that they can be told why they are cut off."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.why: MeshError | None = None
        """Why they are cut off; None while they are not."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self._tasks)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count the call that the present task handles."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    def cut(self, why: MeshError) -> None:
        """End them all now, with `why` as their status."""
        self.why = why
        for task in tuple(self._tasks):
            task.cancel()


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in stubs only
    """Ends calls whose handler raised with the status from the table in `voicemesh.runtime.status`.

    Handlers with a response stream must be async generators.
    """

    def __init__(self, in_flight: CallsInFlight | None = None) -> None:
        self._in_flight = CallsInFlight() if in_flight is None else in_flight

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call (`grpc.RpcMethodHandler`)."""
        handler: Any = await continuation(handler_call_details)
        # Health and reflection are grpc's own and end their calls themselves.
        if handler is None or handler_call_details.method.startswith("/grpc."):
            return handler
        method = handler_call_details.method
        read = (_reader_of_stream if handler.request_streaming else _reader)(handler.request_deserializer)
        if handler.response_streaming:
            wrap = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            behaviour = _guard_stream(handler.stream_stream or handler.unary_stream, method, self._in_flight)
        else:
            wrap = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            behaviour = _guard_unary(handler.stream_unary or handler.unary_unary, method, self._in_flight)
        return wrap(behaviour, read, handler.response_serializer)


def _reader_of_stream(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Have the handler that reads its requests be told of bytes that are no message as of any bad input."""

    def read(wire: bytes) -> Any:
        try:
            return deserialize(wire)
        except DecodeError:
            raise _unreadable() from None

    return read


def _reader(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return the refusal of bytes that are no message: what is raised here, gRPC would call UNKNOWN."""

    def read(wire: bytes) -> Any:
        try:
            return deserialize(wire)
        except DecodeError:
            return _unreadable()

    return read


def _unreadable() -> InvalidFieldError:
    return InvalidFieldError("request", "is no message of this contract")


def _guard_stream(
    handler: Callable[[Any, Any], AsyncGenerator[Any]], method: str, in_flight: CallsInFlight
) -> Any:
    # Not a generator itself: grpc.aio leaves a generator that waits in a `yield` to the garbage
    # collector when a peer goes away. Here the cancellation arrives in `write`, and `aclosing` runs
    # the handler's `finally` at once.
    async def guarded(request: Any, context: Any) -> None:
        if isinstance(request, MeshError):
            await _abort(context, request, method)
            return
        try:
            with in_flight.running():
                async with contextlib.aclosing(handler(request, context)) as responses:
                    async for response in responses:
                        try:
                            await context.write(response)
                        except grpc.aio.InternalError:
                            # The peer went away while the message was on its way: no failure of ours, and
                            # nobody is left to tell. To return would have gRPC send a status, and log that
                            # it cannot.
                            raise asyncio.CancelledError from None
        except grpc.aio.AbortError:
            raise
        except asyncio.CancelledError:
            await _cut_off(context, in_flight, method)
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: each failure becomes a status
            await _abort(context, error, method)

    return guarded


def _guard_unary(handler: Callable[[Any, Any], Awaitable[Any]], method: str, in_flight: CallsInFlight) -> Any:
    async def guarded(request: Any, context: Any) -> Any:
        if isinstance(request, MeshError):
            return await _abort(context, request, method)
        try:
            with in_flight.running():
                return await handler(request, context)
        except grpc.aio.AbortError:
            raise
        except asyncio.CancelledError:
            await _cut_off(context, in_flight, method)
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: each failure becomes a status
            return await _abort(context, error, method)

    return guarded


async def _cut_off(context: Any, in_flight: CallsInFlight, method: str) -> None:
    """Tell the caller why its call was cancelled, where that was us."""
    task = asyncio.current_task()
    if in_flight.why is not None and not context.done() and task is not None:
        task.uncancel()
        await _abort(context, in_flight.why, method)


async def _abort(context: Any, error: Exception, method: str) -> None:
    trace_id = telemetry.trace_id_of_context(telemetry.extract(context.invocation_metadata()))
    # A caller that sends no trace context gets an id all the same, to find the line in the log by.
    trace_id = trace_id or secrets.token_hex(16)
    if not isinstance(error, MeshError):
        _log.error("call failed", method=method, trace_id=trace_id, exc_info=error)
    # Where the peer went away meanwhile nobody is left to tell, and gRPC would log that as a fault of ours.
    with contextlib.suppress(grpc.aio.InternalError):
        await context.abort_with_status(rpc_status.to_status(to_status(error, trace_id)))
