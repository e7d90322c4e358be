"""Pairs that must never share a reply, however near their embeddings are, and pairs that may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.guard import MOST_CHARS, Guard, guard_of

NEVER = [
    ("Is it 2.5?", "Is it 25?"),
    ("What is 5 + 3?", "What is 5 * 3?"),
    ("What is -5?", "What is 5?"),
    ("What is 5!", "What is 5"),
    ("What is x² at one?", "What is x2 at one?"),
    ("How long do three eggs take?", "How long do four eggs take?"),
    ("Is it £10 there?", "Is it $10 there?"),
    ("How do loops look in C++?", "How do loops look in C#?"),
    ("It is safe to eat?", "It isn't safe to eat?"),
    ("Does it work?", "Doesn't it work?"),
    ("I can swim there.", "I can't swim there."),
    ("do it again", "dont do it again"),
    ("Can I take ibuprofen with alcohol?", "Can I take ibuprofen without alcohol?"),
    ("Ist das gut?", "Ist das nicht gut?"),
    ("Is it legal to park here?", "Is it illegal to park here?"),
    ("Is this mushroom safe to eat raw at home?", "Tell me which home mushrooms are unsafe raw to eat"),
    ("Is the shop open on Monday?", "Is the shop open on Tuesday?"),
    ("is the shop open monday", "is the shop open tuesday"),
    ("what is the capital of france", "what is the capital of germany"),
    ("what's the capital of france", "tell me the capital city of germany"),
    ("Berlin is the capital of what?", "Paris is the capital of what?"),
    ("How many people live in Berlin today?", "Paris has what population today, counting everybody?"),
    ("Tell us about it.", "Tell US about it."),
    ("Is turkey good?", "Is Turkey good?"),
    ("Who is the president?", "Who was the president?"),
    ("How do plants grow?", "Why do plants grow?"),
    ("What did I say to you?", "What did you say to me?"),
    ("You are coming?", "You are coming."),
    ("flights to Paris", "flights from Paris"),
    ("convert euros to dollars", "convert dollars to euros"),
    ("man bites dog", "dog bites man"),
    ("rain", "snow"),
    ("What causes rain in india?", "What causes heavy rain in india?"),
    ('Translate "yes" for me.', 'Translate "no" for me.'),
    ("What does `ls` do?", "What does `rm` do?"),
    ("月曜日は開いていますか", "火曜日は開いていますか"),
]
MAY = [
    ("What is rain?", "Can you please tell me what rain is?"),
    ("What is rain?", "Explain rain"),
    ("What's photosynthesis?", "Tell me about photosynthesis."),
    ("Hello, what is the weather like?", "what is the weather like"),
    ("What are the causes of rain?", "please tell me the causes of rain"),
    ("How do I reset my password?", "I forgot my password, how can I change it?"),
    ("How can I fix my car?", "Ways of repairing an automobile?"),
]
WORDS = [
    *(
        "what",
        "is",
        "the",
        "a",
        "not",
        "never",
        "rain",
        "Rain",
        "RAIN",
        "monday",
        "Monday",
        "2.5",
        "25",
        "x²",
    ),
    *(
        "how",
        "why",
        "please",
        "can",
        "you",
        "tell",
        "me",
        "Berlin",
        "isn't",
        "safe",
        "unsafe",
        "before",
        "after",
    ),
    *("+", "-", "?", ".", "!", '"', "`", "is?", "Is"),
]
TEXTS = st.one_of(st.text(max_size=80), st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join))


def guard(text: str) -> Guard:
    made = guard_of(text)
    assert made is not None
    return made


@pytest.mark.parametrize(("one", "other"), NEVER)
def test_they_never_share_a_reply(one: str, other: str):
    assert not guard(one).allows(guard(other))
    assert not guard(other).allows(guard(one))


@pytest.mark.parametrize(("one", "other"), MAY)
def test_they_may_share_a_reply_if_they_are_near(one: str, other: str):
    assert guard(one).allows(guard(other))


def test_what_is_too_long_or_empty_is_similar_to_nothing():
    assert guard_of("rain " * (MOST_CHARS // 5 + 1)) is None
    assert guard_of("rain " * (MOST_CHARS // 5)) is not None
    assert guard_of(" \n ") is None


@given(TEXTS, TEXTS)
def test_both_ways_are_the_same(one: str, other: str):
    first, second = guard_of(one), guard_of(other)
    if first is not None and second is not None:
        assert first.allows(second) is second.allows(first)


@given(TEXTS, st.integers(0, 99), st.integers(0, 99))
def test_another_number_is_never_the_same(text: str, one: int, other: int):
    first, second = guard_of(f"{text} {one} apples"), guard_of(f"{text} {other} apples")
    if first is not None and second is not None and one != other:
        assert not first.allows(second)


@given(TEXTS)
def test_a_negation_more_is_never_the_same(text: str):
    first, second = guard_of(f"{text} apples"), guard_of(f"{text} not apples")
    if first is not None and second is not None:
        assert not first.allows(second)


@given(st.text("aeiorst", min_size=4, max_size=9), st.text("aeiorst", min_size=4, max_size=9))
def test_another_word_in_the_same_place_is_never_the_same(one: str, other: str):
    first, second = guard(f"why do old {one} cats sleep"), guard(f"why do old {other} cats sleep")
    assert first.allows(second) is (one.rstrip("s") == other.rstrip("s") and first.frame == second.frame)
