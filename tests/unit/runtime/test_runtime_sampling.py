"""Which traces are recorded: what the environment may say, and what it may not."""

import re

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link

from voicemesh.runtime import telemetry
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.sampling import head_sampler
from voicemesh.runtime.telemetry import Telemetry

RECORDED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LEFT_OUT = RECORDED[:-1] + "0"


@pytest.mark.parametrize(
    ("variables", "alone", "below_recorded", "below_left_out"),
    [
        ({}, True, True, False),
        ({"OTEL_TRACES_SAMPLER": ""}, True, True, False),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, True, True, True),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, False, False, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, False, True, False),
        ({"OTEL_TRACES_SAMPLER": " ParentBased_TraceIdRatio "}, True, True, False),
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
            False,
            True,
            False,
        ),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1"}, True, True, True),
        ({"OTEL_TRACES_SAMPLER_ARG": "nonsense that no sampler asks for"}, True, True, False),
    ],
)
def test_a_sampler_by_its_name(
    variables: dict[str, str], alone: bool, below_recorded: bool, below_left_out: bool
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=head_sampler(variables), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces = Telemetry("test", provider)
    for traceparent, recorded in (("", alone), (RECORDED, below_recorded), (LEFT_OUT, below_left_out)):
        root = traces.root_span("turn", traceparent, {})
        child = traces.client_span("voicemesh.llm.v1.LlmService/Generate", root)
        assert (root.is_recording(), child.is_recording()) == (recorded, recorded)
        # Whether or not it is recorded, the trace goes on, with its flag.
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", telemetry.inject(child)["traceparent"])
        assert telemetry.trace_id_of(child) == telemetry.trace_id_of(root)
        if traceparent:
            assert telemetry.trace_id_of(root) == traceparent.split("-")[1]
        child.end()
        root.end()
    assert len(exporter.get_finished_spans()) == 2 * (alone + below_recorded + below_left_out)
    provider.shutdown()


@pytest.mark.parametrize("sampler", ["parentbased_traceidratio", "traceidratio", "parentbased_always_off"])
def test_what_is_linked_with_a_trace_that_is_recorded_is_recorded(sampler: str) -> None:
    variables = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": "0"}
    provider = TracerProvider(sampler=head_sampler(variables), shutdown_on_exit=False)
    traces = Telemetry("test", provider)
    recorded, left_out = (Link(telemetry.context_of(text)) for text in (RECORDED, LEFT_OUT))
    assert traces.linked_span("voicemesh.tts.batch", [left_out, recorded]).is_recording()
    assert not traces.linked_span("voicemesh.tts.batch", [left_out]).is_recording()
    assert not traces.linked_span("voicemesh.tts.batch", []).is_recording()
    provider.shutdown()


def test_a_share_is_the_same_one_in_every_process() -> None:
    variables = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}
    samplers = [head_sampler(variables) for _ in range(2)]
    decisions = [
        [sampler.should_sample(None, number << 56 | number, "turn").decision for number in range(256)]
        for sampler in samplers
    ]
    assert decisions[0] == decisions[1]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"OTEL_TRACES_SAMPLER": "sometimes"},
            "OTEL_TRACES_SAMPLER: there is no sampler 'sometimes'; there are",
        ),
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER: there is no sampler"),
        *(
            (
                {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": wrong},
                f"OTEL_TRACES_SAMPLER_ARG: must be the share of traces to record, 0 to 1, not {wrong!r}",
            )
            for wrong in ("1%", "-0.1", "1.01", "nan", "inf", "half")
        ),
    ],
)
def test_what_cannot_be_is_named(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        head_sampler(variables)


def test_a_wrong_sampler_ends_the_process_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "sometimes")
    with pytest.raises(SettingsError, match="OTEL_TRACES_SAMPLER"):
        Telemetry("test")
