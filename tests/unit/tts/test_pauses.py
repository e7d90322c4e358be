# ruff: noqa: RUF001 - marks of other scripts are what is meant
import pytest

from services.tts.pauses import MAX_PAUSE_MS, PAUSES_MS, ending, pause_ms

ENDINGS = {
    "sentence": [
        "Done.",
        "Done?",
        'He said "go."',
        "(Yes.)",
        "好。",
        "好？」",
        "हाँ।",
        "نعم؟",
        "ہاں۔",
        "Այո։",
        "አዎ።",
        "Ja.*",
    ],
    "exclamation": ["Go!", "¡Vamos!", "走！", "“Go!”"],
    "colon": [
        "these:",
        "first;",
        "so —",
        "so—",
        "well…",
        "well...",
        "wait..",
        "a -",
        "a --",
        "如下：",
        "نعم؛",
        "አዎ፤",
    ],
    "clause": ["yes,", 'yes,"', "好，", "好、", "نعم،", "አዎ፣", "այո՝"],
    "aside": ["this (that)", 'called "that"', "「这个」"],
    "none": ["and then", "non-", "12", "好", "the dogs’", "it's", "", "  ", "50%", "$5"],
    "paragraph": ["Done.\n\n", "Done\n \n", "Done.\u2029", "हाँ॥"],
}


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in ENDINGS.items() for text in texts]
)
def test_the_mark_that_ends_a_text_says_what_follows(kind, text):
    assert ending(text) == kind


def test_a_line_end_is_at_least_a_sentence():
    assert ending("A heading\n") == ending("A list,\n") == "sentence"
    assert ending("Go!\n") == "exclamation"
    assert ending("\n\n") == "none"


def test_greek_asks_with_a_semicolon():
    assert ending("Πού;", "el") == ending("Πού\u037e") == "sentence"
    assert ending("Ναι·", "el-GR") == "colon"
    assert ending("Where;", "en") == "colon"


def test_pauses_shrink_with_speed_within_bounds():
    sentence = PAUSES_MS["sentence"]
    assert pause_ms("Done.", "en", 1) == sentence
    assert pause_ms("Done.", "en", 0.25) == pause_ms("Done.", "en", 0.4) == 3 * sentence
    assert 0 < pause_ms("Done.", "en", 4) < pause_ms("Done.", "en", 2) < 0.5 * sentence


def test_a_voice_may_have_pauses_of_its_own():
    assert pause_ms("Done.", "en", 1, {"sentence": 450}) == 450
    assert pause_ms("Done,", "en", 1, {"sentence": 450}) == PAUSES_MS["clause"]
    assert pause_ms("Done.", "en", 0.25, {"sentence": 4000}) == MAX_PAUSE_MS


def test_longer_breaks_have_longer_pauses():
    order = ["paragraph", "exclamation", "sentence", "colon", "clause", "aside", "none"]
    assert list(PAUSES_MS) == order
    assert sorted(PAUSES_MS.values(), reverse=True) == list(PAUSES_MS.values())
