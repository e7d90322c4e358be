"""Log lines of the processes, made legible."""

import json

import pytest

from voicemesh.cli.logs import parse


def test_a_record():
    line = parse(
        "tts", '{"event": "listening", "level": "info", "service": "tts", "port": 7, "timestamp": "x"}'
    )
    assert (line.level, line.text) == ("info", "listening  port=7")
    assert not line.is_loud


def test_a_record_with_an_exception():
    line = parse("tts", '{"event": "call failed", "level": "error", "exception": "Traceback…"}')
    assert line.text == "call failed\nTraceback…"
    assert line.is_loud


def test_what_is_no_record_is_kept_and_shown():
    for text in ("voicemesh tts: wrong settings", "{broken", '{"no": "event"}', "{}", "[1]"):
        line = parse("tts", text)
        assert line.text == text
        assert line.is_loud


def test_a_warning_is_shown():
    assert parse("tts", '{"event": "x", "level": "warning"}').is_loud


@pytest.mark.parametrize("control", ["\x1b[2J", "\x9b31m", "\x07", "\r", "\u202e", "\x7f", "\u2028"])
@pytest.mark.parametrize(
    "line",
    [
        "no record {}",
        '{{"event": "turn {}", "level": "warning"}}',
        '{{"event": "e", "level": "{}"}}',
        '{{"event": "e", "text": "{}"}}',
        '{{"event": "e", "fields": ["{}"]}}',
        '{{"event": "e", "{}": 1}}',
        '{{"event": "e", "exception": "Traceback\\n  {}"}}',
    ],
)
def test_no_line_of_a_process_moves_a_terminals_cursor(line: str, control: str) -> None:
    read = parse("llm", line.format(json.dumps(control)[1:-1] if line.startswith("{") else control))
    assert all(each.isprintable() for each in (read.level, *read.text.split("\n")))
