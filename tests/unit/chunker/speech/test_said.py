"""What is written and what is said, as data: `said.jsonl`; each text under every cutting into tokens."""

from typing import Any

import pytest

from tests.unit.chunker.speech.helpers import assert_covers, chunks_of, cuttings, pieces_of, said, table

SAID = table("said.jsonl")
CHUNKS = table("chunks.jsonl")


@pytest.mark.parametrize("case", SAID, ids=lambda case: f"{case['about']}-{case['written'][:40]!r}")
def test_what_is_written_is_said_so(case: dict[str, Any]) -> None:
    written = case["written"]
    pieces = pieces_of([written])
    assert "".join(piece.text for piece in pieces) == case["said"]
    assert_covers(pieces, len(written))
    for tokens in cuttings(written):
        assert said(tokens) == case["said"], tokens


@pytest.mark.parametrize("case", CHUNKS, ids=lambda case: repr("".join(case["tokens"])[:40]))
def test_chunks_of_what_is_said(case: dict[str, Any]) -> None:
    text = "".join(case["tokens"])
    assert chunks_of(case["tokens"]) == case["chunks"]
    for tokens in cuttings(text):
        assert chunks_of(tokens) == case["chunks"], tokens


@pytest.mark.parametrize(
    ("language", "row"),
    [
        ("en", "1, 2."),
        ("zh-CN", "1\uff0c2\u3002"),
        ("ja", "1\u30012\u3002"),
        ("ur_PK", "1\u060c 2\u06d4"),
        ("hi", "1, 2\u0964"),
        ("", "1, 2."),
    ],
)
def test_rows_have_the_marks_of_their_language(language: str, row: str) -> None:
    assert said(["| 1 | 2 |"], language) == row
