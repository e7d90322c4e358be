"""The recorded conversations: what was recorded is what is described."""

from collections import Counter

import pytest

from benchmarks import conversations
from benchmarks.conversations import (
    SYSTEM_PROMPTS,
    Turn,
    common_share,
    ideal,
    load,
    record,
    replies,
    reply_to,
)


def test_the_committed_trace_is_the_one_that_the_generator_makes() -> None:
    assert conversations.PATH.read_text(encoding="utf-8") == conversations.lines(record())


def test_turns_come_in_order_within_two_hours() -> None:
    turns = load()
    assert [turn.at_ms for turn in turns] == sorted(turn.at_ms for turn in turns)
    assert turns[0].at_ms >= 0
    assert turns[-1].at_ms < conversations.LENGTH_MS


def test_a_session_belongs_to_one_tenant() -> None:
    tenants: dict[str, set[str]] = {}
    for turn in load():
        tenants.setdefault(turn.session, set()).add(turn.tenant)
    assert all(len(those) == 1 for those in tenants.values())
    assert len(set.union(*tenants.values())) == 4


def test_common_patterns_have_the_share_that_is_stated() -> None:
    assert 0.3 <= common_share(load()) <= 0.5


def test_every_use_is_there() -> None:
    uses = Counter(turn.use for turn in load())
    assert set(uses) == {"feedback", "phrase", "question", "follow_up", "acknowledgement"}


def test_less_repetition_gives_fewer_hits() -> None:
    shares = [ideal(record(repetition=repetition)).replies for repetition in (1.0, 0.5, 0.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 2 * shares[2]


@pytest.mark.parametrize(
    "typed",
    [
        "What's a pointer?",
        "what's a pointer",
        "What's  a pointer? ",
        "what\N{RIGHT SINGLE QUOTATION MARK}s a pointer",
    ],
)
def test_the_model_answers_alike_however_a_question_is_typed(typed: str) -> None:
    office = SYSTEM_PROMPTS["office"]
    assert reply_to(office, [typed]) == reply_to(office, ["What's a pointer?"])


def test_the_model_answers_a_follow_up_by_what_came_before() -> None:
    office, follow_up = SYSTEM_PROMPTS["office"], "Why is that?"
    after_pointers = reply_to(office, ["What's a pointer?", follow_up])
    assert after_pointers != reply_to(office, ["When are the office hours?", follow_up])


def test_an_ideal_cache_finds_what_was_said_within_its_lifetime_and_tenant() -> None:
    def asked(at_ms: int, tenant: str = "maple-school") -> Turn:
        return Turn(at_ms, tenant, f"{tenant}-{at_ms}", "feedback", "phoneme: TH, error rate: 0-10%")

    turns = [asked(0), asked(10), asked(10, "harbour-school"), asked(100)]
    hits = ideal(turns, reply_ttl_ms=100, audio_ttl_ms=200)
    assert hits.replies == 1 / 4
    assert hits.audio == 2 / 4


def test_each_turn_is_spoken() -> None:
    assert all(reply for _, reply in replies(load()))
