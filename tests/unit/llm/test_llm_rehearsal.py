import asyncio
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llm.core.model import (
    AttemptError,
    Connected,
    FinishReason,
    ImagePart,
    Message,
    ProviderEnd,
    ProviderEvent,
    Role,
    TextPiece,
    Usage,
)
from services.llm.core.rehearsal import RehearsalProvider
from services.llm.core.rehearsal_text import OPENING, compose, tokens_of
from services.llm.core.topics import question_kind_of, topics_of
from tests.support.virtual_time import LoopClock, run_virtual
from tests.unit.llm.virtual import request
from voicemesh.runtime.errors import UnknownModelError

PROMPTS = [
    "Why is the sky blue?",
    "Tell me about the history of the Roman Empire.",
    "how do black holes form",
    "Can penguins fly?",
    "Which is better, tea or coffee?",
    "Explain photosynthesis to a ten year old",
    "¿Por qué el cielo es azul?",
    "为什么天空是蓝色的\uff1f",
    "Почему небо голубое?",
    "لماذا السماء زرقاء؟",
]


async def _events(provider: RehearsalProvider, asked: Any) -> list[tuple[float, ProviderEvent]]:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with aclosing(provider.generate(asked)) as events:
        return [(loop.time() - began_s, event) async for event in events]


def _play(
    *texts: str, ttft_ms: float = 150, tokens_per_s: float = 50, **changes: Any
) -> list[tuple[float, ProviderEvent]]:
    provider = RehearsalProvider(ttft_ms=ttft_ms, tokens_per_s=tokens_per_s, clock=LoopClock())
    return run_virtual(_events(provider, request(*texts, **({"model": "rehearsal"} | changes))))


def _text(events: list[tuple[float, ProviderEvent]]) -> str:
    return "".join(event.text for _, event in events if isinstance(event, TextPiece))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_reply_says_that_it_is_a_rehearsal_and_then_speaks_to_the_topic(prompt: str) -> None:
    reply = compose(prompt)
    assert reply.startswith("This is a rehearsal, ")
    assert all(topic in reply.removeprefix(OPENING) for topic in topics_of(prompt).phrases)
    assert topics_of(prompt).phrases
    sentences = [part for part in reply.replace("?", ".").split(". ") if part]
    assert 4 <= len(sentences) <= 7
    assert reply.endswith(".")
    assert "  " not in reply
    assert "{" not in reply


def test_prompts_get_different_replies_and_the_same_one_the_same() -> None:
    replies = [compose(prompt) for prompt in PROMPTS]
    assert len({reply.removeprefix(OPENING)[:30] for reply in replies}) > 4
    assert len({reply[-60:] for reply in replies}) > 2
    assert replies == [compose(prompt) for prompt in PROMPTS]


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("Why is the sky blue?", ("sky", "blue")),
        ("how do black holes form", ("black holes", "form")),
        ("Tell me about the history of the Roman Empire", ("history", "Roman Empire")),
        ("In one sentence, what is gravity?", ("gravity",)),
        (
            "cat dog, cat dog, cat dog and a hippopotamus with a giraffe and an elephant",
            ("cat dog", "hippopotamus", "elephant"),
        ),
        ("为什么天空是蓝色的\uff1f", ("为什么天空是蓝色的",)),
        ("Hello!", ()),
        ("?! … --", ()),
        ("a b c", ()),
        ("x" * 100, ("x" * 32,)),
    ],
)
def test_topics_are_the_words_that_stand_out(prompt: str, phrases: tuple[str, ...]) -> None:
    assert topics_of(prompt).phrases == phrases


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("Why is the sky blue?", "why"),
        ("Hello, how does it work", "how"),
        ("What's a quark?", "what"),
        ("Can penguins fly?", "yes or no"),
        ("Penguins?", "other"),
        ("I like penguins.", ""),
        ("", ""),
    ],
)
def test_questions_are_told_apart(prompt: str, kind: str) -> None:
    assert question_kind_of(prompt) == kind


def test_a_prompt_without_words_gets_a_sensible_reply() -> None:
    assert compose("???").startswith(f"{OPENING} I found no topic in what you sent")


