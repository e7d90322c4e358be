"""The search for similar prompts: budgets, bounds, and what goes while an embedding is made."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from services.cache.durable import Untraced
from services.cache.keys import (
    GenerationParameters,
    ReplyKey,
    Selector,
    SimilarPrompt,
    StoredKey,
    similar_prompt,
    stored_key,
)
from services.cache.memory import MemoryTier
from services.cache.similar import MOST_ASKED, MOST_QUEUED, EmbeddingError, SimilarPrompts
from services.cache.similar_index import SimilarIndex
from services.cache.values import ROLE_ASSISTANT, ROLE_USER, Image, Message, ReplyValue
from tests.support.openai_embeddings import bag_of_words
from tests.support.virtual_time import LoopClock, run_virtual
from voicemesh.runtime.breaker import Breaker, BreakerSpec

MINUTE_MS = 60_000


class Embedder:
    """Takes `delay_s` for each embedding; fails for texts that `fails` says."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.fails: Callable[[str], bool] = lambda _: False
        self.asked: list[str] = []
        self.cancelled = 0

    async def embed(self, text: str, timeout_s: float) -> Sequence[float]:
        self.asked.append(text)
        try:
            await asyncio.sleep(min(self.delay_s, timeout_s))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fails(text) or self.delay_s > timeout_s:
            raise EmbeddingError("scripted", late=self.delay_s > timeout_s)
        return bag_of_words(text)


class World:
    def __init__(self, timeout_ms: int = 20) -> None:
        self.clock = LoopClock()
        self.memory = MemoryTier(self.clock, 10_000_000)
        self.embedder = Embedder()
        self.similar = SimilarPrompts(
            clock=self.clock,
            memory=self.memory,
            index=SimilarIndex(limit_bytes=1_000_000, context_entries=100),
            embedder=self.embedder,
            breaker=Breaker(BreakerSpec(), self.clock),
            model="bag",
            threshold=0.9,
            timeout_ms=timeout_ms,
        )

    def put(self, text: str) -> StoredKey:
        key, prompt = asks(text)
        self.memory.put(key, ReplyValue(f"re: {text}"), MINUTE_MS)
        self.similar.stored(key, prompt)
        return key

    async def find(self, text: str, wait_ms: int = 1000) -> str | None:
        key, prompt = asks(text)
        hit = await self.similar.find(key, prompt, self.clock.now_ns(), wait_ms, Untraced())
        if hit is None:
            return None
        assert isinstance(hit.value, ReplyValue)
        return hit.value.text

    def run(self, scenario: Callable[[], Any]) -> None:
        async def whole() -> None:
            working = asyncio.create_task(self.similar.work())
            try:
                await scenario()
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)

        run_virtual(whole())


def reply_key(*texts: str, **changed: Any) -> ReplyKey:
    messages = tuple(Message(ROLE_USER, (text,)) for text in texts)
    fields: dict[str, Any] = {
        "tenant": "",
        "llm_revision": "r",
        "model": "",
        "parameters": GenerationParameters(),
    }
    return ReplyKey(**(fields | {"messages": messages} | changed))


def asks(text: str) -> tuple[StoredKey, SimilarPrompt]:
    key = reply_key(text)
    prompt = similar_prompt(key, "typing")
    assert prompt is not None
    return stored_key(key, "get.key", max_text_chars=1000), prompt


def test_a_late_embedding_is_dropped_within_its_budget():
    world = World(timeout_ms=20)

    async def scenario() -> None:
        world.put("What is rain?")
        await asyncio.sleep(1)
        world.embedder.delay_s = 0.5
        for wait_ms, expected_s in ((1000, 0.020), (5, 0.005)):
            began_ns = world.clock.now_ns()
            assert await world.find("Explain rain", wait_ms) is None
            assert (world.clock.now_ns() - began_ns) / 1e9 == pytest.approx(expected_s)
        assert world.similar.counts.failures == 2
        world.embedder.delay_s = 0.015
        assert await world.find("Explain rain") == "re: What is rain?"

    world.run(scenario)


def test_a_prompt_that_goes_while_its_embedding_is_made_gets_no_vector():
    world = World()
    world.embedder.delay_s = 1.0

    async def scenario() -> None:
        key = world.put("What is rain?")
        await asyncio.sleep(0.5)
        list(world.memory.remove_matching(Selector("key", key.name), 10))
        await asyncio.sleep(1)
        assert len(world.embedder.asked) == 1
        assert world.similar.counts.entries == 0

    world.run(scenario)


def test_a_reply_that_goes_while_it_is_looked_for_is_not_given_out():
    world = World(timeout_ms=1000)

    async def scenario() -> None:
        key = world.put("What is rain?")
        await asyncio.sleep(0.1)
        world.embedder.delay_s = 0.5
        finding = asyncio.create_task(world.find("Explain rain"))
        await asyncio.sleep(0.1)
        world.memory.remove(key)
        assert await finding is None
        assert world.similar.counts.misses == 1

    world.run(scenario)


