"""Texts that people hand in."""

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from voicemesh.cli import inputs
from voicemesh.cli.exits import USAGE, Failure


def stdin(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def refused(call, *args) -> str:
    with pytest.raises(Failure) as caught:
        call(*args)
    assert caught.value.status == USAGE
    return caught.value.message


def test_an_argument_that_is_not_utf8_names_the_place():
    bad = os.fsdecode(b"caf\xff")
    assert refused(inputs.checked, "PROMPT", bad) == "PROMPT: not valid UTF-8 at character 4"


def test_an_empty_argument():
    assert refused(inputs.checked, "PROMPT", "  ") == "PROMPT: is empty"


def test_good_arguments_are_kept_as_they_are():
    assert inputs.text_or_stdin("TEXT", " zwölf 🐈 ") == " zwölf 🐈 "


def test_standard_input(monkeypatch):
    stdin(monkeypatch, "one\ntwö\n".encode())
    assert inputs.text_or_stdin("TEXT", "-") == "one\ntwö"


def test_standard_input_that_is_not_utf8_names_the_line(monkeypatch):
    stdin(monkeypatch, b"one\ntw\xff\n")
    assert refused(inputs.text_or_stdin, "TEXT", "-") == "standard input: line 2: not valid UTF-8 at byte 3"


def test_standard_input_that_is_empty(monkeypatch):
    stdin(monkeypatch, b"\n \n")
    assert refused(inputs.text_or_stdin, "TEXT", "-") == "standard input: is empty"


def test_prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("one\n\n  two  \n")
    assert inputs.read_prompts(path) == ("one", "two")
    assert inputs.read_prompts(None) == inputs.DEFAULT_PROMPTS


def test_prompts_on_standard_input(monkeypatch):
    stdin(monkeypatch, b"one\n")
    assert inputs.read_prompts(Path("-")) == ("one",)


def test_prompts_in_json_lines(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('"one"\n\n{"prompt": "two", "id": 7}\n')
    assert inputs.read_prompts(path) == ("one", "two")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("p.txt", b"one\n\xff\n", "line 2: not valid UTF-8 at byte 1"),
        ("p.txt", b"\n\n", "has no prompt in it"),
        ("p.jsonl", b'"one"\n{"prompt": \n', "line 2: not valid JSON"),
        ("p.jsonl", b'{"text": "one"}\n', 'line 1: must be a string, or an object with "prompt"'),
        ("p.jsonl", b'"\\ud800"\n', "line 1: not valid UTF-8"),
        ("p.jsonl", b"5\n", "line 1: must be a string"),
    ],
)
def test_files_that_are_wrong_say_where(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    assert message in refused(inputs.read_prompts, path)


def test_a_file_that_is_not_there(tmp_path):
    assert "cannot read" in refused(inputs.read_prompts, tmp_path / "none")