def test_the_reply_refers_to_what_was_said_before() -> None:
    assert "A moment ago it was pyramids" in compose(
        "Why is the sky blue?", ["Hi", "Who built the pyramids?"]
    )
    assert "A moment ago" not in compose("Why is the sky blue?", ["Hello!"])


@given(st.text(max_size=200), st.lists(st.text(max_size=50), max_size=2))
def test_any_prompt_gets_a_reply(prompt: str, earlier: list[str]) -> None:
    reply = compose(prompt, earlier)
    assert reply.startswith(OPENING)
    assert "".join(tokens_of(reply)) == reply


@given(st.text(max_size=300))
def test_tokens_joined_are_the_text(text: str) -> None:
    tokens = tokens_of(text)
    assert "".join(tokens) == text
    assert all(tokens)


def test_tokens_have_about_four_characters_and_spaces_in_front() -> None:
    reply = compose("Explain photosynthesis to a ten year old")
    tokens = tokens_of(reply)
    assert 3 < len(reply) / len(tokens) < 5
    assert tokens[:4] == ["This", " is", " a", " rehe"]


def test_tokens_come_on_their_schedule() -> None:
    events = _play(ttft_ms=120, tokens_per_s=40)
    times = [at_s for at_s, event in events if isinstance(event, TextPiece)]
    assert events[0] == (0.0, Connected())
    assert times[0] == pytest.approx(0.120, abs=1e-5)
    assert all(later - sooner == pytest.approx(0.025, abs=1e-5) for sooner, later in pairwise(times))
    assert events == _play(ttft_ms=120, tokens_per_s=40)


def test_a_late_token_does_not_delay_those_behind_it() -> None:
    async def story() -> list[float]:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        provider = RehearsalProvider(ttft_ms=100, tokens_per_s=10, clock=LoopClock())
        times = []
        async with aclosing(provider.generate(request(model="rehearsal"))) as events:
            async for event in events:
                if isinstance(event, TextPiece):
                    times.append(loop.time() - began_s)
                    if len(times) == 2:
                        await asyncio.sleep(0.35)
        return times

    times = run_virtual(story())
    assert times[:7] == pytest.approx([0.1, 0.2, 0.55, 0.55, 0.55, 0.6, 0.7], abs=1e-5)


def test_usage_and_reason_come_at_the_end() -> None:
    events = _play()
    (_, usage), (_, end) = events[-2:]
    assert end == ProviderEnd(FinishReason.STOP, "rehearsal")
    assert usage == Usage(input_tokens=5, output_tokens=len(tokens_of(_text(events))))


def test_max_tokens_cuts_the_reply() -> None:
    events = _play(max_tokens=5)
    assert _text(events) == "This is a rehearsa"
    assert events[-1][1] == ProviderEnd(FinishReason.LENGTH, "rehearsal")
    assert events[-2][1] == Usage(5, 5)


def test_the_reply_ends_before_any_stop_text() -> None:
    events = _play(stop=("model", ", so a"))
    assert _text(events) == "This is a rehearsal"
    assert events[-1][1] == ProviderEnd(FinishReason.STOP, "rehearsal")


def test_a_stop_text_at_the_start_leaves_an_empty_reply() -> None:
    events = _play(stop=("This",))
    assert _text(events) == ""
    at_s, end = events[-1]
    assert at_s == pytest.approx(0.15)
    assert end == ProviderEnd(FinishReason.STOP, "rehearsal")


def test_earlier_prompts_of_the_conversation_are_used() -> None:
    assert "it was Jupiter" in _text(_play("Tell me of Jupiter", "Why is the sky blue?"))


def test_pictures_count_in_the_usage() -> None:
    message = Message(Role.USER, (ImagePart(data=b"x", media_type="image/png"),))
    events = _play(messages=(message,), max_tokens=1)
    assert events[-2][1] == Usage(85, 1)


def test_another_model_is_refused_with_advice() -> None:
    with pytest.raises(AttemptError) as caught:
        _play(model="gpt-4o")
    assert isinstance(caught.value.error, UnknownModelError)
    assert "OPENAI_API_KEY" in caught.value.error.message
    assert not caught.value.retryable
