"""Where one engine leaves off and another goes on."""

from array import array
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.tts.core.leaving import Leaving, fade, leaving
from services.tts.text import words_of
from services.tts.wire import Word

RATE_HZ = 1000
TEXT = "one two three four"
TIMED = [Word(0, 3, 0), Word(4, 3, 300), Word(8, 5, 600), Word(14, 4, 1000)]


def at(delivered: int, made: int, words: list[Word] = TIMED, text: str = TEXT) -> Leaving:
    told = [word for word in words if word.offset_samples < made + 100]
    return leaving(text, told, delivered, made, RATE_HZ, 1.0)


def test_the_cut_is_where_the_last_word_that_began_begins():
    assert at(200, 800) == Leaving(600, 8)
    assert at(600, 800) == Leaving(600, 8)
    assert at(200, 600) == Leaving(300, 4)  # the third word was told, and not begun


def test_where_more_was_delivered_the_word_is_begun_again():
    assert at(700, 800) == Leaving(700, 8)
    assert at(100, 200) == Leaving(100, 0)


def test_what_nobody_heard_is_begun_again_as_a_whole():
    assert at(0, 800) == Leaving(0, 0)
    assert at(-50, 0) == Leaving(0, 0)


def test_a_last_word_that_is_long_over_is_not_said_again():
    assert at(1100, 1200) == Leaving(1100, 14)
    assert at(1100, 2000) == Leaving(2000, len(TEXT))


def test_words_that_are_told_late_are_reckoned_from_those_before():
    known = [Word(0, 3, 0, estimated=True), Word(4, 3, 400, estimated=True)]
    # 100 samples a letter: "three" begins about 800, "four" about 1400.
    assert leaving(TEXT, known, 900, 1000, RATE_HZ, 1.0) == Leaving(900, 8, ())
    far = leaving(TEXT, known, 1450, 1450, RATE_HZ, 1.0)
    assert far == Leaving(1450, 14, (Word(8, 5, 800, estimated=True),))


def test_without_any_word_the_usual_pace_has_to_do():
    # 65 ms a letter: "two" from 260, "three" from 520.
    left = leaving(TEXT, [], 550, 550, RATE_HZ, 1.0)
    assert (left.samples, left.text_offset) == (550, 8)
    assert [(word.text_offset, word.estimated) for word in left.unsaid] == [(0, True), (4, True)]
    fast = leaving(TEXT, [], 550, 550, RATE_HZ, 2.0)
    assert fast.text_offset == 14


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=12),
    st.integers(0, 5000),
    st.integers(0, 5000),
)
def test_no_word_is_lost_and_none_that_is_whole_is_said_twice(lengths, delivered, more):
    text = " ".join("word"[: 1 + n % 4] for n, _ in enumerate(lengths))
    begins = [sum(lengths[:n]) for n in range(len(lengths))]
    words = [Word(*span, begin) for span, begin in zip(words_of(text), begins, strict=True)]
    made = min(delivered + more, sum(lengths))
    delivered = min(delivered, made)
    left = leaving(text, [w for w in words if w.offset_samples < made], delivered, made, RATE_HZ, 1.0)
    assert delivered <= left.samples <= made
    said_again = [word for word in words if word.text_offset >= left.text_offset]
    said = [word for word in words if word.text_offset < left.text_offset]
    # Whole words in what is kept are not said again; all others are.
    if said_again and said:
        assert said_again[0].offset_samples <= left.samples
    for word, following in pairwise(words):
        if word in said:
            assert following.offset_samples <= left.samples
        elif delivered:
            assert following.offset_samples >= made or word is words[0]


def test_the_end_falls_without_a_step():
    tail = array("h", fade(array("h", [8000] * 3).tobytes(), b"", RATE_HZ))
    assert len(tail) == 4
    assert list(tail) == sorted(tail, reverse=True)
    assert 7000 < tail[0] < 8000
    assert tail[-1] < 500
    assert array("h", fade(b"", array("h", [-4000]).tobytes(), RATE_HZ))[0] < -3500
    assert fade(b"", b"", RATE_HZ) == bytes(8)
