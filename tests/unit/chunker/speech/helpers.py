"""What the tests of the filter share."""

import itertools
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from services.chunker.core import ChunkerConfig, Policy
from services.chunker.speech import SpeechText, Spoken
from services.chunker.spoken import SpokenChunker

HERE = pathlib.Path(__file__).parent
ALL_PAIRS_CHARS = 48  # of longer texts every third cutting into three is tried


def table(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").strip().split("\n")]


def pieces_of(tokens: Iterable[str], language: str = "") -> list[Spoken]:
    speech = SpeechText(language)
    return [piece for token in tokens for piece in speech.push(token)] + speech.flush()


def said(tokens: Iterable[str], language: str = "") -> str:
    return "".join(piece.text for piece in pieces_of(tokens, language))


def chunks_of(tokens: Iterable[str]) -> list[str]:
    chunker = SpokenChunker(ChunkerConfig(policy=Policy.SENTENCE))
    chunks = [chunk for token in tokens for chunk in chunker.push(token, 0)]
    return [chunk.text for chunk in chunks + chunker.end(0)]


def cuttings(text: str) -> Iterator[list[str]]:
    """One character at a time; every cutting into two; those into three, all for short texts."""
    yield list(text)
    for cut in range(1, len(text)):
        yield [text[:cut], text[cut:]]
    pairs = itertools.combinations(range(1, len(text)), 2)
    step = 1 if len(text) <= ALL_PAIRS_CHARS else len(text) // 3
    for first, second in itertools.islice(pairs, 0, None, step):
        yield [text[:first], text[first:second], text[second:]]


def assert_covers(pieces: list[Spoken], length: int) -> None:
    offset = 0
    for piece in pieces:
        assert piece.source_offset == offset
        assert piece.source_length > 0
        offset += piece.source_length
    assert offset == length
