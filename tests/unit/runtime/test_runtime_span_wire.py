"""Spans on the wire: the same messages as the SDK makes, whatever a span holds."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from voicemesh.runtime import telemetry
from voicemesh.runtime.span_wire import SpanExporter, request_of
from voicemesh.runtime.telemetry import Telemetry

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
_VALUES = st.one_of(
    _TEXTS,
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.lists(_TEXTS, max_size=3),
    st.lists(st.integers(0, 1 << 40), max_size=3),
)
_ATTRIBUTES = st.dictionaries(_TEXTS.filter(bool), _VALUES, max_size=6)
_IDS = st.integers(1, (1 << 64) - 1)


def _context(span_id: int, *, remote: bool, state: str = "") -> SpanContext:
    states = TraceState([("vendor", state)]) if state else None
    return SpanContext((span_id << 32) | 1, span_id, remote, TraceFlags(1), states)


@given(
    name=_TEXTS,
    kind=st.sampled_from(SpanKind),
    attributes=_ATTRIBUTES,
    event=st.none() | st.tuples(_TEXTS, _ATTRIBUTES),
    link=st.none() | st.tuples(_IDS, st.booleans(), _ATTRIBUTES),
    parent=st.none() | st.tuples(_IDS, st.booleans(), st.sampled_from(["", "opaque"])),
    status=st.sampled_from([Status(), Status(StatusCode.OK), Status(StatusCode.ERROR, "why")]),
)
def test_a_span_is_the_message_that_the_sdk_makes(
    name: str,
    kind: SpanKind,
    attributes: dict[str, str],
    event: tuple[str, dict[str, str]] | None,
    link: tuple[int, bool, dict[str, str]] | None,
    parent: tuple[int, bool, str] | None,
    status: Status,
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "test"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    above = None
    if parent is not None:
        above = set_span_in_context(NonRecordingSpan(_context(parent[0], remote=parent[1], state=parent[2])))
    links = [Link(_context(link[0], remote=link[1]), link[2])] if link is not None else []
    for scope in ("voicemesh", "another"):
        span = provider.get_tracer(scope).start_span(
            name, context=above, kind=kind, attributes=attributes, links=links
        )
        if event is not None:
            span.add_event(*event)
        span.set_status(status)
        span.end()
    spans = exporter.get_finished_spans()
    assert request_of(spans) == encode_spans(spans)
    provider.shutdown()


def test_what_was_dropped_is_told() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    span = provider.get_tracer("test").start_span("turn")
    for number in range(200):
        span.set_attribute(str(number), number)
        span.add_event(str(number))
        span.add_link(_context(number + 1, remote=False))
    span.end()
    spans = exporter.get_finished_spans()
    (sent,) = request_of(spans).resource_spans[0].scope_spans[0].spans
    assert sent.dropped_attributes_count
    assert sent.dropped_events_count
    assert sent.dropped_links_count
    assert request_of(spans) == encode_spans(spans)
    provider.shutdown()


def test_half_a_character_does_not_cost_the_batch() -> None:
    """A broken server may name its model so; with the SDK such a name costs all spans of the batch."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("test").start_span("chat \ud83d", attributes={"a": "\ud83d"}).end()
    (sent,) = request_of(exporter.get_finished_spans()).resource_spans[0].scope_spans[0].spans
    assert (sent.name, sent.attributes[0].value.string_value) == ("chat ?", "?")
    provider.shutdown()


def test_it_is_what_a_process_exports_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1")
    made: list[Sequence[ReadableSpan]] = []

    def export(self: SpanExporter, spans: Sequence[ReadableSpan]) -> None:
        assert self._translate_data(spans) == encode_spans(spans)
        made.append(spans)

    monkeypatch.setattr(SpanExporter, "_export", export)
    traces = Telemetry("test")
    telemetry.end_span(traces.root_span("turn", "", {"voicemesh.turn_id": "t"}))
    traces._provider.shutdown()
    assert [span.name for spans in made for span in spans] == ["turn"]
