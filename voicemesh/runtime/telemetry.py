"""Traces: one provider a process, context passed explicitly.

No span is made current: a `start_as_current_span` across a `yield` of an async generator leaks its
context into other tasks (https://github.com/open-telemetry/opentelemetry-python/issues/2606). Spans
are started with an explicit parent and ended by hand.

Where nobody will see a span, none is made: what is asked for below it is its parent once more, which
carries the ids on. Callers ask `is_recording()` before they make attributes that cost something.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from google.rpc import code_pb2
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import (
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    format_trace_id,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from voicemesh.runtime import trace_names as names
from voicemesh.runtime.errors import MeshError
from voicemesh.runtime.sampling import head_sampler
from voicemesh.runtime.status import to_status

Metadata = Sequence[tuple[str, str | bytes]]
Attributes = Mapping[str, str | bool | int | float | Sequence[str]]

_FLUSH_S: Final = 3.0

_PROPAGATOR: Final = TraceContextTextMapPropagator()


class Telemetry:
    """Makes the spans of one process.

    With `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) set, spans are exported over OTLP
    gRPC in batches; otherwise they only carry ids.

    Args:
        service: Short name, as in "llm".
        provider: Makes the spans; None for one as the environment says.
        content: Whether prompts, replies and what is spoken may be in spans.

    Attributes:
        content: As given.

    Raises:
        SettingsError: The environment names no sampler that there is.

    """

    def __init__(
        self, service: str, provider: TracerProvider | None = None, *, content: bool = False
    ) -> None:
        self.content = content
        self._exports = provider is not None or _exports()
        self._provider = provider or _provider(service, exports=self._exports)
        self.tracer: Tracer = self._provider.get_tracer("voicemesh")
        self._follows = self._provider.sampler.get_description().startswith("ParentBased")

    def root_span(self, name: str, traceparent: str, attributes: Attributes | None = None) -> Span:
        """Start the SERVER span of work that may begin a trace: below `traceparent`, where there is one."""
        return self._start(name, extract_traceparent(traceparent), SpanKind.SERVER, attributes)

    def server_span(
        self, method: str, metadata: Iterable[tuple[str, Any]] | None, traceparent: str = ""
    ) -> Span:
        """Start the span of a call that came in.

        `method` is fully qualified, as in `voicemesh.llm.v1.LlmService/Generate`. Its parent is
        `traceparent`, which came in a message; or else the `traceparent` in the call's metadata, if any.
        """
        context = extract_traceparent(traceparent) if traceparent else extract(metadata)
        return self._start(method, context, SpanKind.SERVER, _rpc(method))

    def client_span(self, method: str, parent: Span) -> Span:
        """Start the span of a call that goes out, below `parent`."""
        return self.child_span(method, parent, kind=SpanKind.CLIENT, attributes=_rpc(method))

    def child_span(self, name: str, parent: Span, **options: Any) -> Span:
        """Start an internal span below `parent`; `options` go to `Tracer.start_span`."""
        if self._unseen(parent):
            return parent
        return self.tracer.start_span(name, context=trace.set_span_in_context(parent, Context()), **options)

    def linked_span(self, name: str, links: Sequence[trace.Link], **options: Any) -> Span:
        """Start a span of a trace of its own, which has to do with those that it is linked with."""
        return self.tracer.start_span(name, context=Context(), links=links, **options)

    def _start(self, name: str, context: Context, kind: SpanKind, attributes: Attributes | None) -> Span:
        remote = trace.get_current_span(context)
        if remote.get_span_context().is_valid and self._unseen(remote):
            return remote
        return self.tracer.start_span(name, context=context, kind=kind, attributes=attributes)

    def _unseen(self, parent: Span) -> bool:
        """Return whether a span below `parent` would be seen by nobody."""
        return not self._exports or (self._follows and not parent.get_span_context().trace_flags.sampled)

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


def _exports() -> bool:
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(os.environ.get(name) for name in endpoints)


def _provider(service: str, *, exports: bool) -> TracerProvider:
    resource = Resource.create({"service.name": f"voicemesh-{service}", "service.namespace": "voicemesh"})
    sampler = head_sampler(os.environ)
    # Spans that nobody will see only carry ids: on the way to the first frame the rest of them is not free.
    provider = TracerProvider(
        resource=resource, shutdown_on_exit=False, sampler=sampler if exports else ALWAYS_OFF
    )
    if exports:
        # Imported here: it costs start-up time and memory that only those who export should pay.
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - above

        from voicemesh.runtime.otlp import span_exporter  # noqa: PLC0415 - above

        provider.add_span_processor(BatchSpanProcessor(span_exporter()))
    return provider


def _rpc(method: str) -> Attributes:
    return {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: method}


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


def end_span(
    span: Span, error: BaseException | None = None, *, rpc: bool = True, at_ns: int | None = None
) -> None:
    """End `span`; with `error`, as failed, with its reason or type and its status (never its text).

    A cancellation is marked as one and is no failure. The status is that of an RPC: none with `rpc=False`.
    `at_ns` is when it ended, in nanoseconds since 1970; None for now.
    """
    if not span.is_recording():
        return
    if rpc:
        code = "OK" if error is None else code_pb2.Code.Name(to_status(error).code)
        span.set_attribute(names.RPC_STATUS, code)
    if error is not None:
        if isinstance(error, asyncio.CancelledError):
            span.add_event(names.CANCELLED)
        else:
            note_error(span, error.reason if isinstance(error, MeshError) else type(error).__name__)
    span.end(at_ns)


def note_error(span: Span, error_type: str) -> None:
    """Mark `span` as failed by what `error_type` names, in its attributes and as an event."""
    span.set_attribute(names.ERROR_TYPE, error_type)
    span.add_event(names.ERROR, {names.EXCEPTION_TYPE: error_type})
    span.set_status(Status(StatusCode.ERROR))


def link_to(span: Span, traceparent: str, **attributes: str | int) -> None:
    """Link `span` with that of a W3C `traceparent`; not where that is empty or malformed."""
    other = context_of(traceparent)
    if other.is_valid and span.is_recording():
        span.add_link(other, attributes)


def context_of(traceparent: str) -> SpanContext:
    """Return the ids of a W3C `traceparent`; invalid ones where it is empty or malformed."""
    return trace.get_current_span(extract_traceparent(traceparent)).get_span_context()


def trace_id_of_context(context: Context) -> str:
    """Return the trace id that `context` carries, or "" where it carries none."""
    span_context = trace.get_current_span(context).get_span_context()
    return format_trace_id(span_context.trace_id) if span_context.is_valid else ""
