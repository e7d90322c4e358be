"""What the LLM service measures, with real HTTP to providers that answer, fail, are late and break off."""

import pytest

from services.llm import instruments
from tests.contract.llm_harness import GUARD_S, TRACE_ID, openai_house
from tests.contract.test_llm_providers import _two
from tests.support.openai_server import Reply
from voicemesh.llm.v1 import llm_pb2
from voicemesh.runtime.breaker_metrics import BREAKER_STATE

LABELS = ("chat", "openai", "gpt-4o-mini")


async def test_a_question_is_measured_by_the_conventions(unix_address: str) -> None:
    async with openai_house(unix_address) as (house, server):
        server.script(Reply(tokens=("Hello", " there."), usage=(11, 7, 0), ttft_s=0.05))
        await house.ask()
        await house.idle()
        measured = house.measured
        duration = measured.value(instruments.DURATION, *LABELS)
        first = measured.value(instruments.TO_FIRST_CHUNK, *LABELS)
        assert (duration.count, first.count) == (1, 1)
        assert 0.05 <= first.sum <= duration.sum
        tokens = measured.points(instruments.TOKENS)
        assert tokens[(*LABELS, "input")].sum == 11
        assert tokens[(*LABELS, "output")].sum == 7
        # The exemplar leads to the trace of the caller.
        assert duration.trace_ids == (TRACE_ID,)


async def test_failures_and_retries_are_counted_by_their_reason(unix_address: str) -> None:
    async with openai_house(unix_address) as (house, server):
        server.script(Reply.error(503), Reply.error(429, retry_after="0.01"))
        await house.ask()
        await house.idle()
        measured = house.measured
        durations = measured.points(instruments.DURATION)
        assert {labels: each.count for labels, each in durations.items()} == {
            ("LLM_UNAVAILABLE", *LABELS): 1,
            ("LLM_RATE_LIMITED", *LABELS): 1,
            LABELS: 1,
        }
        assert measured.points(instruments.RETRIES) == {
            ("LLM_UNAVAILABLE", "openai"): 1,
            ("LLM_RATE_LIMITED", "openai"): 1,
        }
        assert measured.value(instruments.FAILOVERS) == 0


async def test_what_was_cancelled_has_no_duration(unix_address: str) -> None:
    async with openai_house(unix_address) as (house, server):
        server.script(Reply(hangs_after=1))
        call = house.call()
        await call.start()
        await call.until("delta")
        await call.say(cancel=llm_pb2.GenerateCancel())
        await call.to_the_end()
        await house.idle()
        assert house.measured.points(instruments.DURATION) == {}
        assert house.measured.value(instruments.TO_FIRST_CHUNK, *LABELS).count == 1


async def test_a_model_that_only_its_caller_named_is_no_label(unix_address: str) -> None:
    async with openai_house(unix_address) as (house, _server):
        await house.ask(model="what-a-caller-writes")
        await house.ask()
        await house.idle()
        models = {labels[-1] for labels in house.measured.points(instruments.DURATION)}
        assert models == {"other", "gpt-4o-mini"}


async def test_a_failover_and_the_breaker_that_it_opens_are_told(unix_address: str) -> None:
    breaker = {"breaker": {"failures": 1, "open_s": 600}}
    async with _two(unix_address, first=breaker) as (house, one, _two_server):
        measured = house.measured
        assert measured.points(BREAKER_STATE) == {("one",): 0, ("two",): 0}
        one.script(Reply.error(500))
        assert (await house.ask()).text == "I am the second."
        assert measured.value(instruments.FAILOVERS) == 1
        assert measured.points(BREAKER_STATE) == {("one",): 2, ("two",): 0}
        assert (await house.ask()).text == "I am the second."
        assert measured.value(instruments.FAILOVERS) == 2  # it was left alone


async def test_a_reply_that_broke_off_and_went_on_is_counted(unix_address: str) -> None:
    async with _two(unix_address) as (house, one, two):
        one.script(Reply(tokens=("I am", " the", " first", " of", " two."), cut_after=3))
        two.script(Reply(tokens=(" of", " them", " all.")))
        await house.ask()
        assert house.measured.value(instruments.CONTINUATIONS) == 1


@pytest.mark.parametrize("second_wins", [True, False])
async def test_hedges_are_counted_by_who_was_faster(unix_address: str, second_wins: bool) -> None:
    async with _two(unix_address, llm_hedge_percent=100.0) as (house, one, two):
        for _ in range(25):  # until it is known what is late
            await house.ask()
        before = house.measured.points(instruments.HEDGES)
        one.script(Reply(tokens=("I am", " late."), header_delay_s=GUARD_S if second_wins else 0.5))
        two.script(Reply(tokens=("I am", " the second."), header_delay_s=0.0 if second_wins else GUARD_S))
        call = await house.ask()
        assert call.text == ("I am the second." if second_wins else "I am late.")
        hedges = house.measured.points(instruments.HEDGES)
        grown = {labels: count - before[labels] for labels, count in hedges.items()}
        assert grown == {("true",): int(second_wins), ("false",): int(not second_wins)}
