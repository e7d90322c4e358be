"""A real OTLP receiver: what the processes of a mesh export ends up here.

As a program, `python -m tests.support.otlp FILE`: it says where it listens, and writes all that comes to
a file until its standard input is closed.
"""

import asyncio
import base64
import json
import pathlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
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
    _change_ids(export, lambda text: base64.b64decode(text).hex())
    return json.dumps(export) + "\n"


def spans_of_line(line: str) -> list[ReceivedSpan]:
    """Return what is in a line that `exported_line` made."""
    export = json.loads(line)
    _change_ids(export, lambda text: base64.b64encode(bytes.fromhex(text)).decode())
    request = json_format.ParseDict(export, trace_service_pb2.ExportTraceServiceRequest())
    return list(_spans_of(request))


def _change_ids(export: dict[str, Any], change: Callable[[str], str]) -> None:
    for resource_spans in export.get("resourceSpans", []):
        for scope in resource_spans["scopeSpans"]:
            for span in scope["spans"]:
                for holder in (span, *span.get("links", ())):
                    for name in ("traceId", "spanId", "parentSpanId"):
                        if name in holder:
                            holder[name] = change(holder[name])


class _Servicer(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, receiver: OtlpReceiver, file: pathlib.Path | None) -> None:
        self._receiver = receiver
        self._file = file

    async def Export(self, request: Any, context: Any) -> Any:
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(exported_line(request))
        self._receiver.spans += _spans_of(request)
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


def _spans_of(request: Any) -> Iterator[ReceivedSpan]:
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope in resource_spans.scope_spans:
            for span in scope.spans:
                yield _span(resource["service.name"], span)


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


@contextmanager
def otlp_process(folder: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """Receive in a process of its own; give its endpoint, and the file that it writes."""
    file = folder / "spans.jsonl"
    command = [sys.executable, "-m", "tests.support.otlp", str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().decode().strip(), file
        finally:
            process.stdin.close()
            process.wait()


async def _main(file: str) -> None:
    async with otlp_receiver("127.0.0.1:0", pathlib.Path(file)) as receiver:
        sys.stdout.write(receiver.endpoint + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
