# ruff: noqa: RUF001 - phonemes are written with letters of their own
"""Words of a text found again in what became of it."""

from hypothesis import given
from hypothesis import strategies as st

from services.tts.engines.coqui.alignment import starts


def words_at(pieces: list[str], whole: str) -> list[str]:
    return [whole[at:].split(maxsplit=1)[0] for at in starts(pieces, whole)]


def test_words_with_marks_between_are_found_as_they_are():
    assert starts(["one", "two", "three"], "one, two - three!") == [0, 5, 11]


def test_a_number_that_became_words_begins_with_its_first():
    whole = "it was twelve thousand three hundred and forty five dogs."
    pieces = ["it", "was", "twelve thousand three hundred and forty-five", "dogs"]
    assert words_at(pieces, whole) == ["it", "was", "twelve", "dogs."]


def test_words_spoken_as_one_begin_within_it():
    pieces = ["fˈɔːɹ", "ðə", "fˈɜːst", "tˈaɪm"]
    whole = "fɚðə fˈɜːst tˈaɪm"
    found = starts(pieces, whole)
    assert found[0] == 0
    assert found[0] <= found[1] <= found[2]
    assert [whole[at:].split(maxsplit=1)[0] for at in found[2:]] == ["fˈɜːst", "tˈaɪm"]


def test_the_same_word_twice_is_two_places():
    assert starts(["the", "dog", "the", "cat"], "the dog, the cat") == [0, 4, 9, 13]


def test_nothing_in_nothing():
    assert starts([], "whatever") == []
    assert starts(["a"], "") == [0]


@given(st.lists(st.text("ab é", min_size=1, max_size=6), max_size=8), st.text("abc é.", max_size=40))
def test_places_are_in_order_and_inside(pieces, whole):
    found = starts(pieces, whole)
    assert len(found) == len(pieces)
    assert found == sorted(found)
    assert all(0 <= at < max(1, len(whole)) for at in found)
