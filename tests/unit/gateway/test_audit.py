from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import TracerProvider

from gateway.audit import Audit
from gateway.chunk_events import MAX_EVENTS, add_chunk_events
from gateway.core import events as on
from gateway.core.invariant import Rule, violations
from gateway.core.report import Attribution, ChunkAccount, ChunkPath, TurnReport
from tests.unit.gateway.engine import Script
from voicemesh.runtime import trace_names as names
from voicemesh.stages import STAGES, Stage


class Log:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def error(self, event: str, **fields: object) -> None:
        self.lines.append({"event": event, **fields})


@pytest.fixture
def report() -> TurnReport:
    script = Script(keep_history=False, reply_cache=False, audio_cache=False)
    script.start()
    script.on(on.TextArrived("Because.", connect_us=50_000, ttft_us=40_000), after_ms=100)
    script.say(0, "Because.", 0)
    script.speak(0, 20)
    script.on(on.FirstFrameSent())
    script.on(on.TextEnded())
    script.on(on.ChunksEnded())
    script.on(on.ChunkSpoken(0))
    # The script's engine says that it took 2.5 ms, and no time passed.
    return replace(script.report, attribution=replace(script.report.attribution, excess_us=0))


def changed(report: TurnReport, **changes: object) -> TurnReport:
    return replace(report, attribution=replace(report.attribution, **changes))  # type: ignore[arg-type] # a test's shorthand


def with_stage(report: TurnReport, stage: Stage, duration_us: int) -> TurnReport:
    return changed(report, stages={**report.attribution.stages, stage: duration_us})


def with_chunk(report: TurnReport, **changes: object) -> TurnReport:
    return replace(report, chunks=(replace(report.chunks[0], **changes),))  # type: ignore[arg-type] # as above


def test_an_ordinary_turn_breaks_no_rule(report: TurnReport) -> None:
    assert violations(report) == ()


def test_each_rule_finds_what_it_is_for(report: TurnReport) -> None:
    transport_us = report.attribution.stages[Stage.TRANSPORT]
    path = ChunkPath(began_us=0, length_us=9_000, stages=dict.fromkeys(STAGES, 0), hops={})
    broken = {
        Rule.SUM: with_stage(report, Stage.GATEWAY, 50_000),
        Rule.OVERLAP: with_stage(report, Stage.LLM_TEXT, -2_000),
        Rule.UNATTRIBUTED: changed(report, unattributed_us=report.attribution.ttfa_us // 50),
        Rule.EXCESS: changed(report, excess_us=report.attribution.ttfa_us // 50),
        Rule.HOPS: changed(report, hops={"llm": transport_us + 2_000}),
        Rule.MISSING: replace(report, attribution=Attribution()),
        Rule.CHUNK_SUM: with_chunk(report, path=path),
        Rule.CHUNK_UNATTRIBUTED: with_chunk(report, path=replace(path, unattributed_us=9_000)),
        Rule.UNDERRUNS: replace(report, underruns=1, underrun_us=5_000),
    }
    assert set(broken) == set(Rule)
    for rule, turn in broken.items():
        assert rule in violations(turn), rule


def test_an_interrupt_before_the_first_frame_was_sent_is_no_violation(report: TurnReport) -> None:
    assert violations(replace(report, outcome="interrupted", attribution=Attribution())) == ()


def test_a_violation_is_counted_told_and_logged(report: TurnReport) -> None:
    audit, log = Audit(1.0), Log()
    told: list[Rule] = []
    audit.on_violation = told.append
    assert audit.check(report, log) == ()
    assert audit.check(changed(report, excess_us=10_000), log) == (Rule.EXCESS,)
    assert audit.checked == 2
    assert audit.broken == {Rule.EXCESS: 1}
    assert told == [Rule.EXCESS]
    (line,) = log.lines
    assert line["event"] == "attribution violated"
    assert line["rule"] == "excess"
    assert line["excess_ms"] == 10.0


def test_a_share_of_the_turns_is_checked(report: TurnReport) -> None:
    chances = iter([0.1, 0.2, 0.5, 0.9])
    audit = Audit(0.2, lambda: next(chances))
    broken = changed(report, excess_us=10_000)
    assert [bool(audit.check(broken, Log())) for _ in range(4)] == [True, False, False, False]
    assert audit.checked == 1
    assert Audit(0.0).check(broken, Log()) == ()


def test_the_turns_span_has_an_event_for_each_chunk_at_its_first_frame(report: TurnReport) -> None:
    late = ChunkAccount(1, "Two.", "clause", 3_000, "miss", first_frame_us=250_000, slack_us=-40_000)
    late.underruns, late.underrun_us, late.underrun_stages = 1, 40_000, {Stage.TTS_QUEUE: 40_000}
    span = TracerProvider().get_tracer("test").start_span("turn")
    add_chunk_events(span, replace(report, chunks=(*report.chunks, late), head_start_us=1_000))
    first, second = span.events  # type: ignore[attr-defined] # a span of the SDK
    assert first.name == second.name == names.CHUNK
    assert "voicemesh.chunk.slack_ms" not in first.attributes
    assert "voicemesh.chunk.underrun_ms" not in first.attributes
    assert second.timestamp == span.start_time + 251_000_000  # type: ignore[attr-defined] # as above
    assert dict(second.attributes) == {
        "voicemesh.chunk_index": 1,
        "voicemesh.chunk.reason": "clause",
        "voicemesh.chunk.held_ms": 3.0,
        "voicemesh.chunk.cache": "miss",
        "voicemesh.chunk.audio_ms": 0.0,
        "voicemesh.chunk.queue_ms": 0.0,
        "voicemesh.chunk.synthesis_ms": 0.0,
        "voicemesh.chunk.first_frame_ms": 250.0,
        "voicemesh.chunk.slack_ms": -40.0,
        "voicemesh.chunk.underrun_ms": 40.0,
        "voicemesh.chunk.underrun_cause": "tts_queue",
    }


def test_of_many_chunks_the_first_ones_are_told_and_those_with_underruns(report: TurnReport) -> None:
    chunks = tuple(ChunkAccount(index, "Word.", "sentence", 0) for index in range(100))
    chunks[90].underruns = 1
    span = TracerProvider().get_tracer("test").start_span("turn")
    add_chunk_events(span, replace(report, chunks=chunks))
    told = [event.attributes["voicemesh.chunk_index"] for event in span.events]  # type: ignore[attr-defined] # as above
    assert told == [*range(MAX_EVENTS - 1), 90]
