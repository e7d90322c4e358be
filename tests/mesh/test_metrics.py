"""Metrics of a whole mesh, as Prometheus and a collector get them."""

import asyncio
from dataclasses import dataclass, field

import pytest
from prometheus_client.samples import Sample

from gateway import instruments
from tests.support.http_get import get
from tests.support.mesh import SERVICES, running_mesh
from tests.support.otlp import OtlpReceiver, otlp_receiver
from tests.support.scraped import OPENMETRICS, samples_of, values_of
from voicemesh.client import SpeechOptions, TurnReport, VoiceMesh
from voicemesh.runtime.calls import CLIENT, SERVER

TURNS = 4
OPTIONS = SpeechOptions(max_lead_ms=0)
LISTEN = {f"VOICEMESH_{name.upper()}_METRICS_LISTEN": f"unix:{{folder}}/{name}-metrics" for name in SERVICES}


@dataclass
class Seen:
    """What was to be seen of a mesh that spoke some turns."""

    receiver: OtlpReceiver
    reports: list[TurnReport] = field(default_factory=list)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    by_http: tuple[int, bytes] = (0, b"")


@pytest.fixture(scope="module")
def seen() -> Seen:
    """Speak some turns, scrape every process, stop the mesh so that all is exported."""

    async def run() -> Seen:
        async with otlp_receiver("127.0.0.1:0") as receiver:
            found = Seen(receiver)
            async with running_mesh(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, **LISTEN) as mesh:
                async with VoiceMesh(mesh.address("gateway")) as client:
                    for number in range(TURNS):
                        # The last one says again what the one before it said.
                        question = f"Tell me about harbour number {min(number, TURNS - 2)}."
                        found.reports.append((await client.ask(question, speech=OPTIONS).collect()).report)
                for name in SERVICES:
                    address = f"unix:{mesh.folder}/{name}-metrics"
                    _, _, text = await asyncio.to_thread(get, address, "/metrics", Accept=OPENMETRICS)
                    found.samples[name] = samples_of(text)
                address = f"unix:{mesh.folder}/http.sock"
                status, _, text = await asyncio.to_thread(get, address, "/metrics", Accept=OPENMETRICS)
                found.by_http = status, text
            return found

    return asyncio.run(run())


def test_every_turn_is_in_the_gateways_metrics(seen: Seen) -> None:
    samples = seen.samples["gateway"]
    turns = values_of(samples, instruments.TURNS.prometheus)
    assert turns == {(("kind", "prompt"), ("outcome", "completed")): TURNS}
    waited = values_of(samples, f"{instruments.FIRST_AUDIO.prometheus}_sum")
    # The callers' figures have their own hop on top.
    assert 0 < sum(waited.values()) <= sum(report.ttfa_ms for report in seen.reports) / 1000
    lookups = values_of(samples, instruments.LOOKUPS.prometheus)
    assert lookups[("kind", "reply"), ("result", "memory")] == 1
    assert values_of(samples, instruments.ACTIVE.prometheus) == {(): 0}


def test_each_call_is_measured_at_both_ends(seen: Seen) -> None:
    called = values_of(seen.samples["gateway"], f"{CLIENT.prometheus}_count")
    methods = {dict(labels)["rpc_method"] for labels in called}
    for name in ("llm", "chunker", "tts", "cache"):
        served = values_of(seen.samples[name], f"{SERVER.prometheus}_count")
        streams = {dict(labels)["rpc_method"] for labels in served} & methods
        assert streams, f"{name} served {sorted(served)}"


def test_what_was_slow_leads_to_a_trace_that_was_exported(seen: Seen) -> None:
    bucket = f"{instruments.FIRST_AUDIO.prometheus}_bucket"
    led = {
        sample.exemplar.labels["trace_id"]
        for sample in seen.samples["gateway"]
        if sample.name == bucket and sample.exemplar is not None
    }
    assert led
    assert led <= {span.trace_id for span in seen.receiver.spans}
    assert led <= {report.trace_id for report in seen.reports}


def test_the_http_port_says_the_same(seen: Seen) -> None:
    status, text = seen.by_http
    assert status == 200
    name = instruments.TURNS.prometheus
    assert values_of(samples_of(text), name) == values_of(seen.samples["gateway"], name)


def test_a_collector_is_sent_the_same_with_exemplars(seen: Seen) -> None:
    first_audio = seen.receiver.metrics["voicemesh-gateway", instruments.FIRST_AUDIO.name]
    points = first_audio.histogram.data_points
    assert sum(point.count for point in points) == TURNS
    led = {exemplar.trace_id.hex() for point in points for exemplar in point.exemplars}
    assert led
    assert led <= {report.trace_id for report in seen.reports}
    senders = {service for service, _ in seen.receiver.metrics}
    assert senders == {f"voicemesh-{name}" for name in SERVICES}


def test_no_label_holds_an_id(seen: Seen) -> None:
    ids = {getattr(report, name) for report in seen.reports for name in ("turn_id", "session_id", "trace_id")}
    for samples in seen.samples.values():
        for sample in samples:
            assert ids.isdisjoint(sample.labels.values())
