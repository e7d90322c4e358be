"""What the live page says should be looked at, and that its limits are those of the shipped rules."""

import pathlib
import random
import re
from typing import Any

import pytest
import yaml

from gateway.live import alerts, services
from gateway.live.series import CALLERS_FAULTS, NO_ROOM, PARTS, Series, Summary, TurnFigures
from voicemesh.runtime.clock import ManualClock

RULES = pathlib.Path(__file__).resolve().parents[3] / "deploy" / "observability" / "prometheus" / "rules"


def turn(ttfa_ms: float = 100.0, outcome: str = "completed", **more: Any) -> TurnFigures:
    parts = [0.0] * (len(PARTS) - 1) + [ttfa_ms]
    return TurnFigures(**{"outcome": outcome, "parts": parts, "total_ms": 2 * ttfa_ms, **more})


def summary_of(*turns: TurnFigures) -> Summary:
    series = Series(ManualClock(), random.Random(1))
    for each in turns:
        series.add(each)
    return series.summary(alerts.WINDOW_S)


def names(found: Any) -> list[str]:
    return [alert.name for alert in found]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([], []),
        ([turn()] * 30, []),
        ([turn(2_100)] * 19, []),  # too few to speak of a percentile
        ([turn(2_100)] * 20, ["first_audio"]),
        ([turn(total_ms=9_000)] * 20, ["turn_latency"]),
        ([turn(total_ms=9_000, audio_ms=14_000)] * 20, []),  # a player paced them
        ([turn(outcome="failed")] * 10, []),
        ([turn()] * 99 + [turn(outcome="failed")], []),
        ([turn()] * 90 + [turn(outcome="failed")], ["errors"]),
        ([turn()] * 90 + [turn(outcome="failed", reason="UNKNOWN_VOICE")] * 9, []),
        ([turn()] * 90 + [turn(outcome="refused", parts=(), reason="TOO_MANY_TURNS")] * 4, []),
        ([turn()] * 90 + [turn(outcome="refused", parts=(), reason="TOO_MANY_TURNS")] * 5, ["refused"]),
        ([turn()] * 90 + [turn(outcome="refused", parts=(), reason="INVALID_FIELD")] * 50, []),
        ([turn(audio_asked=4)] * 49, []),
        ([turn(audio_asked=4)] * 50, ["hit_rate"]),
        ([turn(audio_asked=4, audio_found=1)] * 50, []),
        ([turn(reply_asked=True)] * 200, ["hit_rate"]),
        ([turn()] * 39 + [turn(underruns=2)], []),
        ([turn()] * 38 + [turn(underruns=2)], ["underruns"]),
    ],
)
def test_alerts_of_turns(turns: list[TurnFigures], expected: list[str]) -> None:
    summary = summary_of(*turns)
    assert names(alerts.of_turns(summary, summary.counts)) == expected


def test_alerts_of_services_and_pools() -> None:
    assert names(alerts.of_peers({"llm": True, "cache": True}, "closed")) == []
    away = list(alerts.of_peers({"llm": False, "cache": False}, "open"))
    assert [(alert.name, alert.severe) for alert in away] == [("llm_away", True), ("cache_away", False)]
    assert names(alerts.of_peers({"cache": True}, "half_open")) == ["cache_breaker"]
    fine = {
        "voice": "v", "state": "ready", "fault": "", "ready": 2, "declared": 2, "breaker": "closed",
        "queued": 8,
    }  # fmt: skip
    assert names(alerts.of_pools([fine], {"v": 0})) == []
    assert names(alerts.of_pools([{**fine, "queued": 9}], {})) == ["queue_long"]
    assert names(alerts.of_pools([{**fine, "ready": 1, "queued": 0}], {"v": 3})) == [
        "replica_lost", "replicas_missing",
    ]  # fmt: skip
    assert names(alerts.of_pools([{**fine, "state": "failed"}], {})) == ["voice_failed"]
    assert names(alerts.of_pools([{**fine, "breaker": "open"}], {})) == ["engine_breaker"]
    assert names(alerts.of_cache({"redis": "away"})) == ["redis_away"]
    assert names(alerts.of_cache({"redis": "off"})) == names(alerts.of_cache(None)) == []


# ---- the same limits as in the rules ------------------------------------------------------------


def expression(kind: str, name: str) -> str:
    """Return the expression of the rule of that name, in one line; `kind` is `alert` or `record`."""
    found = [
        rule["expr"]
        for path in RULES.glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if rule.get(kind) == name
    ]
    assert len(found) == 1, f"{name} is said {len(found)} times"
    return " ".join(found[0].split())


def limits(text: str) -> list[float]:
    """Return the numbers that an expression compares with, in order."""
    return [float(number) for number in re.findall(r"(?<![=!~])(?:>=?|<)\s*([\d.]+)", text)]


def span_s(text: str) -> set[int]:
    """Return the seconds that its ranges and the recorded rules that it reads reach back."""
    unit_s = {"m": 60, "h": 3600}
    return {
        int(number) * unit_s[unit]
        for number, unit in re.findall(r"(?:\[|(?:rate|increase)(?=\d))(\d+)([mh])\b", text)
    }


@pytest.mark.parametrize(
    ("rule", "expected", "window_s"),
    [
        ("VoicemeshErrorRateHigh", [alerts.ERROR_RATE, alerts.FEW_TURNS], alerts.WINDOW_S),
        ("VoicemeshTurnsRefused", [alerts.REFUSED_RATE, alerts.FEW_REFUSED], alerts.WINDOW_S),
        ("VoicemeshFirstAudioLate", [alerts.TTFA_P95_S, alerts.FEW_TURNS], alerts.WINDOW_S),
        ("VoicemeshTurnLatencyHigh", [alerts.TOTAL_P95_S, alerts.FEW_TURNS], alerts.WINDOW_S),
        ("VoicemeshUnderruns", [alerts.UNDERRUNS_A_TURN, alerts.FEW_TURNS], alerts.WINDOW_S),
        ("VoicemeshCacheHitRateLow", [alerts.HIT_RATE, alerts.FEW_LOOKUPS], alerts.HIT_WINDOW_S),
        ("VoicemeshReplicaLost", [0], services.LATELY_S),
        ("VoicemeshQueueLong", [alerts.WAITING_A_REPLICA], None),
    ],
)
def test_the_limits_are_those_of_the_rules(rule: str, expected: list[float], window_s: float | None) -> None:
    said = expression("alert", rule)
    assert limits(said) == expected
    assert span_s(said) == ({window_s} if window_s is not None else set())


def test_whose_fault_it_was_is_said_by_the_same_reasons() -> None:
    errors = expression("record", "namespace:voicemesh_turn_errors:ratio_rate10m")
    assert set(re.findall(r'error_type!~"([^"]*)"', errors)[0].split("|")) == CALLERS_FAULTS
    refused = expression("alert", "VoicemeshTurnsRefused")
    assert set(re.findall(r'error_type=~"([^"]*)"', refused)[0].split("|")) == NO_ROOM
