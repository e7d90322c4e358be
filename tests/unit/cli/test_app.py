"""How commands are read: options, help, wrong use. Nothing here reaches a mesh."""

import json
import os

import pytest
from typer.testing import CliRunner

from voicemesh.cli.app import app

COMMANDS = (
    "up",
    "ask",
    "say",
    "chat",
    "explain",
    "voices",
    "doctor",
    "bench",
    "chunk",
    "demo",
    "flags",
    "cache",
)


@pytest.fixture
def run():
    runner = CliRunner()
    return lambda *arguments, **options: runner.invoke(app, arguments, **options)


def test_help_names_every_command_and_the_exit_statuses(run):
    result = run("--help")
    assert result.exit_code == 0
    assert all(command in result.output for command in COMMANDS)
    assert "Exit status: 0 done" in result.output


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "chunk"])
def test_every_command_has_help(run, command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert run(command, "-h").exit_code == 0


def test_without_a_command_there_is_help(run):
    assert "Usage:" in run().output


def test_the_version(run):
    assert run("--version").output.startswith("voicemesh")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ask",), "PROMPT"),
        (("ask", ""), "PROMPT: is empty"),
        (("ask", os.fsdecode(b"\xff")), "PROMPT: not valid UTF-8"),
        (("ask", "Hi", "--policy", "words:99"), "policy: 'words:99' is none of"),
        (("say", "Hi", "--policy", "no"), "policy: 'no' is none of"),
        (("say", "Hi", "--rate", "7999"), "--rate: must be 8000 to 48000"),
        (("ask", "Hi", "--rate", "48001"), "--rate: must be 8000 to 48000"),
        (("say", "Hi", "--rate", "22050", "--out", "x.opus"), "--rate: opus has 8000, 12000, 16000"),
        (("say", "Hi", "--rate", "9000", "--encoding", "mp3"), "--rate: mp3 has 8000, 11025"),
        (("voices", "--pools", "--addr", "there:1"), "--tts-addr"),
        (("say", os.fsdecode(b"a\xff")), "TEXT: not valid UTF-8 at character 2"),
        (("explain", os.fsdecode(b"\xff")), "TURN_ID: not valid UTF-8"),
        (("bench", "--rate", "1", "--concurrency", "1"), "exclude each other"),
        (("bench", "--rate", "0"), "0.001"),
        (("bench", "--turns", "0"), "--turns"),
        (("bench", "--interrupt-share", "2"), "--interrupt-share"),
        (("bench", "--prompts", "no such file"), "cannot read"),
        (("bench", "--policy", "no"), "policy: 'no' is none of"),
        (("demo", os.fsdecode(b"\xff")), "PROMPT: not valid UTF-8"),
        (("nonsense",), "nonsense"),
    ],
)
def test_wrong_use_ends_with_2_and_says_why(run, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_a_player_that_is_not_there(run, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("ask", "Hi", "--play")
    assert result.exit_code == 2
    assert "no audio player" in result.output
    assert "--out FILE.wav" in result.output


def test_doctor_says_the_same_in_json(run, monkeypatch):
    monkeypatch.setenv("VOICEMESH_REDIS_URL", "redis://user:secret@127.0.0.1:1/0")
    monkeypatch.setenv("OPENAI_API_KEY", "key-that-nobody-sees")
    plain, coded = run("doctor"), run("doctor", "--json")
    report = json.loads(coded.output)
    assert plain.exit_code == coded.exit_code == (0 if report["ok"] else 1)
    names = [check["name"] for check in report["checks"]]
    assert names[:3] == ["python", "grpcio", "server packages"]
    assert all(set(check) == {"name", "state", "detail", "fix"} for check in report["checks"])
    assert all(check["fix"] for check in report["checks"] if check["state"] == "missing")
    redis = next(check for check in report["checks"] if check["name"] == "redis")
    assert redis["state"] == "note"
    for text in (plain.output, coded.output):
        assert "secret" not in text
        assert "key-that-nobody-sees" not in text
