import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.budget import Tiles
from gateway.core.calibration import LEAST, MOST, Calibration
from gateway.core.tokens import at_most, message_tokens, prompt_tokens, text_tokens, tiles_of
from gateway.core.values import Image, Message

TEXTS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "token_counts.json").read_text(encoding="utf-8")
)["texts"]
PLAIN = st.text(st.characters(codec="utf-8"), max_size=300)
MIXED = st.lists(st.sampled_from([text["text"][:40] for text in TEXTS]), max_size=6).map("".join)


def error(estimated: float, true: int) -> float:
    return abs(estimated / true - 1)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def of_english(vocabulary: str, *, fitted: bool) -> list[float]:
    return [
        error(text_tokens(text["text"]), text[vocabulary])
        for text in TEXTS
        if text["name"].startswith("en") and text["fitted"] is fitted
    ]


@pytest.mark.parametrize("fitted", [True, False])
def test_the_estimate_is_near_the_true_count(fitted: bool) -> None:
    errors = [error(text_tokens(text["text"]), text["o200k"]) for text in TEXTS if text["fitted"] is fitted]
    assert mean(errors) <= (0.08 if fitted else 0.12)
    assert max(errors) <= 0.25
    assert max(of_english("o200k", fitted=fitted)) <= 0.09


def test_calibration_learns_another_vocabulary() -> None:
    """Each language by itself, as a caller's conversation is: ten turns of its two texts in turn."""
    pairs: dict[str, list[dict[str, Any]]] = {}
    for text in TEXTS:
        pairs.setdefault(text["name"].split("_")[0], []).append(text)
    before, after = [], []
    for texts in pairs.values():
        if sum(text["cl100k"] for text in texts) < 30:
            continue
        calibration = Calibration()
        for turn in range(10):
            text = texts[turn % len(texts)]
            calibration.learn("openai", "old", text_tokens(text["text"]), text["cl100k"])
        last = texts[-1]
        before.append(error(text_tokens(last["text"]), last["cl100k"]))
        after.append(error(text_tokens(last["text"]) * calibration.factor("openai", "old"), last["cl100k"]))
    assert mean(before) > 0.25
    assert mean(after) < 0.1


@given(st.one_of(PLAIN, MIXED), st.one_of(PLAIN, MIXED))
def test_texts_add_up_but_for_the_seam(one: str, other: str) -> None:
    whole, parts = text_tokens(one + other), text_tokens(one) + text_tokens(other)
    # A word, a number or a run of spaces that the seam cuts weighs a little more or less in one piece.
    assert abs(whole - parts) <= 3


@given(st.one_of(PLAIN, MIXED))
def test_more_text_is_hardly_ever_fewer_tokens(text: str) -> None:
    weights = [text_tokens(text[:end]) for end in range(len(text) + 1)]
    assert all(later >= earlier - 2 for earlier, later in pairwise(weights))
    assert weights[-1] <= 1.5 * len(text)


@given(PLAIN)
def test_the_bound_that_is_free_holds(text: str) -> None:
    message = Message("user", (text,))
    assert message_tokens(message, Tiles()) <= at_most(message, Tiles())


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4) + height.to_bytes(4)


@pytest.mark.parametrize(
    ("size", "tokens"),
    [
        ((1024, 1024), 765),  # OpenAI's own examples
        ((2048, 4096), 1105),
        ((512, 512), 255),
        ((4096, 100), 85 + 4 * 170),
        (None, 765),
    ],
)
def test_pictures_are_counted_by_tiles(size: tuple[int, int] | None, tokens: int) -> None:
    assert Tiles().tokens(size) == tokens
    data = png(*size) if size else b"?"
    message = Message("user", ("What is it?", Image(data=data)))
    assert message_tokens(message, Tiles()) == pytest.approx(4 + tokens + text_tokens("What is it?"))


def test_models_count_pictures_in_their_own_way() -> None:
    assert tiles_of("gpt-4o-mini-2024-07-18").tokens((1024, 1024)) == 2833 + 4 * 5667
    assert tiles_of("gpt-4o") == tiles_of("llama3") == Tiles()


def test_a_prompt_has_what_stands_around_its_messages() -> None:
    one, two = Message("system", ("Be brief.",)), Message("user", ("Why?",))
    alone = text_tokens("Be brief.") + text_tokens("Why?")
    assert prompt_tokens((one, two), Tiles()) == pytest.approx(alone + 2 * 4 + 3)


def test_the_factor_begins_with_the_first_report_and_moves_little_by_an_odd_one() -> None:
    calibration = Calibration()
    assert calibration.factor("p", "m") == 1
    calibration.learn("p", "m", 100, 140)
    assert calibration.factor("p", "m") == pytest.approx(1.4)
    assert calibration.factor("p", "other") == 1
    for _ in range(30):
        calibration.learn("p", "m", 1000, 1300)
    assert calibration.factor("p", "m") == pytest.approx(1.3, abs=0.02)
    calibration.learn("p", "m", 100, 100_000)
    assert calibration.factor("p", "m") < 1.35


def test_what_says_nothing_is_not_learned_from() -> None:
    calibration = Calibration()
    calibration.learn("p", "m", 100, 0)
    calibration.learn("p", "m", 5, 15)
    assert calibration.factor("p", "m") == 1


@given(st.lists(st.tuples(st.floats(1, 1e6), st.integers(0, 10**6)), max_size=60))
def test_the_factor_is_bounded(reports: list[tuple[float, int]]) -> None:
    calibration = Calibration()
    for estimated, reported in reports:
        calibration.learn("p", "m", estimated, reported)
        assert LEAST <= calibration.factor("p", "m") <= MOST


def test_the_number_of_models_is_bounded() -> None:
    calibration = Calibration()
    calibration.learn("p", "first", 100, 200)
    for number in range(64):
        calibration.learn("p", str(number), 100, 150)
    assert calibration.factor("p", "first") == 1
    assert calibration.factor("p", "63") == 1.5
