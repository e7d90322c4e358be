"""Texts that people hand in: arguments, standard input, files of prompts. All of them are checked."""

import json
import sys
from pathlib import Path
from typing import Final

from voicemesh.cli.exits import usage

DEFAULT_PROMPTS: Final = (
    "What is a service mesh, in two sentences?",
    "Explain why the sky is blue to a child.",
    "How do I make a good cup of coffee?",
    "Tell me a very short story about a lighthouse.",
    "What should I look at first in Lisbon?",
    "Why do cats purr?",
    "Give me three tips for sleeping better.",
    "What is the difference between weather and climate?",
)
"""What `bench` asks when nobody says otherwise."""


def checked(name: str, text: str) -> str:
    """Return `text`, an argument; refuse one that is empty or was not valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise usage(f"{name}: not valid UTF-8 at character {error.start + 1}") from None
    if not text.strip():
        raise usage(f"{name}: is empty", "give it some words, in quotes")
    return text


def text_or_stdin(name: str, text: str) -> str:
    """Return `text`; for "-", what is on standard input."""
    if text != "-":
        return checked(name, text)
    read = "\n".join(decoded_lines("standard input", sys.stdin.buffer.read()))
    if not read.strip():
        raise usage("standard input: is empty")
    return read


def decoded_lines(name: str, data: bytes) -> list[str]:
    """Cut `data` into lines of text; refuse what is not UTF-8, naming the line."""
    lines = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            lines.append(line.decode())
        except UnicodeDecodeError as error:
            raise usage(f"{name}: line {number}: not valid UTF-8 at byte {error.start + 1}") from None
    return lines


def read_prompts(path: Path | None) -> tuple[str, ...]:
    """Return the prompts of a file, one a line, without empty lines; the built-in ones without a file.

    In a file that ends in `.jsonl` each line is JSON: a string, or an object with "prompt".
    """
    if path is None:
        return DEFAULT_PROMPTS
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise usage(f"--prompts: cannot read {path}: {error.strerror}") from None
    lines = decoded_lines(str(path), data)
    if path.suffix == ".jsonl":
        lines = [_from_json(f"{path}: line {number}", line) for number, line in enumerate(lines, start=1)]
    prompts = tuple(line.strip() for line in lines if line.strip())
    if not prompts:
        raise usage(f"--prompts: {path} has no prompt in it", "write one prompt a line")
    return prompts


def _from_json(place: str, line: str) -> str:
    if not line.strip():
        return ""
    try:
        value = json.loads(line)
    except ValueError as error:
        raise usage(f"{place}: not valid JSON: {error}") from None
    prompt = value.get("prompt") if isinstance(value, dict) else value
    if not isinstance(prompt, str):
        raise usage(f'{place}: must be a string, or an object with "prompt": a string')
    return checked(place, prompt)