def test_a_reply_that_is_stored_while_it_is_looked_for_is_the_exact_one():
    world = World(timeout_ms=1000)

    async def scenario() -> None:
        world.put("What is rain?")
        await asyncio.sleep(0.1)
        world.embedder.delay_s = 0.3
        key, prompt = asks("Explain rain")
        finding = asyncio.create_task(world.similar.find(key, prompt, world.clock.now_ns(), 1000, Untraced()))
        await asyncio.sleep(0.1)
        world.put("Explain rain")
        hit = await finding
        assert hit is not None
        assert hit.value == ReplyValue("re: Explain rain")
        assert not hit.similar

    world.run(scenario)


def test_the_vector_goes_with_its_entry_when_that_expires():
    world = World()

    async def scenario() -> None:
        world.put("What is rain?")
        await asyncio.sleep(1)
        assert world.similar.counts.entries == 1
        await asyncio.sleep(MINUTE_MS / 1000)
        assert await world.find("Explain rain") is None
        list(world.memory.sweep(100))
        assert (world.similar.counts.entries, world.similar.counts.bytes) == (0, 0)

    world.run(scenario)


def test_so_many_turns_wait_at_once_and_the_others_do_without():
    world = World(timeout_ms=1000)

    async def scenario() -> None:
        world.put("What is rain?")
        await asyncio.sleep(0.1)
        world.embedder.asked.clear()
        world.embedder.delay_s = 0.5
        answers = await asyncio.gather(*(world.find("Explain rain") for _ in range(MOST_ASKED + 5)))
        assert answers.count("re: What is rain?") == MOST_ASKED == len(world.embedder.asked)

    world.run(scenario)


def test_so_many_stored_prompts_wait_and_the_oldest_are_given_up():
    world = World()
    world.embedder.delay_s = 0.01

    async def scenario() -> None:
        for number in range(MOST_QUEUED + 10):
            world.put(f"What is rain of the kind {number}?")
        assert world.similar.counts.dropped == 10
        await asyncio.sleep(60 / 2)
        assert world.similar.counts.entries <= 100
        assert len(world.embedder.asked) == MOST_QUEUED

    world.run(scenario)


def test_a_probe_that_is_cancelled_lets_the_next_one_try():
    world = World(timeout_ms=100)

    async def scenario() -> None:
        world.put("What is rain?")
        await asyncio.sleep(1)
        world.embedder.fails = lambda _: True
        for _ in range(6):
            assert await world.find("Explain rain") is None
        assert world.similar.counts.failures == 5
        world.embedder.fails = lambda _: False
        await asyncio.sleep(6)
        world.embedder.delay_s = 0.05
        probe = asyncio.create_task(world.find("Explain rain"))
        await asyncio.sleep(0.01)
        assert await world.find("Explain rain") is None  # one probe at a time
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert world.embedder.cancelled == 1
        assert await world.find("Explain rain") == "re: What is rain?"

    world.run(scenario)


def test_work_goes_on_behind_an_embedding_that_failed():
    world = World()
    world.embedder.fails = lambda text: "snow" in text

    async def scenario() -> None:
        world.put("What is snow?")
        world.put("What is rain?")
        await asyncio.sleep(1)
        assert (world.similar.counts.entries, world.similar.counts.dropped) == (1, 1)

    world.run(scenario)


def test_what_is_the_same_but_the_last_message_is_one_context():
    base = similar_prompt(reply_key("Hello.", "What is rain?"), "typing")
    assert base is not None
    assert base.text == "what is rain?"
    other = similar_prompt(reply_key("hello", "What is snow?"), "typing")
    assert other is not None
    assert other.context == base.context  # as in the key: what the user typed counts as it is folded
    for changed in (
        reply_key("What is rain?"),
        reply_key("Hallo.", "What is rain?"),
        reply_key("Hello.", "What is rain?", tenant="a"),
        reply_key("Hello.", "What is rain?", llm_revision="a"),
        reply_key("Hello.", "What is rain?", model="a"),
        reply_key("Hello.", "What is rain?", parameters=GenerationParameters(seed=0)),
    ):
        prompt = similar_prompt(changed, "typing")
        assert prompt is not None
        assert prompt.context != base.context


@pytest.mark.parametrize(
    "last",
    [
        Message(ROLE_ASSISTANT, ("What is rain?",)),
        Message(ROLE_USER, ("What?", Image(url="https://example.org/"))),
    ],
)
def test_only_the_text_of_a_user_can_be_similar(last: Message):
    assert similar_prompt(reply_key(messages=(last,)), "typing") is None


def test_loose_matching_leaves_the_guard_its_capitals():
    prompt = similar_prompt(reply_key("Tell US, please."), "loose")
    assert prompt is not None
    assert "US" in prompt.text
