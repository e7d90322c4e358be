import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.estimates import EstimatedWords, Pace
from services.tts.wire import Word

TEXT = "One two, three."


def said(text: str, words: list[Word]) -> list[str]:
    return [text[word.text_offset : word.text_offset + word.text_length] for word in words]


def test_words_come_before_the_audio_that_holds_them():
    words = EstimatedWords(TEXT, letter_samples=100)
    assert words.until(0) == []
    assert words.until(1) == [(0, 3, 0, True)]
    assert words.until(400) == []
    assert words.until(401) == [(4, 3, 400, True)]
    assert words.until(5000) == [(9, 5, 900, True)]
    assert words.finish(6000) == []


def test_what_is_left_goes_where_the_true_length_has_it():
    words = EstimatedWords(TEXT, letter_samples=1000)
    assert said(TEXT, words.until(200)) == ["One"]
    # It was 15 letters in 1500 samples.
    assert words.finish(1500) == [(4, 3, 400, True), (9, 5, 900, True)]
    slow = EstimatedWords(TEXT, letter_samples=200)
    assert slow.until(801) == [(0, 3, 0, True), (4, 3, 800, True)]
    # Nothing is put before what was told.
    assert slow.finish(1200) == [(9, 5, 800, True)]


def test_digits_and_syllables_last_longer_than_letters():
    words = EstimatedWords("a 1234 b", 10).finish(2000)
    assert [word.offset_samples for word in words] == [0, 200, 1900]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("...", ["..."]),
        ("  Hello — you", ["Hello", "—", "you"]),
        ("我们在家。", ["我", "们", "在", "家"]),
        ("Python很好 ok", ["Python", "很", "好", "ok"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
    ],
)
def test_words_are_those_of_the_text(text, expected):
    assert said(text, EstimatedWords(text, 10).finish(1000)) == expected


@given(
    text=st.text("ab 我,.\n", max_size=60),
    pace=st.floats(0.1, 500),
    steps=st.lists(st.integers(1, 3000), max_size=12),
    tail=st.integers(0, 3000),
)
def test_every_word_once_in_order_and_within(text, pace, steps, tail):
    words = EstimatedWords(text, pace)
    told, sent = [], 0
    for step in steps:
        heard = words.until(sent + step)
        assert all(word.offset_samples < sent + step for word in heard)
        sent += step
        told += heard
    total = sent + tail
    told += words.finish(total)
    ends = [0]
    for word in told:
        assert word.text_offset >= ends[-1]
        assert word.estimated
        ends.append(word.text_offset + word.text_length)
    assert ends[-1] <= len(text)
    offsets = [word.offset_samples for word in told]
    assert offsets == sorted(offsets)
    assert all(0 <= offset <= max(total, sent) for offset in offsets)
    assert said(text, told) == said(text, EstimatedWords(text, 1).finish(1))


def test_the_pace_of_each_variant_is_learned():
    pace = Pace()
    assert pace.letter_ms("en") == 65
    pace.learn("en", 3, 3000)  # too short to say anything
    assert pace.letter_ms("en") == 65
    pace.learn("en", 20, 2000)
    assert pace.letter_ms("en") == 100
    pace.learn("en", 20, 1000)
    assert pace.letter_ms("en") == pytest.approx(85)
    assert pace.letter_ms("de") == 65
