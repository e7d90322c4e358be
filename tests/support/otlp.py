"""A real OTLP receiver: what the processes of a mesh export ends up here."""

import base64
import json
import pathlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as a tracing UI would know it."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    kind: int
    attributes: dict[str, Any]
    failed: bool
    events: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()
    """Trace and span that it is linked with."""
    event_attributes: tuple[dict[str, Any], ...] = ()
    """Those of each of `events`."""


@dataclass
class OtlpReceiver:
    """Everything that was exported so far."""

    endpoint: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    metrics: dict[tuple[str, str], Any] = field(default_factory=dict)
    """Service and name of an instrument to what was said of it last: a `Metric` of OTLP."""

    def trace(self, trace_id: str) -> list[ReceivedSpan]:
        """Return the spans of one trace."""
        return [span for span in self.spans if span.trace_id == trace_id]


def exported_line(request: Any) -> str:
    """Return a request as the collector's file exporter writes it: OTLP's JSON, whose ids are hexadecimal."""
    export = json_format.MessageToDict(request)
    for resource_spans in export.get("resourceSpans", []):
        for scope in resource_spans["scopeSpans"]:
            for span in scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = base64.b64decode(span[name]).hex()
    return json.dumps(export) + "\n"


class _Servicer(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, receiver: OtlpReceiver, file: pathlib.Path | None) -> None:
        self._receiver = receiver
        self._file = file

    async def Export(self, request: Any, context: Any) -> Any:
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(exported_line(request))
        for resource_spans in request.resource_spans:
            resource = _attributes(resource_spans.resource.attributes)
            for scope in resource_spans.scope_spans:
                self._receiver.spans += [_span(resource["service.name"], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    async def Export(self, request: Any, context: Any) -> Any:
        for resource_metrics in request.resource_metrics:
            service = _attributes(resource_metrics.resource.attributes)["service.name"]
            for scope in resource_metrics.scope_metrics:
                self._receiver.metrics |= {(service, metric.name): metric for metric in scope.metrics}
        return metrics_service_pb2.ExportMetricsServiceResponse()


def _span(service: str, span: Any) -> ReceivedSpan:
    return ReceivedSpan(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        kind=span.kind,
        attributes=_attributes(span.attributes),
        failed=span.status.code == 2,  # STATUS_CODE_ERROR
        events=tuple(event.name for event in span.events),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        event_attributes=tuple(_attributes(event.attributes) for event in span.events),
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


@asynccontextmanager
async def otlp_receiver(address: str, file: pathlib.Path | None = None) -> AsyncIterator[OtlpReceiver]:
    """Listen for OTLP over gRPC on `address`; write all that comes to `file`, too, a line for each batch."""
    receiver = OtlpReceiver()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Servicer(receiver, file), server)  # type: ignore[no-untyped-call] # generated without types
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(receiver), server)  # type: ignore[no-untyped-call] # as above
    port = server.add_insecure_port(address)
    receiver.endpoint = address if address.startswith("unix:") else f"http://127.0.0.1:{port}"
    await server.start()
    try:
        yield receiver
    finally:
        await server.stop(None)
