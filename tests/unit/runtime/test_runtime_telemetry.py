"""Spans: explicit parents, W3C headers, ends that say how it went and nothing that was said."""

import asyncio
import itertools
import re
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from voicemesh.runtime import telemetry
from voicemesh.runtime.errors import NoEngineError
from voicemesh.runtime.telemetry import Telemetry
from voicemesh.runtime.trace_names import RPC_STATUS

METHOD = "voicemesh.llm.v1.LlmService/Generate"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter: InMemorySpanExporter) -> Iterator[Telemetry]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Telemetry("test", provider)
    provider.shutdown()


def ended(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """Return what was exported, by name."""
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_trace_goes_from_process_to_process(traces: Telemetry, exporter: InMemorySpanExporter) -> None:
    root = traces.server_span("Converse", None)
    out = traces.client_span(METHOD, root)
    into = traces.server_span("Generate", telemetry.metadata_of(out))
    inner = traces.child_span("first token", into, attributes={"voicemesh.turn_id": "t"})
    for span in (inner, into, out, root):
        span.end()
    spans = ended(exporter)
    assert len({span.context.trace_id for span in spans.values() if span.context}) == 1
    chain = [spans[name] for name in ("Converse", METHOD, "Generate", "first token")]
    assert chain[0].parent is None
    for above, below in itertools.pairwise(chain):
        assert above.context is not None
        assert below.parent is not None
        assert below.parent.span_id == above.context.span_id
    assert [span.kind for span in chain] == [
        SpanKind.SERVER,
        SpanKind.CLIENT,
        SpanKind.SERVER,
        SpanKind.INTERNAL,
    ]
    assert dict(spans[METHOD].attributes or {}) == {"rpc.system.name": "grpc", "rpc.method": METHOD}
    assert dict(spans["first token"].attributes or {}) == {"voicemesh.turn_id": "t"}


def test_no_span_is_ever_the_current_one(traces: Telemetry) -> None:
    span = traces.server_span("Converse", None)
    traces.child_span("inner", span).end()
    assert not get_current_span().get_span_context().is_valid
    span.end()


def test_headers_carry_the_ids(traces: Telemetry) -> None:
    span = traces.server_span("Converse", None)
    headers = telemetry.inject(span)
    trace_id = telemetry.trace_id_of(span)
    assert re.fullmatch(rf"00-{trace_id}-[0-9a-f]{{16}}-0[13]", headers["traceparent"])
    assert telemetry.trace_id_of_context(telemetry.extract(headers.items())) == trace_id
    assert telemetry.trace_id_of_context(telemetry.extract_traceparent(headers["traceparent"])) == trace_id
    span.end()


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        [],
        [("traceparent", "")],
        [("traceparent", "nonsense")],
        [("traceparent", b"\x00\x01")],
        [("traceparent", "00-" + "0" * 32 + "-" + "1" * 16 + "-01")],
        [("traceparent-bin", b"\xff")],
    ],
)
def test_a_call_without_a_good_parent_begins_a_trace(
    traces: Telemetry, metadata: list[tuple[str, str | bytes]] | None
) -> None:
    assert telemetry.trace_id_of_context(telemetry.extract(metadata)) == ""
    span = traces.server_span("Converse", metadata)
    assert re.fullmatch(r"[0-9a-f]{32}", telemetry.trace_id_of(span))
    span.end()


def test_a_malformed_traceparent_is_an_empty_context() -> None:
    for text in ("", "x", "00-zz-zz-01"):
        assert telemetry.trace_id_of_context(telemetry.extract_traceparent(text)) == ""


@pytest.mark.parametrize(
    ("error", "status_code", "attributes"),
    [
        (None, StatusCode.UNSET, {RPC_STATUS: "OK"}),
        (
            NoEngineError("secret words"),
            StatusCode.ERROR,
            {"error.type": "NO_ENGINE", RPC_STATUS: "UNAVAILABLE"},
        ),
        (
            ValueError("secret words"),
            StatusCode.ERROR,
            {"error.type": "ValueError", RPC_STATUS: "INTERNAL"},
        ),
        (asyncio.CancelledError(), StatusCode.UNSET, {RPC_STATUS: "CANCELLED"}),
    ],
)
def test_a_span_ends_with_what_went_wrong_but_not_with_its_text(
    traces: Telemetry,
    exporter: InMemorySpanExporter,
    error: BaseException | None,
    status_code: StatusCode,
    attributes: dict[str, str],
) -> None:
    span = traces.child_span("inner", traces.server_span("outer", None))
    telemetry.end_span(span, error)
    found = ended(exporter)["inner"]
    assert found.status.status_code is status_code
    assert dict(found.attributes or {}) == attributes
    assert "secret words" not in found.to_json()


async def test_flush_exports_what_is_left(traces: Telemetry, exporter: InMemorySpanExporter) -> None:
    traces.server_span("Converse", None).end()
    await traces.flush()
    assert set(ended(exporter)) == {"Converse"}


async def test_without_a_collector_nothing_is_exported_and_ids_are_made() -> None:
    own = Telemetry("test")
    span = own.server_span("Converse", None)
    assert span.get_span_context().is_valid
    telemetry.end_span(span)
    await own.flush()
