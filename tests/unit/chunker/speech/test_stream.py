"""What leaves when, how much is held, and where what is said stands in the source."""

import pytest

from services.chunker.speech import SpeechText, Spoken
from tests.unit.chunker.speech.helpers import assert_covers, pieces_of, said

HELD_CHARS = 900
"""The longest that any rule waits for, and the white space before it."""


def pushed(*tokens: str) -> list[str]:
    """Return what each push gives out."""
    speech = SpeechText()
    return ["".join(piece.text for piece in speech.push(token)) for token in tokens]


def test_plain_prose_leaves_at_once_to_the_last_word() -> None:
    assert pushed("Hel", "lo wor", "ld, th", "at is", " it", ".") == [
        "Hel",
        "lo wor",
        "ld, th",
        "at is",
        " it",
        ".",
    ]


def test_a_space_behind_a_word_waits_for_what_follows() -> None:
    assert pushed("Hello ", "there") == ["Hello", " there"]
    assert pushed("Hello. ", "There") == ["Hello. ", "There"]


@pytest.mark.parametrize(
    ("first", "then", "at_once", "after"),
    [
        ("a *", "b", "a", " b"),
        ("2*", "3", "2", "*3"),
        ("3 <", " 5", "3", " < 5"),
        ("AT&", "T", "AT", ""),
        ("AT&T", " is", "AT", "&T is"),
        ("a `", "b", "a", " b"),
        ("see htt", "ps is", "see", " https is"),
        ("[a", "](b)c", "", "ac"),
        ("$5", " or", "", "$5 or"),
        ("with", "out", "with", "out"),
        ("Hi!", " x", "Hi!", " x"),
        ("Hi\n", "- x", "Hi", "\nx"),
        ("Hi!\n", "x", "Hi!\n", "x"),
        ("**a", "**", "a", ""),
        ("x **bold", " words", "x bold", " words"),
        ("Hey 😀", " you", "Hey", " you"),
    ],
)
def test_only_what_may_begin_markup_is_held(first: str, then: str, at_once: str, after: str) -> None:
    assert pushed(first, then) == [at_once, after]


def test_flush_lets_go_of_all_that_is_held_and_the_text_goes_on() -> None:
    speech = SpeechText()
    pieces = speech.push("See [the")
    assert "".join(piece.text for piece in pieces) == "See"
    pieces += speech.flush()
    assert "".join(piece.text for piece in pieces) == "See [the"
    pieces += speech.push(" guide] *now*.\n- x")
    pieces += speech.flush()
    assert "".join(piece.text for piece in pieces) == "See [the guide] now.\nx"
    assert_covers(pieces, 26)


def test_flush_keeps_a_block_of_code_open() -> None:
    speech = SpeechText()
    pieces = speech.push("```\nx = 1") + speech.flush() + speech.push("\ny\n```\nEnd") + speech.flush()
    assert "".join(piece.text for piece in pieces) == "End"


def test_an_empty_push_and_an_empty_text_say_nothing() -> None:
    speech = SpeechText()
    assert speech.push("") == []
    assert speech.flush() == []


def test_pieces_say_where_they_stand() -> None:
    assert pieces_of(["A **bold** [guide](https://x.y) &amp; 🎉 b"]) == [
        Spoken("A ", 0, 2),
        Spoken("", 2, 2),
        Spoken("bold", 4, 4),
        Spoken("", 8, 2),
        Spoken(" ", 10, 1),
        Spoken("", 11, 1),
        Spoken("guide", 12, 5),
        Spoken("", 17, 14),
        Spoken(" ", 31, 1),
        Spoken("&", 32, 5),
        Spoken(" ", 37, 1),
        Spoken("", 38, 2),
        Spoken("b", 40, 1),
    ]


# fmt: off
ENDLESS = (
    "[", "[a", "[a](", "[a](b ", "<", "<a ", '<a b="', "$x ", "$$ ", "`", "```", "*", "*a", "_", "~", "&",
    "&a", "&#1", "http", "http://", "https://a/.", "\u30101", "\ue200", "\\(", "\\[x", "|", "| a ", "|-",
    "\n", "\n- ", "\n1", "\n|a", " ", "\t", "\n    a", "\n#", "\U0001f600", "\u200d", "![", "<!-- ", "-",
    "=", "[^", "[x](\\", "a*b", "1", "\n```", "a", "\n> ", "\r", "<think>", "[<a b='](u)'>",
)
# fmt: on


@pytest.mark.parametrize("unit", ENDLESS)
def test_memory_is_bounded_for_endless_text(unit: str) -> None:
    speech = SpeechText()
    text = unit * (6000 // len(unit))
    covered = 0
    for index in range(0, len(text), 3):
        covered += sum(piece.source_length for piece in speech.push(text[index : index + 3]))
        reading = speech._reading
        assert len(reading.text) <= HELD_CHARS
        assert len(reading.out._held) <= 64
        assert len(reading.closers) <= 150
    assert covered + sum(piece.source_length for piece in speech.flush()) == len(text)


def test_a_target_too_long_to_hold_is_passed_over_all_the_same() -> None:
    data = "data:image/png;base64," + "A" * 5000
    assert said([f"See ![a cat]({data}) here."]) == "See a cat here."
    assert said(list(f"See ![a cat]({data}) here.")) == "See a cat here."


def test_a_long_bracket_is_text() -> None:
    text = "[" + "word " * 100 + "] end"
    assert said([text]) == said(list(text)) == text
