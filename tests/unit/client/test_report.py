"""Reports: the caller's times, sums that hold, and a JSON form that never changes shape."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemesh.client import TurnReport, VoiceMeshError
from voicemesh.client.report import Observed, as_observed, report_from_proto
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2
from voicemesh.stages import STAGES, Stage

TURN_FIELDS = [
    "turn_id", "trace_id", "began_unix_us", "prompt", "text", "outcome", "error", "ttft_ms", "ttfa_ms",
    "ttfa_audible_ms", "total_ms", "audio_ms", "underruns", "underrun_ms", "degraded", "stages",
    "unattributed_ms", "chunks", "reply_cache", "tokens", "characters", "engine_ms", "cost_usd", "cost",
    "model", "prompt_variant", "variants", "leading_silence_ms", "hops", "underrun_stages", "excess_ms",
    "attribution_violations",
    "degraded_why", "failovers",
]  # fmt: skip
SEEN = Observed(
    prompt="p",
    text="seen",
    ttft_us=None,
    ttfa_us=None,
    total_us=0,
    audio_us=0,
    underruns=0,
    underrun_us=0,
    first_frame_us={},
)


def proto(**fields: Any) -> gateway_pb2.TurnReport:
    message = gateway_pb2.TurnReport(turn_id="t", outcome=gateway_pb2.TURN_OUTCOME_COMPLETED)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def sum_of(report: TurnReport) -> float:
    return sum(report.stages.values()) + report.unattributed_ms


def test_the_names_of_stages_are_those_of_the_contract():
    prefix = "STAGE_"
    contract = [name.removeprefix(prefix).lower() for name, number in common_pb2.Stage.items() if number > 0]
    assert contract == [stage.value for stage in STAGES]


def test_the_json_form_has_every_field_in_order():
    turn = TurnReport(turn_id="t").to_json()
    assert list(turn) == TURN_FIELDS
    assert list(turn["stages"]) == [stage.value for stage in STAGES]
    assert turn["tokens"] == {"input": 0, "output": 0, "cached": 0}
    assert json.loads(json.dumps(turn)) == turn


def test_a_chunk_in_json():
    message = proto(ttfa_us=5_000)
    message.chunks.add(
        index=1,
        text="One.",
        reason=common_pb2.CHUNK_REASON_SENTENCE,
        held_us=1_250,
        cache=gateway_pb2.CACHE_OUTCOME_REDIS,
        first_frame_us=5_000,
        audio_us=700_000,
        queue_us=1_000,
        synthesis_us=2_000,
        stages=[common_pb2.StageDuration(stage=common_pb2.STAGE_LLM_TEXT, duration_us=3_000)],
        paced_us=400,
        unattributed_us=100,
        hops=[gateway_pb2.HopDuration(hop="tts", duration_us=70)],
        path_began_us=1_500,
        path_us=3_500,
        slack_us=-2_500,
        underruns=1,
        underrun_us=2_500,
        underrun_cause=common_pb2.STAGE_LLM_TEXT,
        underrun_list=[
            gateway_pb2.Underrun(at_us=5_000, duration_us=2_500, cause=common_pb2.STAGE_LLM_TEXT),
        ],
    )
    message.chunks.add(index=2)
    first, second = report_from_proto(message).to_json()["chunks"]
    assert first == {
        "index": 1,
        "text": "One.",
        "reason": "sentence",
        "held_ms": 1.25,
        "cache": "redis",
        "first_frame_ms": 5.0,
        "audio_ms": 700.0,
        "queue_ms": 1.0,
        "synthesis_ms": 2.0,
        "stages": {stage.value: 3.0 if stage == "llm_text" else 0.0 for stage in STAGES},
        "paced_ms": 0.4,
        "unattributed_ms": 0.1,
        "hops": {"tts": 0.07},
        "path_began_ms": 1.5,
        "path_ms": 3.5,
        "slack_ms": -2.5,
        "underruns": 1,
        "underrun_ms": 2.5,
        "underrun_cause": "llm_text",
        "underrun_list": [{"at_ms": 5.0, "duration_ms": 2.5, "cause": "llm_text"}],
    }
    assert second["cache"] == "miss"
    assert second["slack_ms"] is second["underrun_cause"] is None


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        (gateway_pb2.CACHE_OUTCOME_UNSPECIFIED, "off"),
        (gateway_pb2.CACHE_OUTCOME_MISS, "miss"),
        (gateway_pb2.CACHE_OUTCOME_MEMORY, "hit"),
        (gateway_pb2.CACHE_OUTCOME_REDIS, "hit"),
        (gateway_pb2.CACHE_OUTCOME_SHARED, "hit"),
    ],
)
def test_where_the_reply_came_from(outcome, name):
    assert report_from_proto(proto(reply_cache=outcome)).reply_cache == name


def test_a_failure_in_json():
    error = VoiceMeshError("NOT_FOUND", "UNKNOWN_VOICE", "no such voice", field="speech.voice")
    turn = replace(TurnReport(turn_id="t"), error=error).to_json()
    assert turn["error"] == {
        "code": "NOT_FOUND",
        "reason": "UNKNOWN_VOICE",
        "limit": "",
        "message": "no such voice",
    }
    assert turn["outcome"] == "failed"


def test_what_was_given_up_and_how_it_ended():
    message = proto(outcome=gateway_pb2.TURN_OUTCOME_INTERRUPTED)
    message.degraded.extend([gateway_pb2.DEGRADATION_CACHE, gateway_pb2.DEGRADATION_LOCAL_SPEECH])
    report = report_from_proto(message)
    assert report.outcome == "interrupted"
    assert report.degraded == ("cache", "local_speech")


def test_stages_that_a_newer_mesh_adds_do_not_break_older_callers():
    message = proto(ttfa_us=1_000)
    message.stages.add(stage=99, duration_us=1_000)
    assert list(report_from_proto(message).stages) == list(STAGES)


def test_silence_at_the_beginning_is_not_heard():
    report = report_from_proto(proto(ttfa_us=5_000, leading_silence_us=30_000))
    assert report.ttfa_audible_ms == 35
    assert as_observed(report, replace(SEEN, ttfa_us=6_000)).ttfa_audible_ms == 36
    assert as_observed(report, SEEN).ttfa_audible_ms == 0


def test_the_gateways_text_goes_before_what_the_caller_saw():
    assert as_observed(report_from_proto(proto(text="whole")), SEEN).text == "whole"
    assert as_observed(report_from_proto(proto()), SEEN).text == "seen"


def test_audio_whose_length_the_caller_cannot_tell():
    report = report_from_proto(proto(audio_us=700_000))
    assert as_observed(report, replace(SEEN, audio_us=None)).audio_ms == 700
    assert as_observed(report, replace(SEEN, audio_us=600_000)).audio_ms == 600


@given(
    durations=st.lists(st.integers(0, 10**7), min_size=len(STAGES), max_size=len(STAGES)),
    unattributed_us=st.integers(-1000, 1000),
    way_us=st.integers(-1000, 10**6),
    heard=st.booleans(),
)
def test_the_stages_add_up_to_what_the_caller_heard(durations, unattributed_us, way_us, heard):
    ttfa_us = max(sum(durations) + unattributed_us, 0)
    unattributed_us = ttfa_us - sum(durations)
    message = proto(ttfa_us=ttfa_us, unattributed_us=unattributed_us)
    for number, duration_us in enumerate(durations, start=1):
        message.stages.add(stage=number, duration_us=duration_us)
    report = report_from_proto(message)
    assert sum_of(report) == pytest.approx(report.ttfa_ms, abs=1e-6)
    seen_us = max(ttfa_us + way_us, 0) if heard else None
    observed = as_observed(report, replace(SEEN, ttfa_us=seen_us))
    assert sum_of(observed) == pytest.approx(observed.ttfa_ms, abs=1e-6)
    assert observed.ttfa_ms == (seen_us or 0) / 1000
    assert all(duration >= 0 for duration in observed.stages.values())
    in_json = observed.to_json()
    total = sum(in_json["stages"].values()) + in_json["unattributed_ms"]
    assert total == pytest.approx(in_json["ttfa_ms"], abs=0.001)


def test_a_report_that_was_lost_attributes_nothing():
    observed = as_observed(TurnReport(turn_id="t"), replace(SEEN, ttfa_us=7_000))
    assert observed.unattributed_ms == observed.ttfa_ms == 7
    assert set(observed.stages) == set(Stage)
