"""Long texts in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.text_pieces import pieces_of


@pytest.mark.parametrize(
    ("text", "most", "pieces"),
    [
        ("One two.", 20, ["One two."]),
        ("One two. Three four. Five", 21, ["One two. Three four. ", "Five"]),
        ('He said "go." Then he went away again', 20, ['He said "go." ', "Then he went away ", "again"]),
        ("one two three", 8, ["one two ", "three"]),
        ("a" * 10, 4, ["aaaa", "aaaa", "aa"]),
        ("\u4f60\u597d\u3002\u4f60\u597d", 4, ["\u4f60\u597d\u3002", "\u4f60\u597d"]),
        ("end " + "." * 20, 8, ["end "]),
        ("", 8, []),
        ("...", 8, []),
    ],
)
def test_a_text_is_cut_where_it_hurts_least(text, most, pieces):
    assert pieces_of(text, most) == pieces


@given(st.text(alphabet="ab .!\n\u3002\u4f60", max_size=200), st.integers(1, 40))
def test_pieces_are_the_text_but_for_what_is_not_spoken(text, most):
    pieces = pieces_of(text, most)
    assert all(1 <= len(piece) <= most for piece in pieces)
    letters = [character for character in text if character.isalnum()]
    assert [character for piece in pieces for character in piece if character.isalnum()] == letters
    at = 0
    for piece in pieces:
        at = text.index(piece, at) + len(piece)
