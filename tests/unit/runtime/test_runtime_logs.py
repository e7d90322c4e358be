"""Logs: one JSON object a line, from us and from libraries alike."""

import asyncio
import errno
import io
import json
import logging
import sys

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
    logs.get_logger("m").warning("turn refused", reason="OVERLOADED", ttfa_ms=0, unpriced=[], cost_usd=0.0)
    (line,) = capsys.readouterr().err.splitlines()
    assert "reason=OVERLOADED" in line
    assert not {"ttfa_ms", "unpriced", "cost_usd"} & set(line.replace("=", " ").split())


class Nasty:
    """A value whose own code fails."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


def test_no_field_loses_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("tts", level="info", fmt="json")
    circle: list[object] = []
    circle.append(circle)
    logs.get_logger("m").info(
        "odd",
        number=float("nan"),
        nasty=Nasty(),
        circle=circle,
        keys={(1, 2): {3}, "deep": {"inf": float("inf")}},
        lone="\ud800",
        data=b"\x00",
    )
    (line,) = lines(capsys)
    assert (line["event"], line["number"], line["lone"], line["data"]) == ("odd", "nan", "\ud800", "b'\\x00'")
    assert line["nasty"] == "<Nasty whose repr raised ZeroDivisionError>"
    assert line["keys"] == {"(1, 2)": [3], "deep": {"inf": "inf"}}


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_control_characters_end_no_line_and_move_no_cursor(
    capsys: pytest.CaptureFixture[str], fmt: str
) -> None:
    logs.configure("tts", level="info", fmt=fmt)
    logs.get_logger("m").info("said", name="a\nb\x1b[2Jc\u202ed\x85")
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert not {"\x1b[2J", "\u202e", "\x85"} & {
        part for part in ("\x1b[2J", "\u202e", "\x85") if part in written
    }


def test_without_a_terminal_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("tts", level="info", fmt="auto")
    logs.get_logger("m").info("said")
    assert lines(capsys)[0]["event"] == "said"


def test_a_line_with_a_trace_has_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("tts", level="info", fmt="json", trace_url="http://host/trace/{trace_id}")
    logs.get_logger("m").info("of a turn", trace_id="ab")
    logs.get_logger("m").info("of none")
    first, second = lines(capsys)
    assert first["trace_url"] == "http://host/trace/ab"
    assert "trace_url" not in second


async def test_lines_of_a_call_say_its_turn_in_all_its_tasks_and_no_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("tts", level="info", fmt="json")
    log = logs.get_logger("m")

    async def task(name: str) -> None:
        log.info(name)

    logs.note(turn_id="nobody's")
    with logs.about(trace_id="ab"):
        early = asyncio.create_task(task("begun before the turn was known"))
        logs.note(turn_id="t", trace_id="")
    await asyncio.gather(early, task("outside"))
    first, second = sorted(lines(capsys), key=lambda line: str(line["event"]))
    assert (first["turn_id"], first["trace_id"]) == ("t", "ab")
    assert not {"turn_id", "trace_id"} & set(second)


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_a_traceback_shows_no_variable(capsys: pytest.CaptureFixture[str], fmt: str) -> None:
    def fail(number: int) -> None:
        key = f"sk-of-somebody-{number}"
        raise ZeroDivisionError(len(key))

    logs.configure("tts", level="info", fmt=fmt)
    try:
        fail(17)
    except ZeroDivisionError:
        logs.get_logger("m").exception("failed")
    text = capsys.readouterr().err
    assert "in fail" in text
    assert "ZeroDivisionError: 17" in text
    assert "sk-of-somebody-17" not in text


class Disk(io.StringIO):
    """A standard error that may be full, or read by nobody."""

    fault: int = 0
    tried: int = 0

    def write(self, text: str) -> int:
        self.tried += 1
        if self.fault:
            raise OSError(self.fault, "cannot be written")
        return super().write(text)


@pytest.mark.parametrize(("fault", "comes_back"), [(errno.ENOSPC, True), (errno.EPIPE, False)])
def test_a_disk_that_has_room_again_is_written_to_again(
    monkeypatch: pytest.MonkeyPatch, fault: int, *, comes_back: bool
) -> None:
    disk, now_s = Disk(), [0.0]
    monkeypatch.setattr(sys, "stderr", disk)
    stream = logs.StandardError(lambda: now_s[0])
    stream.write("one\n")
    disk.fault = fault
    for _ in range(5):
        stream.write("lost\n")
    assert disk.tried == 2, "it is left alone for a while"
    assert sys.stderr is not disk, "Python flushes it at the exit"
    now_s[0] = 2.0
    stream.write("still full\n")
    disk.fault, now_s[0] = 0, 4.0
    stream.write("two\n")
    assert disk.getvalue() == ("one\ntwo\n" if comes_back else "one\n")
    assert (sys.stderr is disk) is comes_back
    assert stream.nowhere is not None
    stream.nowhere.close()
