import pytest

from gateway.core.heard import SpokenChunk, heard_text
from gateway.core.values import Chunk, Word

TEXT = "One two, three.  Four five."


def chunk(index: int, text: str) -> Chunk:
    return Chunk(index, text, TEXT.index(text), len(text), "sentence", 0)


def words(text: str, starts: list[int]) -> tuple[Word, ...]:
    found = []
    at = 0
    for start in starts:
        while not text[at].isalnum():
            at += 1
        end = at
        while end < len(text) and text[end].isalnum():
            end += 1
        found.append(Word(text[at:end], at, end - at, start))
        at = end
    return tuple(found)


SPOKEN = [
    SpokenChunk(chunk(0, "One two, three."), words("One two, three.", [0, 100, 200]), 300, complete=True),
    SpokenChunk(chunk(1, "Four five."), words("Four five.", [20, 120]), 150, complete=False),
]


@pytest.mark.parametrize(
    ("played", "heard"),
    [
        (0, ""),
        (1, "One"),
        (100, "One"),
        (101, "One two,"),
        (250, "One two, three."),
        (300, "One two, three."),
        (320, "One two, three."),
        (321, "One two, three.  Four"),
        (421, "One two, three.  Four five."),
        (10_000, "One two, three.  Four five."),
    ],
)
def test_a_word_is_heard_when_its_first_sample_was_played(played: int, heard: str) -> None:
    assert heard_text(TEXT, SPOKEN, played) == heard


def test_without_timings_words_are_spread_over_the_audio() -> None:
    spoken = [SpokenChunk(chunk(0, "One two, three."), (), 1500, complete=True)]
    assert heard_text(TEXT, spoken, 0) == ""
    assert heard_text(TEXT, spoken, 300) == "One"
    assert heard_text(TEXT, spoken, 700) == "One two,"
    assert heard_text(TEXT, spoken, 1500) == "One two, three."


def test_a_chunk_that_is_not_complete_is_estimated_by_its_characters() -> None:
    spoken = [SpokenChunk(chunk(0, "One two, three."), (), 200, complete=False, samples_per_char=100)]
    assert heard_text(TEXT, spoken, 150) == "One"
    assert heard_text(TEXT, spoken, 450) == "One two,"
