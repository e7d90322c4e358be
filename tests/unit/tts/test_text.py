import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.text import WordBounds, neutralise, pauses_at_end, speakable, words_of


@given(st.text())
def test_neutral_text_keeps_every_offset_and_holds_no_control_character(text):
    neutral = neutralise(text)
    assert len(neutral) == len(text)
    for before, after in zip(text, neutral, strict=True):
        assert after in (before, " ")
        assert after in "\t\n" or ord(after) >= 32
    neutral.encode()


def test_commands_of_engines_become_spaces():
    assert neutralise("a\x01" + "50S\x00b\ue000c\x9bd\te\nf") == "a 50S b c d\te\nf"


@pytest.mark.parametrize(
    "hidden",
    [
        *("\ud800", "\udc00", "\u202e", "\u2066", "\u200f", "\u061c", "\u2028", "\u2029", "\u2063", "\ufff9"),
        *(
            "\ufffe",
            "\uffff",
            "\ufdd0",
            "\U000e0041",
            "\U000f0001",
            "\U0010ffff",
            "\x7f",
            "\x9b",
            "\x1b",
            "\x00",
        ),
    ],
)
def test_what_nobody_sees_and_an_engine_might_obey_becomes_a_space(hidden):
    assert neutralise(f"a{hidden}b") == "a b"
    neutralise(f"a{hidden}b").encode()


@pytest.mark.parametrize(
    "text",
    [
        "Donau\u00addampf",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian
        "\u0915\u094d\u200d\u0937",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\u2764\ufe0f",
        "e\u0301\u0323",
        "\u1edf \u0e17\u0e35\u0e48",
        "\ufeffHi",
    ],
)
def test_what_words_are_written_with_stays(text):
    assert neutralise(text) == text


@pytest.mark.parametrize(("mark", "kept"), [("\u0301", 8), ("\u200b", 4), ("\ufeff", 4), ("\u00ad", 4)])
def test_a_flood_of_marks_ends_where_no_script_goes_on(mark, kept):
    text = f"a{mark * 5000}b"
    assert neutralise(text) == f"a{mark * kept}{' ' * (5000 - kept)}b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Hi", True), ("...", False), ("", False), (" \n", False), ("5", True), ("—", False), ("你", True)],
)
def test_speakable(text, expected):
    assert speakable(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"), [("Hi. ", True), ("Hi", False), ("Hi,", True), ('"Hi."', True), (" ", False)]
)
def test_pauses_follow_marks_only(text, expected):
    assert pauses_at_end(text) is expected


def test_words_are_split_at_space_without_marks_around_them():
    text = 'He said: "don\'t pay $12,345.67"!'
    assert [text[o : o + n] for o, n in words_of(text)] == ["He", "said", "don't", "pay", "12,345.67"]


def heard(text: str, events: list[tuple[int, int, int]]) -> list[tuple[str, int]]:
    bounds = WordBounds(text)
    words = [word for event in events for word in bounds.add(*event)]
    return [(text[w.text_offset : w.text_offset + w.text_length], w.offset_samples) for w in words]


def test_the_parts_of_a_word_are_one_word_at_its_first_time():
    text = "pay 12,345 now"
    events = [(0, 3, 0), (4, 3, 100), (5, 3, 200), (7, 3, 300), (11, 3, 400)]
    assert heard(text, events) == [("pay", 0), ("12,345", 100), ("now", 400)]


def test_scripts_without_spaces_keep_the_engines_words():
    assert heard("日本語を話す", [(0, 3, 0), (3, 1, 5), (4, 2, 9)]) == [("日本語", 0), ("を", 5), ("話す", 9)]


@given(
    st.text(alphabet="ab ,.'日本\n", max_size=40),
    st.lists(st.tuples(st.integers(0, 45), st.integers(0, 10), st.integers(0, 1000)), max_size=20),
)
def test_words_rise_and_never_overlap_whatever_the_engine_says(text, events):
    bounds = WordBounds(text)
    words = [word for event in events for word in bounds.add(*event)]
    end = samples = 0
    for word in words:
        assert word.text_offset >= end
        assert word.text_length >= 1
        end = word.text_offset + word.text_length
        assert end <= len(text)
        assert word.offset_samples >= samples
        samples = word.offset_samples
