# ruff: noqa: SIM905 - fragments are read best as words
"""What holds for any text, however it is cut."""

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from services.chunker.speech import SpeechText
from tests.unit.chunker.speech.helpers import assert_covers, pieces_of, said, table

FRAGMENTS = (
    "* ** _ ` ``` ~~ ~~~ [ ] ( ) ]( ![ < > </b> <b> <br> & &amp; &# $ $$ \\ \\( \\) | - 1. # = == http "
    "https://a.b/c <!-- --> <think> </think> : [1] [^1] ! ? . , @ a b word 3 h t x1 + "
    "\u2022 \u2013 \u2026 \u3002 \u4f60 \u3010 \u30101\u2020s\u3011 \ue200 \ue201 "
    "\U0001f600 \ufe0f \u20e3 \u200d \U0001f468 \u2753 \u00a9"
).split(" ")
WHITE = [
    " ",
    "  ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "    ",
    "\n- ",
    "\n1. ",
    "\n# ",
    "\n> ",
    "\n|",
    "\n```\n",
    "\u2028",
]
LONG = [
    "https://x.org/" + "y" * 90,
    "a long line of words that goes on and on until it is long enough",
    "|---|---|",
]

MARKUP = st.lists(st.sampled_from(FRAGMENTS + WHITE + LONG), max_size=16).map("".join)
TEXT = st.one_of(MARKUP, st.text(st.characters(exclude_categories=()), max_size=40))
CUTS = st.lists(st.integers(0, 400), max_size=6)
PLAIN = st.text(
    st.sampled_from("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,.;?()'\"\u00e9\u00df")
)


def cut(text: str, cuts: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(edge for edge in cuts if edge < len(text))})
    return [text[first:second] for first, second in itertools.pairwise(edges)]


@given(TEXT, CUTS)
@example("b c\r\n<b>-->1. \t| end. \r\na)\u3002  ", [])
@example("s**t**\n\n|---|---|x1# ", [])
def test_any_cutting_says_the_same_and_covers_the_source(text: str, cuts: list[int]) -> None:
    whole = pieces_of([text])
    assert_covers(whole, len(text))
    expected = "".join(piece.text for piece in whole)
    for tokens in (cut(text, cuts), list(text)):
        pieces = pieces_of(tokens)
        assert_covers(pieces, len(text))
        assert "".join(piece.text for piece in pieces) == expected


@given(st.lists(st.one_of(TEXT, st.none()), max_size=8))
def test_flushes_at_any_place_lose_nothing(parts: list[str | None]) -> None:
    speech = SpeechText()
    pieces = []
    length = 0
    for part in parts:
        pieces += speech.flush() if part is None else speech.push(part)
        length += len(part or "")
    assert_covers(pieces + speech.flush(), length)


@given(st.lists(PLAIN, max_size=8))
def test_plain_prose_is_said_as_it_stands_and_at_once(tokens: list[str]) -> None:
    # From the second word on: a number at the very beginning may be that of an item.
    speech = SpeechText()
    given_out = "".join(piece.text for piece in speech.push("So it is"))
    came = "So it is"
    for token in tokens:
        came += token
        given_out += "".join(piece.text for piece in speech.push(token))
        # All but a space behind a word, and what may become `http`.
        missing = len(came) - len(given_out)
        assert came.startswith(given_out)
        assert came[len(came) - missing :].strip() in ("", "h", "ht", "htt", "http", "https")
        assert missing <= 37
    given_out += "".join(piece.text for piece in speech.flush())
    assert given_out == came


@given(TEXT)
def test_nothing_but_boundaries_and_marks_is_added(text: str) -> None:
    for piece in pieces_of([text]):
        if len(piece.text) > piece.source_length:
            # Marks between the cells of a row, or an entity's or ligature's letters.
            assert piece.text in (", ", "\u060c ") or piece.source_length == 1 or "&" in text


@given(st.sampled_from([case["said"] for case in table("said.jsonl") if case["about"] == "emphasis"]))
def test_what_is_said_is_said_the_same_again(spoken: str) -> None:
    assert said([spoken]) == spoken
