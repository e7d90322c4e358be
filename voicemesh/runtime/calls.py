"""Metrics of calls: how long each took and how it ended, at its server and at its client.

A call begins with its first message. A stream may be open long before, so that nobody waits for it to be
opened: while it stands by it is nobody's, and one that ends without a message is none that is counted.
Nothing is measured between the first message and the end.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
from opentelemetry.trace import Span, get_current_span

from voicemesh.runtime import telemetry
from voicemesh.runtime.instruments import DURATION_S, Declared, Instrument, Kind, Values
from voicemesh.runtime.metrics import Metrics
from voicemesh.runtime.trace_names import RPC_STATUS

_METHODS: Final = Declared(32)
"""Only methods that there are get as far as this: those of the mesh's services."""
_LABELS: Final[dict[str, Values]] = {
    "rpc.system.name": ("grpc",),
    "rpc.method": _METHODS,
    RPC_STATUS: tuple(code.name for code in grpc.StatusCode),
}
SERVER: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="rpc.server.call.duration",
    unit="s",
    description="First message of a call to its end, at the server.",
    labels=_LABELS,
    buckets=DURATION_S,
)
CLIENT: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="rpc.client.call.duration",
    unit="s",
    description="First message of a call to its end, at the client; CANCELLED where the client ended it.",
    labels=_LABELS,
    buckets=DURATION_S,
)
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class CallMeter:
    """Takes the calls of one side."""

    def __init__(self, metrics: Metrics, instrument: Instrument) -> None:
        self._duration = metrics.histogram(instrument)

    def took(self, method: str, code: grpc.StatusCode, seconds: float, span: Span | None = None) -> None:
        """Take a call that ended; `method` is fully qualified, `span` what an exemplar leads to."""
        labels = {
            "rpc.system.name": "grpc",
            "rpc.method": method,
            RPC_STATUS: code.name,
        }
        self._duration.record(seconds, labels, span)


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in stubs only
    """Measures the calls of a server. It stands in front of the one that turns errors into statuses."""

    def __init__(self, metrics: Metrics) -> None:
        self._meter = CallMeter(metrics, SERVER)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call (`grpc.RpcMethodHandler`)."""
        handler: Any = await continuation(handler_call_details)
        # Health is watched for as long as a peer lives, and reflection is no work of the mesh.
        if handler is None or handler_call_details.method.startswith("/grpc."):
            return handler
        method = handler_call_details.method.removeprefix("/")
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        behaviour = self._measured(getattr(handler, kind), method, streams=handler.request_streaming)
        return make(behaviour, handler.request_deserializer, handler.response_serializer)

    def _measured(
        self, behaviour: Callable[[Any, Any], Awaitable[Any]], method: str, *, streams: bool
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def measured(request: Any, context: Any) -> Any:
            began = _Began()
            if streams:
                request = _Requests(request, began)
            else:
                began.note()
            cancelled = False
            try:
                return await behaviour(request, context)
            except asyncio.CancelledError:
                cancelled = True
                raise
            finally:
                if began.at_s:
                    span = get_current_span(telemetry.extract(context.invocation_metadata()))
                    code = _code_of(context, cancelled=cancelled)
                    self._meter.took(method, code, time.monotonic() - began.at_s, span)

        return measured


class _Began:
    """When a call began, on the monotonic clock; 0 while it stands by."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def note(self) -> None:
        self.at_s = time.monotonic()


class _Requests:
    """The messages of a caller; notes when the first of them came."""

    def __init__(self, requests: Any, began: _Began) -> None:
        self._next: Callable[[], Awaitable[Any]] = aiter(requests).__anext__
        self._began = began

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> Awaitable[Any]:
        return self._next() if self._began.at_s else self._first()

    async def _first(self) -> Any:
        message = await self._next()
        self._began.note()
        return message


def _code_of(context: Any, *, cancelled: bool) -> grpc.StatusCode:
    """Return how a call ended, as its caller sees it."""
    code = context.code()
    if not isinstance(code, grpc.StatusCode):
        code = _CODES.get(code or 0, grpc.StatusCode.UNKNOWN)
    if code is grpc.StatusCode.OK and not cancelled:
        return code
    # Whatever a handler makes of being cut short: its caller was told this.
    left_s = context.time_remaining()
    if left_s is not None and left_s <= 0:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED if cancelled else code
