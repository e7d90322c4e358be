# ruff: noqa: RUF001 - characters that look alike are what is tested
"""Which prompts ask the same."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.prompts import normalise

ALIKE = [
    ("What is rain?", "what is rain?"),
    ("What is rain?", " \n What\tis   rain?  \n"),
    ("What is rain?", "What is\u00a0rain ?"),
    ("What is rain?", "What is rain???"),
    ("What is rain?", "What is rain ??"),
    ("Really? Tell me.", "Really? tell me"),
    ("Really??  Tell me.", "really? tell me"),
    ("Is it?!", "Is it!?!"),
    ("Tell me a story.", "tell me a story"),
    ("Tell me a story. ", "tell me a story."),
    ("First this.\n\nThen that", "First this. \r\nThen that"),
    ("What is 2+2??", "What is 2+2?"),
    ("Do you know C++.", "Do you know C++"),
    ("caf\u00e9", "cafe\u0301"),
    ("ＡＢＣ １２３", "ABC 123"),
    ("ｶﾞ", "ガ"),
    ("a ﬁne day", "a fine day"),
    ("It’s “fine”", 'It\'s "fine"'),
    ("«Oui»", '"oui"'),
    ("10–20", "10-20"),
    ("rain — or snow", "rain - or snow"),
    ("Wait… what", "wait... what"),
    ("Wait.. what", "wait... what"),
    ("co\u00adop\u200b", "coop"),
    ("I \u2764\ufe0f rain", "I \u2764 rain"),
    ("def f():\r\n    return 1", "def f():\n\treturn 1"),
    ("Is it ? Yes", "is it? Yes"),
    ("下雨了。", "下雨了"),
    ("(What is rain?)", "(what is rain?)"),
    ("Élan vital", "élan vital"),
]
DIFFERENT = [
    ("Tell us more", "Tell US more"),
    ("US or UK?", "us or UK?"),
    ("in March", "in march"),
    ("Is an Apple a day healthy?", "Is an apple a day healthy?"),
    ("iPhone", "iphone"),
    ("2.5", "25"),
    ("1,000", "1.000"),
    ("-5 degrees", "5 degrees"),
    ("5! is what", "5 is what"),
    ("What is 5!", "What is 5"),
    ("You are coming?", "You are coming."),
    ("You are coming!", "You are coming."),
    ("No!", "No?"),
    ("Let's eat, Grandma", "Let's eat Grandma"),
    ("a ?? b", "a ? b"),
    ("x²", "x2"),
    ("½ cup", "1/2 cup"),
    ("résumé", "resume"),
    ("man bites dog", "dog bites man"),
    ("very good", "very very good"),
    ("its", "it's"),
    ("6′", "6'"),
    ("if a:\n    b\nc", "if a:\n    b\n    c"),
    ("rain", "ra in"),
    ("vs. Apple", "vs. apple"),
    ("C", "C++"),
    ("ß", "ss"),
    ("What is 5!! then", "What is 5! then"),
    ("What is 5!!", "What is 5!"),
    ("What is n!!", "What is n!"),
    ("What is (n+1)!!", "What is (n+1)!"),
    ("What is 5!?", "What is 5?!"),
    ("What does .. mean in Ruby?", "What does ... mean in Ruby?"),
    ("Is 1..10 a range", "Is 1...10 a range"),
    ("What does -- mean in SQL?", "What does - mean in SQL?"),
    ("Explain git checkout -- x", "Explain git checkout - x"),
    ("What is the command .", "What is the command"),
    ("What does this mean: ??", "What does this mean: ?"),
    ("Invert\n1 2\n3 4", "Invert\n1 2 3 4"),
    ("Is this right?\nx = 1\ny = 2", "Is this right?\nx = 1 y = 2"),
    ("a\n  b", "a\nb"),
]
LOOSELY_ALIKE = [
    ("Tell us more", "TELL US MORE"),
    ("What is rain?", "what is rain"),
    ("Let's eat, Grandma!", "lets eat grandma"),
    ("...and then?", "And then"),
    ("What is\nrain?", "what is rain"),
    ("well-known", "well known"),
    ("rain - or snow", "rain or snow"),
]
LOOSELY_DIFFERENT = [
    ("2.5", "25"),
    ("1,000", "1.000"),
    ("10-20", "1020"),
    ("-5", "5"),
    ("3/4", "34"),
    ("C", "C++"),
    ("5 €", "5"),
    ("rain", "ra in"),
    ("résumé", "resume"),
    ("x²", "x2"),
    ("5²", "52"),
    ("1½", "11/2"),
    ("10 - 5", "10 5"),
    ("10 - 5", "10 * 5"),
    ("10 * 5", "10 / 5"),
    ("x - y", "x y"),
    ("5% of 100", "5 of 100"),
    (".5 of 10", "5 of 10"),
    ("5!", "5"),
    ("n!", "n"),
    ("(2+3)*4", "2+(3*4)"),
    ("C#", "C"),
    (".NET", "net"),
]

texts = st.text(max_size=20) | st.text(
    st.sampled_from("aAbBßéÉIıİ .,?!…-–—'’\"“ \n\t\u00a0\u200b\ufe0f²½ﬁＡｶﾞ5٣ςΣ\u0301\u0345"), max_size=12
)


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_typing_does_not_count(one: str, other: str) -> None:
    assert normalise(one, "typing") == normalise(other, "typing")
    assert normalise(one, "loose") == normalise(other, "loose")
    assert normalise(one, "exact") != normalise(other, "exact")


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_may_be_meaning_counts(one: str, other: str) -> None:
    assert normalise(one, "typing") != normalise(other, "typing")


@pytest.mark.parametrize(("one", "other"), LOOSELY_ALIKE)
def test_words_and_numbers_are_all_that_counts_where_it_may_be_loose(one: str, other: str) -> None:
    assert normalise(one, "loose") == normalise(other, "loose")
    assert normalise(one, "typing") != normalise(other, "typing")


@pytest.mark.parametrize(("one", "other"), LOOSELY_DIFFERENT)
def test_numbers_and_symbols_count_even_then(one: str, other: str) -> None:
    assert normalise(one, "loose") != normalise(other, "loose")


@given(texts)
def test_what_is_normal_stays_as_it_is(text: str) -> None:
    for match in ("exact", "typing", "loose"):
        once = normalise(text, match)
        assert normalise(once, match) == once


@given(texts)
def test_loose_goes_further_than_typing(text: str) -> None:
    assert normalise(normalise(text, "typing"), "loose") == normalise(text, "loose")


@given(texts)
def test_equivalent_texts_ask_the_same(text: str) -> None:
    for match in ("typing", "loose"):
        assert normalise(unicodedata.normalize("NFD", text), match) == normalise(text, match)


@given(st.text(st.characters(categories=["Ll", "Lo", "Nd"]), max_size=20), st.sampled_from(["", " ", "\n"]))
def test_no_letter_and_no_digit_is_lost(text: str, around: str) -> None:
    kept = normalise(around + text + around, "typing")
    assert len(kept) >= len(unicodedata.normalize("NFC", text))
