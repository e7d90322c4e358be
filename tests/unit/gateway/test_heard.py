import pytest

from gateway.core.heard import SpokenChunk, heard_text
from gateway.core.values import Chunk, TextRun, Word

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


# "It is **bold**, 3 &lt; 5." is said as "It is bold, 3 < 5."
WRITTEN = "It is **bold**, 3 &lt; 5. Yes."
MARKED = Chunk(
    0,
    "It is bold, 3 < 5.",
    0,
    25,
    "sentence",
    0,
    (
        TextRun(0, 6, 0, 6),
        TextRun(6, 0, 6, 2),
        TextRun(6, 4, 8, 4),
        TextRun(10, 0, 12, 2),
        TextRun(10, 4, 14, 4),
        TextRun(14, 1, 18, 4),
        TextRun(15, 3, 22, 3),
    ),
)


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("It", "It"),
        ("is bold", "is **bold"),
        ("bold", "bold"),
        (", 3", ", 3"),
        ("<", "&lt;"),
        ("< 5.", "&lt; 5."),
        ("It is bold, 3 < 5.", "It is **bold**, 3 &lt; 5."),
    ],
)
def test_what_is_said_is_found_in_what_was_written(spoken: str, written: str) -> None:
    begin = MARKED.text.index(spoken)
    first, last = MARKED.source(begin, begin + len(spoken))
    assert WRITTEN[first:last] == written


def test_history_keeps_what_was_written_of_what_was_heard() -> None:
    spoken = [
        SpokenChunk(MARKED, (), 1800, complete=True),
        SpokenChunk(Chunk(1, "Yes.", 26, 4, "flush", 0), (), 400, complete=True),
    ]
    assert heard_text(WRITTEN, spoken, 650) == "It is **bold**,"
    assert heard_text(WRITTEN, spoken, 1450) == "It is **bold**, 3 &lt;"
    assert heard_text(WRITTEN, spoken, 1800) == "It is **bold**, 3 &lt; 5."
    assert heard_text(WRITTEN, spoken, 2200) == WRITTEN
