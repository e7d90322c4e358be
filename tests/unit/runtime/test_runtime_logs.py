"""Logs: one JSON object a line, from us and from libraries alike."""

import json
import logging

import pytest
from opentelemetry.sdk.trace import TracerProvider

from voicemesh.runtime import logs
from voicemesh.runtime.telemetry import Telemetry, trace_id_of


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """Read what was logged."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_says_who_when_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("tts", level="info", fmt="json")
    logs.get_logger("a.module").info("listening", port=1)
    (line,) = lines(capsys)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "event": "listening",
        "level": "info",
        "service": "tts",
        "module": "a.module",
        "port": 1,
    }


def test_a_line_of_a_turn_has_its_trace_id(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("tts", level="info", fmt="json")
    span = Telemetry("test", TracerProvider(shutdown_on_exit=False)).server_span("Synthesize", None)
    logs.with_span(logs.get_logger("m"), span, turn_id="t").warning("slow")
    (line,) = lines(capsys)
    assert (line["trace_id"], line["turn_id"]) == (trace_id_of(span), "t")


def test_less_severe_lines_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("tts", level="warning", fmt="json")
    logger = logs.get_logger("m")
    logger.info("no")
    logger.warning("yes")
    assert [line["event"] for line in lines(capsys)] == ["yes"]


def test_a_traceback_is_one_field(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("tts", level="info", fmt="json")
    logs.get_logger("m").error("failed", exc_info=ZeroDivisionError("why\nso"))
    (line,) = lines(capsys)
    assert line["exception"] == "ZeroDivisionError: why\nso"


def test_libraries_log_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("tts", level="info", fmt="json")
    logging.getLogger("a.library").info("chatter")
    logging.getLogger("a.library").warning("careful with %s", "this")
    (line,) = lines(capsys)
    assert (line["event"], line["module"]) == ("careful with this", "a.library")
    assert (line["service"], line["level"]) == ("tts", "warning")


def test_people_get_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("tts", level="info", fmt="console")
    logs.get_logger("m").info("listening", port=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert "listening" in line
    assert "port=1" in line
    assert "{" not in line
