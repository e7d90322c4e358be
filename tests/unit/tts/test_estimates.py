import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.estimates import EstimatedWords, Pace, SkippedWords
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


def test_words_that_an_engine_leaves_out_are_told_between_their_neighbours():
    words = SkippedWords("Thanks for the fish - of the sea!")
    assert words.fill([Word(0, 6, 0), Word(7, 3, 700)]) == [(0, 6, 0, False), (7, 3, 700, False)]
    assert words.fill([Word(15, 4, 1500)]) == [(11, 3, 1100, True), (15, 4, 1500, False)]
    assert words.fill([Word(22, 2, 2200)]) == [(22, 2, 2200, False)]
    # Two at the end: letters from the last that was timed to the end of the text.
    assert words.finish(3300) == [(25, 3, 2500, True), (29, 3, 2900, True)]
    assert words.finish(3300) == []


def test_words_in_front_of_the_first_one_that_is_timed_begin_with_the_audio():
    assert SkippedWords("It is so").fill([Word(6, 2, 600)]) == [
        (0, 2, 0, True), (3, 2, 300, True), (6, 2, 600, False),
    ]  # fmt: skip


def test_an_engine_that_timed_nothing_has_left_nothing_out():
    assert SkippedWords("One two").finish(1000) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("好的 我们去", [Word(0, 1, 0), Word(1, 1, 10), Word(3, 2, 20), Word(5, 1, 30)]),
        ("a — b", [Word(0, 1, 0), Word(4, 1, 10)]),
        ("12 345 now", [Word(0, 6, 0), Word(7, 3, 10)]),
    ],
)
def test_what_an_engine_takes_together_or_leaves_unsaid_is_no_gap(text, told):
    words = SkippedWords(text)
    assert [*words.fill(told), *words.finish(100)] == told


@given(st.data())
def test_every_word_is_told_once_in_order_whatever_was_left_out(data):
    count = data.draw(st.integers(1, 12))
    text = " ".join(data.draw(st.sampled_from(["a", "the", "fish", "of"])) for _ in range(count))
    all_words = SkippedWords(text).fill([Word(len(text), 0, 0)])[:-1]
    kept = [n for n in range(count) if data.draw(st.booleans())] or [0]
    timed = [all_words[n]._replace(offset_samples=1000 * n, estimated=False) for n in kept]
    words = SkippedWords(text)
    found = [*words.fill(timed), *words.finish(1000 * count)]
    assert [word.text_offset for word in found] == [word.text_offset for word in all_words]
    assert [word.estimated for word in found] == [n not in kept for n in range(count)]
    offsets = [word.offset_samples for word in found]
    assert offsets == sorted(offsets)
