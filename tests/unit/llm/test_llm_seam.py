import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm.core.seam import RestartedError, Seam

SAID = "The sky is blue. Short waves of light are scat"
WHOLE = "The sky is blue. Short waves of light are scattered."
MORE = "Waves are scattered more than"
COUNT = "one two three four five"


def _joined(said: str, *pieces: str, exact: bool = False) -> str:
    seam = Seam(said, exact=exact)
    return said + "".join([*(seam.feed(piece) for piece in pieces), seam.end()])


@pytest.mark.parametrize(
    ("said", "continuation", "whole"),
    [
        # It goes on, with a blank or without.
        ("The sky is", " blue today.", "The sky is blue today."),
        ("The sky is", "blue today.", "The sky is blue today."),
        ("The sky is ", "blue today.", "The sky is blue today."),
        ("The sky is blue.", "It is.", "The sky is blue. It is."),
        ("The sky is blue", ", and deep.", "The sky is blue, and deep."),
        ("He said (", "quietly) no.", "He said (quietly) no."),
        ("\u7a7a\u306f", "\u9752\u3044\u3002", "\u7a7a\u306f\u9752\u3044\u3002"),
        # A last word that was half said, or whole, and is said again.
        (SAID, "scattered more.", "The sky is blue. Short waves of light are scattered more."),
        ("It is very", "very good.", "It is very good."),
        # It repeats the end, or its last sentence, or all from the beginning.
        (MORE, "are scattered more than long ones.", f"{MORE} long ones."),
        (SAID, "Short waves of  light are scattered.", WHOLE),
        (SAID, WHOLE, WHOLE),
        (SAID, "the sky is Blue. short waves of light are scattered.", WHOLE),
        # It repeats something and stops there.
        (SAID, "The sky is blue.", SAID),
        (SAID, "Short waves of light", SAID),
        ("All is said.", "", "All is said."),
        ("Yes.", "Yes. It is.", "Yes. It is."),
        # One word twice is meant.
        ("I know that.", "That is all.", "I know that. That is all."),
        ("It rains", "It rains a lot.", "It rains a lot."),
    ],
)  # fmt: skip
def test_nothing_is_said_twice_and_nothing_is_lost(said: str, continuation: str, whole: str) -> None:
    assert _joined(said, continuation) == whole
    assert _joined(said, *continuation) == whole


def test_a_server_that_goes_on_by_itself_is_joined_as_it_is() -> None:
    assert _joined("short waves are scat", "tered", " more", exact=True) == "short waves are scattered more"
    assert _joined("bye", " bye then", exact=True) == "bye bye then"
    seam = Seam("short waves are scat", exact=True)
    assert seam.prefix == "short waves are scat"
    # It did not keep its promise, and began anew.
    assert (
        _joined("one two three four five", "one two three four five six", exact=True)
        == "one two three four five six"
    )


def test_the_model_is_not_told_of_half_a_word() -> None:
    assert Seam(SAID, exact=False).prefix == "The sky is blue. Short waves of light are"
    assert Seam("It is blue.", exact=False).prefix == "It is blue."
    assert Seam("Hel", exact=False).prefix == ""


def test_a_reply_that_begins_anew_in_other_words_is_not_joined() -> None:
    with pytest.raises(RestartedError):
        _joined("The sky is blue because of the waves", "The sky is blue since light is scattered")
    # Three words may be chance.
    assert _joined("The sky is blue. And", "and the sky is grey.") == "The sky is blue. And the sky is grey."


WORDS = [f"w{number}" for number in range(80)]


@given(st.integers(1, 60), st.integers(0, 60), st.lists(st.integers(1, 400), max_size=20), st.booleans())
def test_whatever_end_is_repeated_the_whole_is_said_once(
    broke_at: int, repeated: int, cuts: list[int], inside: bool
) -> None:
    text = " ".join(WORDS[:70])
    said = " ".join(WORDS[:broke_at])
    repeated = min(repeated, broke_at)
    inside = inside and repeated > 0
    again = " ".join(WORDS[broke_at - repeated : 70])
    if inside and len(said) > 2:
        said = said[:-1]  # in the middle of its last word, which is said again
    elif repeated == 1:
        repeated = 0
        again = " ".join(WORDS[broke_at:70])
    places = sorted({0, len(again), *(cut for cut in cuts if cut < len(again))})
    pieces = [again[start:end] for start, end in itertools.pairwise(places)]
    assert re.sub(r"\s+", " ", _joined(said, *pieces)) == text
