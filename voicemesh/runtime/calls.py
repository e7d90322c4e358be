"""Calls: how long each took and how it ended, at its server and at its client, and what turn it is about.

A call begins with its first message. A stream may be open long before, so that nobody waits for it to be
opened: while it stands by it is nobody's, and one that ends without a message is none that is counted.
Nothing is measured between the first message and the end.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message
from opentelemetry.context import Context
from opentelemetry.trace import Span, get_current_span

from voicemesh.runtime import logs, telemetry
from voicemesh.runtime.instruments import DURATION_S, Declared, Instrument, Kind, Values
from voicemesh.runtime.metrics import Metrics, Observed
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
ACTIVE: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.calls.active",
    unit="{call}",
    description="Calls that run at the server: from their first message, so none that stand by.",
    labels={"rpc.method": _METHODS},
)
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


_OF_MANY_TURNS: Final = frozenset({"voicemesh.gateway.v1.GatewayService/Converse"})
"""Calls whose first message does not say what all of it is about."""
TURN_ID_METADATA: Final = "voicemesh-turn-id"
"""The turn that a call is about, percent-encoded, where its messages do not say."""
_log = logs.get_logger(__name__)


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
        self._active: Counter[str] = Counter()
        metrics.observe(ACTIVE, self._running)

    def _running(self) -> Observed:
        return [(count, {"rpc.method": method}) for method, count in self._active.items()]

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
        of_turn = method not in _OF_MANY_TURNS

        # One coroutine, and no more: it is resumed for every message of a stream.
        async def measured(request: Any, context: Any) -> Any:
            metadata = context.invocation_metadata()
            trace = telemetry.extract(metadata)
            known = {"trace_id": telemetry.trace_id_of_context(trace), "turn_id": _turn_id_of(metadata)}
            began = _Began(method, self._active, of_turn=of_turn)
            cancelled = False
            with logs.about(**{name: value for name, value in known.items() if value}):
                try:
                    if streams:
                        request = _Requests(request, began)
                    else:
                        began.note(request)
                    return await behaviour(request, context)
                except asyncio.CancelledError:
                    cancelled = True
                    raise
                finally:
                    if began.at_s:
                        self._active[method] -= 1
                        self._took(method, began.at_s, context, trace, cancelled=cancelled)

        return measured

    def _took(self, method: str, began_s: float, context: Any, trace: Context, *, cancelled: bool) -> None:
        code = _code_of(context, cancelled=cancelled)
        took_s = time.monotonic() - began_s
        self._meter.took(method, code, took_s, get_current_span(trace))
        _log.debug("call ended", method=method, code=code.name, duration_ms=round(1000 * took_s, 3))


class _Began:
    """When a call began, on the monotonic clock; 0 while it stands by."""

    def __init__(self, method: str, active: Counter[str], *, of_turn: bool) -> None:
        self.at_s = 0.0
        self._method = method
        self._active = active
        self._of_turn = of_turn

    def note(self, message: Any) -> None:
        """Take the first message, which says what turn the call is about."""
        self.at_s = time.monotonic()
        self._active[self._method] += 1
        if not self._of_turn or not isinstance(message, Message):
            return  # bytes that are no message are about nothing
        inner = message.WhichOneof("event") if "event" in message.DESCRIPTOR.oneofs_by_name else None
        for part in (message, getattr(message, inner) if inner else None):
            traceparent = getattr(part, "traceparent", "")
            logs.note(
                turn_id=getattr(part, "turn_id", ""),
                trace_id=telemetry.trace_id_of_context(telemetry.extract_traceparent(traceparent))
                if traceparent
                else "",
            )


class _Requests:
    """The messages of a caller; notes when the first of them came."""

    def __init__(self, requests: Any, began: _Began) -> None:
        self._requests = requests
        self._next: Callable[[], Awaitable[Any]] | None = None
        self._began = began

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> Awaitable[Any]:
        return self._next() if self._next and self._began.at_s else self._first()

    async def _first(self) -> Any:
        if self._next is None:  # not before: what is begun has to be read
            self._next = aiter(self._requests).__anext__
        message = await self._next()
        self._began.note(message)
        return message


def _turn_id_of(metadata: Any) -> str:
    values = (value for key, value in metadata or () if key == TURN_ID_METADATA and isinstance(value, str))
    return unquote(next(values, ""))


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
