"""What people see of what the processes write."""

from voicemesh.cli.logs import LogLine
from voicemesh.cli.up import Relay


def test_what_several_say_while_they_start_is_printed_once(capsys):
    relay = Relay(verbose=False)
    assert all(relay(LogLine(name, "", "VOICEMESH_LOG_LEVEL: no")) for name in ("tts", "llm", "cache"))
    assert capsys.readouterr().err == "tts     | VOICEMESH_LOG_LEVEL: no\n"
    relay.starting = False
    assert all(relay(LogLine(name, "warning", "peer lost")) for name in ("tts", "tts"))
    assert capsys.readouterr().err == "tts     | warning: peer lost\n" * 2


def test_what_is_of_no_matter_is_not_printed(capsys):
    relay = Relay(verbose=False)
    assert not relay(LogLine("tts", "info", "listening"))
    relay.quiet = True
    assert not relay(LogLine("tts", "warning", "peer lost"))
    assert relay(LogLine("tts", "error", "cannot go on"))
    assert capsys.readouterr().err == "tts     | error: cannot go on\n"


def test_everything_is_printed_where_it_is_asked_for(capsys):
    relay = Relay(verbose=True)
    assert relay(LogLine("tts", "info", "listening"))
    assert relay(LogLine("llm", "info", "listening"))
    assert capsys.readouterr().err == "tts     | info: listening\nllm     | info: listening\n"
