import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext

from tests.support.scraped import Scraped
from voicemesh.runtime import metrics as under_test
from voicemesh.runtime.exemplars import make_provider
from voicemesh.runtime.instruments import LATENCY_S, MAX_SERIES, OTHER, Declared, Instrument, Kind, Values
from voicemesh.runtime.metrics import LiveMetrics, Metrics, exports, make_metrics
from voicemesh.runtime.telemetry import trace_id_of

TURNS = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.test.turns",
    unit="{turn}",
    description="Turns.",
    labels={"outcome": ("completed", "failed"), "voice": Declared(2)},
)
LATENCY = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.test.latency",
    unit="s",
    description="Latency.",
    labels={"kind": ("prompt", "text")},
    buckets=LATENCY_S,
)
DEPTH = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.test.depth",
    unit="By",
    description="Depth.",
    labels={"voice": Declared(3)},
)


@pytest.fixture
def live() -> Iterator[Scraped]:
    opened = Scraped()
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_METRICS_EXPORTER": "none"}, False),
    ],
)
def test_a_collector_gets_metrics_where_the_environment_says_so(monkeypatch, variables, asked):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert exports() is asked


def test_nothing_is_measured_where_nobody_asked(monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    off = make_metrics("test", scraped=False)
    assert off is Metrics.off()
    assert not off.on
    assert off.counter(TURNS) is off.counter(TURNS)
    off.counter(TURNS).add(1, {"no such": "label"})
    off.histogram(LATENCY).record(1.0)
    off.observe(DEPTH, lambda: pytest.fail("nobody looks"))


def test_the_sdk_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not make_metrics("test", scraped=True).on


def test_what_is_measured_is_scraped(live):
    live.counter(TURNS).add(2, {"outcome": "completed", "voice": ""})
    live.histogram(LATENCY).record(0.3, {"kind": "prompt"})
    live.observe(DEPTH, lambda: [(7, {"voice": "a"})])
    assert live.values(TURNS.prometheus) == {(("outcome", "completed"),): 2}
    assert live.values(f"{LATENCY.prometheus}_count") == {(("kind", "prompt"),): 1}
    assert live.values(DEPTH.prometheus) == {(("voice", "a"),): 7}
    buckets = live.values(f"{LATENCY.prometheus}_bucket")
    assert {bounds[1][1] for bounds in buckets} == {*(f"{bound}" for bound in LATENCY_S), "+Inf"}
    assert buckets[("kind", "prompt"), ("le", "0.25")] == 0
    assert buckets[("kind", "prompt"), ("le", "0.3")] == 1


def test_the_same_instrument_is_made_once(live):
    assert live.counter(TURNS) is live.counter(TURNS)
    assert live.histogram(LATENCY) is live.histogram(LATENCY)
    live.observe(DEPTH, lambda: [(1, {"voice": "a"})])
    live.observe(DEPTH, lambda: [(2, {"voice": "b"})])
    assert live.values(DEPTH.prometheus) == {(("voice", "a"),): 1, (("voice", "b"),): 2}


def test_an_instrument_is_used_as_it_is_declared(live):
    with pytest.raises(ValueError, match=r"voicemesh\.test\.latency is declared as a histogram"):
        live.counter(LATENCY)
    with pytest.raises(ValueError, match=r"voicemesh\.test\.turns is declared as a counter"):
        live.histogram(TURNS)
    with pytest.raises(ValueError, match=r"voicemesh\.test\.turns is declared as a counter"):
        live.observe(TURNS, list)
    with pytest.raises(ValueError, match=r"voicemesh\.test\.turns has no label 'turn_id'"):
        live.counter(TURNS).add(1, {"turn_id": "t"})


def test_values_that_are_not_declared_are_other(live):
    turns = live.counter(TURNS)
    for number in range(1000):
        turns.add(1, {"outcome": f"outcome-{number}", "voice": f"voice-{number}"})
    turns.add(1, {"outcome": "failed", "voice": "x" * 65})
    assert live.values(TURNS.prometheus) == {
        (("outcome", OTHER), ("voice", "voice-0")): 1,
        (("outcome", OTHER), ("voice", "voice-1")): 1,
        (("outcome", OTHER), ("voice", OTHER)): 998,
        (("outcome", "failed"), ("voice", OTHER)): 1,
    }


def test_a_declaration_that_allows_too_much_is_refused():
    labels: dict[str, Values] = {"voice": Declared(100), "model": Declared(100)}
    with pytest.raises(ValueError, match=rf"10404 series, more than {MAX_SERIES}"):
        Instrument(kind=Kind.COUNTER, name="big", unit="1", description="Big.", labels=labels)


@pytest.mark.parametrize(("kind", "buckets"), [(Kind.HISTOGRAM, ()), (Kind.COUNTER, LATENCY_S)])
def test_histograms_and_only_they_have_buckets(kind, buckets):
    with pytest.raises(ValueError, match="needs buckets"):
        Instrument(kind=kind, name="odd", unit="s", description="Odd.", buckets=buckets)


def test_what_is_slow_leads_to_its_trace(live):
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    seen, other = tracer.start_span("turn"), tracer.start_span("turn")
    live.histogram(LATENCY).record(0.05, {"kind": "prompt"}, seen)
    live.histogram(LATENCY).record(99, {"kind": "prompt"}, other)
    live.histogram(LATENCY).record(0.3, {"kind": "prompt"})
    live.counter(TURNS).add(1, {"outcome": "failed"}, other)
    for _ in range(2):  # a second scraper sees them too
        led = {
            (sample.name, sample.labels.get("le")): sample.exemplar.labels["trace_id"]
            for sample in live.samples()
            if sample.exemplar is not None
        }
        assert led == {
            (f"{LATENCY.prometheus}_bucket", "0.05"): trace_id_of(seen),
            (f"{LATENCY.prometheus}_bucket", "+Inf"): trace_id_of(other),
            (TURNS.prometheus, None): trace_id_of(other),
        }


def test_the_plain_format_has_no_exemplars(live):
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("turn")
    live.histogram(LATENCY).record(0.05, {"kind": "prompt"}, span)
    content_type, text = live.prometheus.render("text/plain")
    assert content_type.startswith("text/plain")
    assert b"trace_id" not in text
    assert LATENCY.prometheus.encode() in text


def test_a_gauge_that_cannot_be_read_hides_no_other(live):
    def broken():
        raise RuntimeError("not now")

    live.observe(DEPTH, broken)
    live.observe(DEPTH, lambda: [(2, {"voice": "b"})])
    assert live.values(DEPTH.prometheus) == {(("voice", "b"),): 2}


async def test_gauges_are_read_on_the_event_loop():
    live = Scraped()
    readers = []

    def read():
        readers.append(threading.get_ident())
        return [(1, {"voice": "a"})]

    live.observe(DEPTH, read)
    assert await asyncio.to_thread(live.values, DEPTH.prometheus) == {(("voice", "a"),): 1}
    assert live.values(DEPTH.prometheus) == {(("voice", "a"),): 1}
    assert readers == [threading.get_ident()] * 2
    await live.flush()


async def test_a_busy_loop_is_asked_once_and_shows_what_was_seen_last(monkeypatch):
    monkeypatch.setattr(under_test, "_READ_S", 0.01)
    live = Scraped()
    depth = [1]
    live.observe(DEPTH, lambda: [(depth[0], {"voice": "a"})])
    assert live.values(DEPTH.prometheus) == {(("voice", "a"),): 1}
    depth[0] = 2
    seen = []
    scraper = threading.Thread(target=lambda: seen.append(live.values(DEPTH.prometheus)))
    scraper.start()
    scraper.join()  # the loop is busy: with this
    assert seen == [{(("voice", "a"),): 1}]
    assert live.values(DEPTH.prometheus) == {(("voice", "a"),): 2}
    await live.flush()


def test_collectors_get_the_same_buckets():
    reader = InMemoryMetricReader()
    live = LiveMetrics(MeterProvider(metric_readers=[reader], shutdown_on_exit=False))
    live.histogram(LATENCY).record(0.3, {"kind": "text"})
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert metric.name == LATENCY.name
    assert isinstance(point, HistogramDataPoint)
    assert tuple(point.explicit_bounds) == LATENCY_S


def test_exemplars_keep_the_last_of_each_bucket_and_none_of_spans_that_were_not_sampled(live):
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    first, last = tracer.start_span("first"), tracer.start_span("last")
    unsampled = NonRecordingSpan(SpanContext(1, 2, is_remote=False))
    latency, turns = live.histogram(LATENCY), live.counter(TURNS)
    for span in (first, last, unsampled, None):
        latency.record(0.12, span=span)
        turns.add(1, {"outcome": "failed"}, span)
    latency.record(3.0, span=first)
    told = {
        (sample.name, sample.labels.get("le")): (sample.exemplar.labels["trace_id"], sample.exemplar.value)
        for sample in live.samples()
        if sample.exemplar is not None
    }
    assert told == {
        (f"{LATENCY.prometheus}_bucket", "0.15"): (trace_id_of(last), 0.12),
        (f"{LATENCY.prometheus}_bucket", "3.0"): (trace_id_of(first), 3.0),
        (TURNS.prometheus, None): (trace_id_of(last), 1),
    }


@pytest.mark.parametrize(
    ("chosen", "kept"), [("", 1), ("trace_based", 1), ("always_on", 2), ("always_off", 0)]
)
def test_exemplars_are_filtered_as_the_environment_says(monkeypatch, chosen, kept):
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", chosen)
    reader = InMemoryMetricReader()
    provider = make_provider([reader])
    measured = LiveMetrics(provider)
    latency = measured.histogram(LATENCY)
    latency.record(0.12, span=TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("turn"))
    latency.record(3.0)
    data: Any = reader.get_metrics_data()
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert len(point.exemplars) == kept
    provider.shutdown()
