"""The vectors of prompts: what is near, what is kept, what goes."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.cache.guard import Guard, guard_of
from services.cache.keys import StoredKey, tag
from services.cache.similar_index import Found, SimilarIndex


def key(name: str) -> StoredKey:
    return StoredKey("reply", name, tag(""))


def guard(text: str = "What is rain?") -> Guard:
    made = guard_of(text)
    assert made is not None
    return made


def index(limit_bytes: int = 1_000_000, entries: int = 100) -> SimilarIndex:
    return SimilarIndex(limit_bytes=limit_bytes, context_entries=entries)


def test_the_nearest_of_the_same_context_is_found_and_none_below_the_threshold():
    prompts = index()
    for name, angle in (("near", 0.1), ("nearer", 0.05), ("far", 1.0)):
        prompts.add("c", key(name), prompts.vector([math.cos(angle), math.sin(angle)]), guard())
    asked = prompts.vector([2.0, 0.0])
    found = prompts.find("c", asked, guard(), 0.9)
    assert found.key == key("nearer")
    assert found.similarity == pytest.approx(math.cos(0.05))
    assert prompts.find("c", asked, guard(), 0.9999) == Found(None)
    assert prompts.find("other", asked, guard(), 0.5) == Found(None)
    assert not prompts.known("other")


def test_the_guard_forbids_what_is_nearest_and_that_is_counted():
    prompts = index()
    same = prompts.vector([1, 0])
    prompts.add("c", key("25"), same, guard("Is it 25?"))
    assert prompts.find("c", same, guard("Is it 2.5?"), 0.95) == Found(None, guarded=1)
    prompts.add("c", key("2.5"), prompts.vector([1, 0.1]), guard("Please, is it 2.5?"))
    found = prompts.find("c", same, guard("Is it 2.5?"), 0.95)
    assert (found.key, found.guarded) == (key("2.5"), 1)


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ([], "not a list"),
        ([0.0, 0.0], "no direction"),
        ([10**400, 1.0], "too large"),
        ([math.nan, 1.0], "no direction"),
        ([math.inf, 1.0], "no direction"),
        ([1.0, 2.0, 3.0], "3 numbers, those before had 2"),
    ],
)
def test_what_is_no_embedding_is_refused(numbers: list[float], why: str):
    prompts = index()
    prompts.vector([1, 2])
    with pytest.raises(ValueError, match=why):
        prompts.vector(numbers)


def test_the_oldest_of_a_context_goes_and_the_context_that_is_not_used():
    prompts = index(entries=2)
    vector = prompts.vector([1.0] * 64)
    for name in ("a", "b", "c"):
        prompts.add("c", key(name), vector, guard())
    assert [key(name) in prompts for name in ("a", "b", "c")] == [False, True, True]
    each = prompts.bytes
    prompts = index(limit_bytes=3 * each)
    vector = prompts.vector([1.0] * 64)
    for name in ("1", "2"):
        for context in ("old", "used", "new"):
            prompts.find("used", vector, guard(), 0.9)
            prompts.add(context, key(context + name), vector, guard())
    prompts.add("newest", key("newest"), vector, guard())
    assert not prompts.known("old")
    assert prompts.known("used")
    assert prompts.bytes <= 3 * each


def test_a_prompt_that_is_larger_than_everything_is_not_kept():
    prompts = index(limit_bytes=1000)
    prompts.add("c", key("a"), prompts.vector([1.0] * 512), guard())
    assert (len(prompts), prompts.bytes) == (0, 0)
    assert not prompts.known("c")


class Prompts(RuleBasedStateMachine):
    """Whatever comes and goes: what is found is what is there, and the bytes are those of what is there."""

    def __init__(self) -> None:
        super().__init__()
        self.index = SimilarIndex(limit_bytes=60_000, context_entries=5)
        self.where: dict[str, tuple[str, int]] = {}

    def vector(self, number: int):
        return self.index.vector([float(number == at) for at in range(16)])

    @rule(context=st.sampled_from("abcdef"), name=st.sampled_from("klmnopqrst"), number=st.integers(0, 15))
    def add(self, context: str, name: str, number: int) -> None:
        self.index.add(context, key(name), self.vector(number), guard())
        self.where[name] = context, number

    @rule(name=st.sampled_from("klmnopqrst"))
    def remove(self, name: str) -> None:
        self.index.remove(key(name))
        assert key(name) not in self.index

    @rule(context=st.sampled_from("abcdef"), number=st.integers(0, 15))
    def find(self, context: str, number: int) -> None:
        found = self.index.find(context, self.vector(number), guard(), 0.9).key
        there = [
            name
            for name, place in self.where.items()
            if place == (context, number) and key(name) in self.index
        ]
        assert (found is None) is (not there)
        assert found is None or found.name in there

    @invariant()
    def within_its_bytes(self) -> None:
        contexts = {self.where[name][0] for name in "klmnopqrst" if key(name) in self.index}
        assert sorted(context for context in "abcdef" if self.index.known(context)) == sorted(contexts)
        assert self.index.bytes == sum(context.bytes for context in self.index._contexts.values())
        assert self.index.bytes <= 60_000
        assert len(self.index) == sum(key(name) in self.index for name in "klmnopqrst")
        assert (self.index.bytes == 0) is (not contexts)


TestPrompts = Prompts.TestCase
TestPrompts.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=40))
@example([3.5e-162])
@example([5e-324, 0.0])
@example([1e300, 1e300])
def test_a_vector_has_the_length_of_one(numbers: list[float]):
    prompts = index()
    try:
        vector = prompts.vector(numbers)
    except ValueError:
        assert np.linalg.norm(np.asarray(numbers)) == 0
    else:
        assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-5)
