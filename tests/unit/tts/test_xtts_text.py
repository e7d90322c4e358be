"""Text cut into pieces for XTTS."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.engines.coqui.xtts_text import pieces, spell_long_numbers


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("Short.", 10, ["Short."]),
        ("", 10, []),
        ("  \n ", 10, []),
        ("One sentence. Another one, longer.", 20, ["One sentence.", "Another one, longer."]),
        ("first clause, then words without end", 22, ["first clause,", "then words without end"]),
        ("words without any mark at all", 12, ["words", "without any", "mark at all"]),
        ("It costs 1,234.56 today", 14, ["It costs", "1,234.56 today"]),
        ("A. then a long run of words", 20, ["A. then a long run", "of words"]),
        ("我们今天去公园，然后回家。明天再说", 10, ["我们今天去公园，", "然后回家。明天再说"]),
        ("a" * 25, 10, ["a" * 10, "a" * 10, "a" * 5]),
        ('He said "yes." Then he left.', 20, ['He said "yes."', "Then he left."]),
    ],
)
def test_pieces_end_where_a_speaker_would_breathe(text: str, limit: int, expected: list[str]) -> None:
    assert list(pieces(text, limit)) == expected


@given(st.text(alphabet="ab1 .,;!?\n。，'\"-", max_size=200), st.integers(1, 40))
def test_pieces_are_the_text_and_keep_to_the_limit(text: str, limit: int) -> None:
    found = list(pieces(text, limit))
    assert all(0 < len(piece) <= limit and piece == piece.strip() for piece in found)
    assert "".join("".join(found).split()) == "".join(text.split())


@given(st.lists(st.text(alphabet="abc1.,", min_size=1, max_size=9), max_size=40))
def test_no_word_is_parted_that_is_shorter_than_the_limit(words: list[str]) -> None:
    found = [word for piece in pieces(" ".join(words), 12) for word in piece.split()]
    assert found == words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("123456789012345 is said", "123456789012345 is said"),
        ("x1234567890123456y", "x1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6y"),
    ],
)
def test_numbers_that_nobody_would_say_are_spelt(text: str, expected: str) -> None:
    assert spell_long_numbers(text) == expected
