"""Log lines of the processes, made legible."""

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
