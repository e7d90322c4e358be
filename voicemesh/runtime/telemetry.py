"""Traces: one provider a process, context passed explicitly.

No span is made current: a `start_as_current_span` across a `yield` of an async generator leaks its
context into other tasks (https://github.com/open-telemetry/opentelemetry-python/issues/2606). Spans
are started with an explicit parent and ended by hand.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

from google.rpc import code_pb2
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from voicemesh.runtime.errors import MeshError
from voicemesh.runtime.status import to_status

Metadata = Sequence[tuple[str, str | bytes]]

RPC_STATUS_ATTRIBUTE: Final = "rpc.response.status_code"
"""The name of the status, as in "NOT_FOUND". Still moving in the conventions; kept in one place."""

_FLUSH_S: Final = 3.0

_PROPAGATOR: Final = TraceContextTextMapPropagator()


class Telemetry:
    """Makes the spans of one process.

    With `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) set, spans are exported over OTLP
    gRPC in batches; otherwise they only carry ids.
    """

    def __init__(self, service: str, provider: TracerProvider | None = None) -> None:
        self._provider = provider or _provider(service)
        self.tracer: Tracer = self._provider.get_tracer("voicemesh")

    def server_span(
        self, method: str, metadata: Iterable[tuple[str, Any]] | None, traceparent: str = ""
    ) -> Span:
        """Start the span of a call that came in.

        `method` is fully qualified, as in `voicemesh.llm.v1.LlmService/Generate`. Its parent is
        `traceparent`, which came in a message; or else the `traceparent` in the call's metadata, if any.
        """
        return self.tracer.start_span(
            method,
            context=extract_traceparent(traceparent) if traceparent else extract(metadata),
            kind=SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": method},
        )

    def client_span(self, method: str, parent: Span) -> Span:
        """Start the span of a call that goes out, below `parent`."""
        return self.tracer.start_span(
            method,
            context=trace.set_span_in_context(parent, Context()),
            kind=SpanKind.CLIENT,
            attributes={"rpc.system.name": "grpc", "rpc.method": method},
        )

    def child_span(self, name: str, parent: Span, **options: Any) -> Span:
        """Start an internal span below `parent`; `options` go to `Tracer.start_span`."""
        return self.tracer.start_span(name, context=trace.set_span_in_context(parent, Context()), **options)

    async def flush(self) -> None:
        """Export what is left and end. A collector that does not answer costs three seconds."""
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def shutdown() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        # A daemon, and not a worker of the loop's executor: the exit of the process waits for those.
        threading.Thread(target=shutdown, name="telemetry-flush", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), _FLUSH_S)


def _provider(service: str) -> TracerProvider:
    resource = Resource.create({"service.name": f"voicemesh-{service}", "service.namespace": "voicemesh"})
    exports = any(
        os.environ.get(name) for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )
    # Spans that nobody will see only carry ids: on the way to the first frame the rest of them is not free.
    provider = TracerProvider(
        resource=resource, shutdown_on_exit=False, sampler=None if exports else ALWAYS_OFF
    )
    if exports:
        # Imported here: it costs start-up time and memory that only those who export should pay.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - above
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - above

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def extract(metadata: Iterable[tuple[str, Any]] | None) -> Context:
    """Return the trace context in a call's metadata; an empty context where there is none."""
    carrier = {key: value for key, value in metadata or () if isinstance(value, str)}
    return _PROPAGATOR.extract(carrier, context=Context())


def extract_traceparent(traceparent: str) -> Context:
    """Return the trace context of a W3C `traceparent`; an empty one where it is empty or malformed."""
    return _PROPAGATOR.extract({"traceparent": traceparent}, context=Context())


def inject(span: Span) -> dict[str, str]:
    """Return the W3C headers that carry `span` to a peer."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context=trace.set_span_in_context(span, Context()))
    return carrier


def metadata_of(span: Span) -> tuple[tuple[str, str], ...]:
    """Return gRPC metadata that carries `span` to a peer."""
    return tuple(inject(span).items())


def trace_id_of(span: Span) -> str:
    """Return the trace id of `span`, 32 hexadecimal digits."""
    return format_trace_id(span.get_span_context().trace_id)


def end_span(span: Span, error: BaseException | None = None) -> None:
    """End `span`; with `error`, as failed, with its reason or type and its status (never its text).

    A cancellation is marked as one and is no failure.
    """
    if error is not None:
        span.set_attribute(RPC_STATUS_ATTRIBUTE, code_pb2.Code.Name(to_status(error).code))
        if not isinstance(error, asyncio.CancelledError):
            span.set_attribute(
                "error.type", error.reason if isinstance(error, MeshError) else type(error).__name__
            )
            span.set_status(Status(StatusCode.ERROR))
    span.end()


def trace_id_of_context(context: Context) -> str:
    """Return the trace id that `context` carries, or "" where it carries none."""
    span_context = trace.get_current_span(context).get_span_context()
    return format_trace_id(span_context.trace_id) if span_context.is_valid else ""
