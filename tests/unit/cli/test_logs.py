"""Log lines of the processes, made legible."""

import json
from datetime import UTC, datetime

import pytest

from voicemesh.cli.logs import as_record, parse


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


def test_the_line_of_a_refused_turn_is_short():
    fields = {"outcome": "refused", "reason": "OVERLOADED", "ttfa_ms": 0, "stages_ms": {}, "cost_usd": 0.0}
    more = {"unpriced": [], "cache_hit": False, "reply_cache": "off", "tenant": "", "others": 7}
    line = json.dumps({"event": "turn refused", "level": "warning", **fields, **more})
    read = parse("gateway", line)
    assert read.text == "turn refused  outcome=refused  reason=OVERLOADED  others=7"
    assert as_record(read, datetime.now(UTC)) == line
    ended = parse("gateway", line.replace("turn refused", "turn ended"))
    assert "ttfa_ms=0" in ended.text
