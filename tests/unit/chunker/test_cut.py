"""The command that shows how a text would be cut."""

import io
import json
import subprocess
import sys

import pytest

from services.chunker import cut


class _Bytes(io.TextIOWrapper):
    """Standard input, of bytes."""


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", _Bytes(io.BytesIO(data), encoding="utf-8"))


def lines(capfdbinary_out: str) -> list[dict[str, list[dict[str, str]]]]:
    return [json.loads(line) for line in capfdbinary_out.splitlines()]


def test_a_text_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cut.main(["Hello there, my friend. 你好。 Bye", "--json", "--policy", "sentence"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "chunks": [
            {"text": "Hello there, my friend.", "reason": "sentence"},
            {"text": "你好。", "reason": "sentence"},
            {"text": "Bye", "reason": "flush"},
        ]
    }


def test_markup_is_said_unless_it_is_asked_for_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    text = "See **the [guide](https://example.com)** now."
    for option, said in (("--speech-text", "See the guide now."), ("--no-speech-text", text)):
        assert cut.main([text, "--json", "--policy", "sentence", option]) == 0
        assert json.loads(capsys.readouterr().out) == {"chunks": [{"text": said, "reason": "flush"}]}


def test_a_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert cut.main(["I can help you, my friend. Yes."]) == 0
    out = capsys.readouterr().out
    assert "clause" in out
    assert "I can help you," in out
    assert cut.main(["  "]) == 0
    assert "nothing to say" in capsys.readouterr().out


def test_tokens_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    feed(monkeypatch, '["Hello wor", "ld.", " Ne", "xt"]\n\n[]\n["你好。", "再见"]'.encode())
    assert cut.main(["--tokens", "--policy", "sentence", "--no-speech-text"]) == 0
    out = lines(capsys.readouterr().out)
    assert [[chunk["text"] for chunk in line["chunks"]] for line in out] == [
        ["Hello world.", "Next"],
        [],
        ["你好。", "再见"],
    ]


def test_the_options_count(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for options, chunks in (
        (["--policy", "words:3"], ["one two three", "four.", "five six"]),
        (["--policy", "sentence"], ["one two three four.", "five six"]),
        (["--policy", "sentence", "--min-chars", "25"], ["one two three four. five six"]),
        (["--policy", "sentence", "--max-chars", "10"], ["one two", "three", "four.", "five six"]),
    ):
        feed(monkeypatch, b'["one two three four. five six"]')
        assert cut.main(["--tokens", *options]) == 0
        (line,) = lines(capsys.readouterr().out)
        assert [chunk["text"] for chunk in line["chunks"]] == chunks


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'["ok"]\n["a", }\n', "line 2 of standard input: not valid JSON"),
        (b'["ok"]\n["\xff"]\n', "line 2 of standard input: not valid UTF-8 at byte 3"),
        (b'"text"\n', "line 1 of standard input: must be a JSON array of strings"),
        (b'["a", 1]\n', "line 1 of standard input: must be a JSON array of strings"),
        (b'["\\ud800"]\n', "line 1 of standard input: holds half of a surrogate pair"),
        (b"[" * 100_000, "line 1 of standard input: n"),
    ],
)
def test_wrong_input_is_named_by_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: bytes, message: str
) -> None:
    feed(monkeypatch, data)
    assert cut.main(["--tokens"]) == cut.EXIT_USAGE
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a TEXT"),
        (["--tokens", "text"], "leave TEXT away"),
        (["x", "--policy", "sentences"], "no such policy"),
        (["x", "--policy", "words"], "no such policy"),
        (["x", "--policy", "words:0"], "1 to 50"),
        (["x", "--policy", "words:x"], "1 to 50"),
        (["x", "--policy", "clause:3"], "no such policy"),
        (["x", "--min-chars", "-1"], "--min-chars: "),
        (["x", "--max-chars", "0"], "--max-chars: "),
        (["x", "--language", "?"], "--language: "),
        (["\udcff"], "TEXT is not valid UTF-8"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert cut.main(arguments) == cut.EXIT_USAGE
    assert message in capsys.readouterr().err


def test_as_a_process_it_needs_no_grpc() -> None:
    code = (
        "import sys; from services.chunker import cut; status = cut.main(['Hi there. Yes.', '--json']); "
        "assert not {'grpc', 'google', 'pydantic', 'opentelemetry'} & set(sys.modules); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["chunks"][0] == {"text": "Hi there.", "reason": "sentence"}
