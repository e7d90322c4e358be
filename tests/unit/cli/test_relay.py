"""What people see of what the processes write."""

import json
from datetime import UTC, datetime

from voicemesh.cli.logs import LogLine, parse
from voicemesh.cli.up import Relay

NOW = datetime(2026, 11, 21, 9, 30, 1, 5_000, tzinfo=UTC)


def relay_of(*, verbose: bool = False, as_records: bool = False) -> Relay:
    return Relay(verbose=verbose, as_records=as_records, now=lambda: NOW)


def test_what_several_say_while_they_start_is_printed_once(capsys):
    relay = relay_of()
    assert all(relay(LogLine(name, "", "VOICEMESH_LOG_LEVEL: no")) for name in ("tts", "llm", "cache"))
    assert capsys.readouterr().err == "09:30:01.005 tts     | VOICEMESH_LOG_LEVEL: no\n"
    relay.starting = False
    assert all(relay(LogLine(name, "warning", "peer lost")) for name in ("tts", "tts"))
    assert capsys.readouterr().err == "09:30:01.005 tts     | warning: peer lost\n" * 2


def test_what_is_of_no_matter_is_not_printed(capsys):
    relay = relay_of()
    assert not relay(LogLine("tts", "info", "listening"))
    relay.quiet = True
    assert not relay(LogLine("tts", "warning", "peer lost"))
    assert relay(LogLine("tts", "error", "cannot go on"))
    assert capsys.readouterr().err == "09:30:01.005 tts     | error: cannot go on\n"


def test_everything_is_printed_where_it_is_asked_for(capsys):
    relay = relay_of(verbose=True)
    assert relay(LogLine("tts", "info", "listening"))
    assert relay(LogLine("llm", "info", "listening"))
    assert (
        capsys.readouterr().err
        == "09:30:01.005 tts     | info: listening\n09:30:01.005 llm     | info: listening\n"
    )


def test_a_line_has_the_time_that_its_process_gave_it(capsys):
    relay_of()(parse("tts", '{"event": "x", "level": "error", "timestamp": "2026-11-21T08:00:00.123456Z"}'))
    assert capsys.readouterr().err == "08:00:00.123 tts     | error: x\n"


def test_for_programs_records_stay_as_they_are_and_other_lines_become_some(capsys):
    relay = relay_of(as_records=True)
    record = '{"event": "x", "level": "error", "odd": [1,  2]}'
    relay(parse("tts", record))
    relay(parse("tts", "Fatal Python error"))
    first, second = capsys.readouterr().err.splitlines()
    assert first == record
    assert json.loads(second) == {
        "event": "Fatal Python error",
        "level": "warning",
        "timestamp": "2026-11-21T09:30:01.005000Z",
        "service": "tts",
    }
