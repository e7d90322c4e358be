"""The one line of a turn: the same fields however it ended, and the table that says what they are."""

import json
import pathlib
import re

from gateway.core.report import Attribution, ChunkAccount, TurnReport
from gateway.core.values import Usage
from gateway.turn_line import EVENTS, FIELDS, fields_of, fields_of_refused
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.errors import QueueFullError
from voicemesh.runtime.status import to_status

BOUND = {"turn_id", "trace_id", "session_id", "tenant"}
DOCS = pathlib.Path(__file__).parents[3] / "docs" / "logs.md"


def report(outcome: str = "completed", **more) -> TurnReport:
    chunk = ChunkAccount(0, "t", "flush", 0, cache="memory", queue_us=2_000, synthesis_us=30_000)
    values = {
        "turn_id": "t",
        "session_id": "s",
        "outcome": outcome,
        "text": "a reply that nobody should read here",
        "ttft_us": 100_500,
        "attribution": Attribution(ttfa_us=150_000, stages={"llm_ttft": 100_500, "history": 0}),
        "leading_silence_us": 4_000,
        "total_us": 900_000,
        "audio_us": 1_200_000,
        "underruns": 1,
        "underrun_us": 70_000,
        "degraded": ("cache",),
        "degraded_why": ("late",),
        "chunks": (chunk,),
        "reply_cache": "redis",
        "usage": Usage(input_tokens=600, output_tokens=50),
        "characters": 120,
        "heard": "",
        "error": None,
        **more,
    }
    return TurnReport(**values)


def test_the_table_has_every_field_and_says_the_same():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", DOCS.read_text(), flags=re.MULTILINE)
    assert dict(rows) == dict(FIELDS)


def test_every_turn_has_every_field_and_no_other():
    wanted = set(FIELDS) - BOUND
    failed = pb.TurnReport(error=to_status(QueueFullError("full"), "0" * 32))
    for fields in (
        fields_of(report(), pb.TurnReport()),
        fields_of(report(chunks=(), usage=None), pb.TurnReport()),
        fields_of(report("failed"), failed),
        fields_of_refused("TOO_MANY_TURNS"),
    ):
        assert set(fields) == wanted
        json.dumps(fields, allow_nan=False)
    assert fields_of(report("failed"), failed)["reason"] == "QUEUE_FULL"
    assert fields_of_refused("TOO_MANY_TURNS")["outcome"] == "refused"


def test_types_do_not_change_with_the_outcome():
    ran, refused = fields_of(report(), pb.TurnReport()), fields_of_refused("X")
    for name, value in ran.items():
        if name == "reason":
            continue
        both = type(value), type(refused[name])
        assert both[0] is both[1] or set(both) == {int, float}, name


def test_what_the_fields_say():
    fields = fields_of(report(), pb.TurnReport(cost_usd=0.01))
    assert (fields["llm_latency_ms"], fields["tts_latency_ms"], fields["total_latency_ms"]) == (
        100.5,
        32,
        900,
    )
    assert (fields["llm_tokens"], fields["llm_input_tokens"], fields["llm_output_tokens"]) == (650, 600, 50)
    assert (fields["tts_chars"], fields["cache_hit"], fields["audio_cache_hits"]) == (120, True, 1)
    assert fields["stages_ms"] == {"llm_ttft": 100.5}
    unpriced = pb.TurnReport()
    unpriced.cost.unpriced.append("llm p/m")
    assert fields_of(report(), unpriced)["cost_usd"] is None


def test_words_are_in_no_field():
    assert "nobody should read" not in json.dumps(fields_of(report(), pb.TurnReport()))


def test_every_outcome_has_a_name():
    assert set(EVENTS) == {"completed", "interrupted", "failed", "refused", "discarded"}
