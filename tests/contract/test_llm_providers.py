"""Several providers over real HTTP: each way in which one can fail, and who answers then."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import grpc
import pytest

from services.llm.servicer import FULL_NAME
from tests.contract.llm_harness import GUARD_S, PATIENT, Failure, House, settings
from tests.support.openai_server import TEXT, OpenAiServer, Reply, tokens_of
from voicemesh.llm.v1 import llm_pb2
from voicemesh.runtime import trace_names as names

FIRST = Reply(tokens=("I am", " the first."))
SECOND = Reply(tokens=("I am", " the second."))
BROKEN = llm_pb2.GenerateNotice.KIND_FALLBACK


@contextlib.asynccontextmanager
async def _two(
    target: str, *, first: dict[str, Any] | None = None, **variables: Any
) -> AsyncIterator[tuple[House, OpenAiServer, OpenAiServer]]:
    """Start the service in front of two providers; `first` changes the declaration of the first."""
    async with OpenAiServer(default=FIRST) as one, OpenAiServer(default=SECOND) as two:
        declared = [
            PATIENT
            | {"name": "one", "base_url": one.base_url, "model": "m-one", "max_retries": 0}
            | (first or {}),
            PATIENT | {"name": "two", "base_url": two.base_url, "model": "m-two", "max_retries": 0},
        ]
        async with House(settings(llm_providers=declared, **variables), target) as house:
            yield house, one, two


def _kinds(call: Any) -> list[int]:
    return [response.notice.kind for response in call.responses if response.HasField("notice")]


FAILURES = {
    "429 with Retry-After": Reply.error(429, retry_after="3600"),
    "429 with a date": Reply.error(429, retry_after=formatdate(4_000_000_000, usegmt=True)),
    "500": Reply.error(500),
    "refused key": Reply.error(401),
    "garbage": Reply.raw(b"data: {nonsense\n\n"),
    "not its protocol": Reply.raw(b"<html>busy</html>"),
    "nothing": Reply.raw(b""),
    "reset before the first token": Reply(cut_after=0),
    "silence before the headers": Reply(hangs_before_headers=True),
    "silence before the first token": Reply(hangs_after=0),
}


@pytest.mark.parametrize("reply", FAILURES.values(), ids=FAILURES)
async def test_the_next_answers_whatever_befalls_the_first(unix_address: str, reply: Reply) -> None:
    async with _two(unix_address, first={"first_token_timeout_s": 1.0}) as (house, one, two):
        # Both clients are loaded before, so that the silence is the provider's.
        await house.hosted.start()
        await one.probe(0)
        one.script(reply)
        call = await house.ask()
        assert call.text == "I am the second."
        assert _kinds(call) == [BROKEN]
        assert (call.finished.provider, call.finished.model) == ("two", "m-two")
        assert [server.requests[0].body["model"] for server in (one, two)] == ["m-one", "m-two"]
        spans = await house.all_spans()
        chats = [span for span in spans if span.name.startswith("chat")]
        failed, answered = sorted(chats, key=lambda span: span.attributes.get("voicemesh.attempt", 0))
        assert failed.attributes["error.type"].startswith("LLM_")
        assert failed.attributes["gen_ai.provider.name"] == "one"
        assert "error.type" not in answered.attributes
        assert answered.attributes["gen_ai.response.model"] == "m-two"
        assert answered.parent.span_id == failed.parent.span_id
        https = {span.parent.span_id: span for span in spans if span.name == "POST"}
        asked = https[answered.context.span_id]
        assert two.requests[0].headers["traceparent"].split("-")[2] == f"{asked.context.span_id:016x}"
        assert failed.context.span_id in https
        (call_span,) = [span for span in spans if span.name == f"{FULL_NAME}/Generate"]
        (event,) = call_span.events
        assert event.name == names.FAILED_OVER
        assert event.attributes[names.PROVIDER] == "two"
        assert event.attributes[names.ERROR_TYPE] == failed.attributes["error.type"]


async def test_nobody_listens_at_the_first(unix_address: str) -> None:
    async with _two(unix_address, first={"base_url": "http://127.0.0.1:9/v1"}) as (house, _, _two_server):
        call = await house.ask()
        assert call.text == "I am the second."


async def test_the_first_turn_pays_no_retries_for_one_that_was_not_reached_at_start(
    unix_address: str,
) -> None:
    dead = {"base_url": "http://127.0.0.1:9/v1", "max_retries": 2}
    async with _two(unix_address, first=dead) as (house, _, _two_server):
        await house.hosted.start()
        async with asyncio.timeout(GUARD_S):
            while not house.hosted.unreachable:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.005)
        call = await house.ask()
        assert call.text == "I am the second."
        (notice,) = [response.notice for response in call.responses if response.HasField("notice")]
        assert notice.kind == BROKEN
        assert notice.detail.startswith("one was not reached yet: ")


BREAKS = {
    "reset in the middle": Reply(tokens=("I am", " the", " first", " of", " two."), cut_after=3),
    "silence in the middle": Reply(tokens=("I am", " the", " first", " of", " two."), hangs_after=3),
    "end without a reason": Reply(tokens=("I am", " the", " first"), finish_reason=None),
    "an error as an event": Reply.raw(
        b'data: {"choices": [{"delta": {"content": "I am the first"}}]}\n\n'
        b'data: {"error": {"message": "overloaded"}}\n\n'
    ),
}


@pytest.mark.parametrize("reply", BREAKS.values(), ids=BREAKS)
async def test_the_next_goes_on_where_the_first_broke_off(unix_address: str, reply: Reply) -> None:
    async with _two(unix_address, first={"idle_timeout_s": 0.5}) as (house, one, two):
        one.script(reply)
        # It repeats the sentence that was begun, and goes on.
        two.script(Reply(tokens=tuple("I am the first of two.")))
        call = await house.ask()
        assert call.text == "I am the first of two."
        assert _kinds(call) == [BROKEN, llm_pb2.GenerateNotice.KIND_RESUMED]
        assert call.finished.provider == "two"
        assert two.requests[0].body["messages"][-2]["content"] == "I am the"


async def test_a_server_that_continues_by_itself_is_told_to(unix_address: str) -> None:
    changes = {"continues_by": "prefill", "max_retries": 1}
    async with _two(unix_address, first=changes) as (house, one, _):
        one.script(Reply(tokens=("I am", " the", " fir"), cut_after=3), Reply(tokens=("st.",)))
        call = await house.ask()
        assert call.text == "I am the first."
        body = one.requests[1].body
        assert body["messages"][-1] == {"role": "assistant", "content": "I am the fir"}
        assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


async def test_inline_reasoning_and_calls_of_tools_are_no_text(unix_address: str) -> None:
    async with _two(unix_address) as (house, one, _):
        one.script(
            Reply(tokens=tuple("<think>hm, two?</think>\n\nFour.")),
            Reply(
                chunks=[{"tool_calls": [{"index": 0, "function": {"name": "f"}}]}], finish_reason="tool_calls"
            ),
        )
        assert (await house.ask()).text == "Four."
        call = await house.ask()
        assert call.kinds == ["ready", "finished"]
        assert call.finished.reason == llm_pb2.FINISH_REASON_TOOL_CALLS


async def test_callers_may_name_what_the_list_has(unix_address: str) -> None:
    async with _two(unix_address) as (house, one, two):
        call = await house.ask(model="m-two")
        assert (call.finished.provider, len(one.requests), len(two.requests)) == ("two", 0, 1)
        failure: Failure = await house.fails(model="m-three")
        assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL")
        assert "m-one, m-two" in failure.message


async def test_keys_and_headers_are_those_of_each(unix_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_ONE", "sk-one")
    monkeypatch.setenv("TEAM", "blue")
    first = {"api_key_env": "KEY_OF_ONE", "headers": {"X-Team": "$TEAM"}, "max_retries": 0}
    async with _two(unix_address, first=first) as (house, one, two):
        one.script(Reply.error(500))
        await house.ask()
        assert one.requests[0].headers["authorization"] == "Bearer sk-one"
        assert one.requests[0].headers["x-team"] == "blue"
        assert "sk-one" not in json.dumps(two.requests[0].headers)


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_what_a_provider_asks_for_holds_for_all_turns(unix_address: str, form: str) -> None:
    # Now: tests may be collected minutes before they run.
    retry_after = "60" if form == "seconds" else formatdate(time.time() + 60, usegmt=True)
    async with _two(unix_address, first={"max_retries": 2}) as (house, one, two):
        one.script(Reply.error(429, retry_after=retry_after))
        calls = [await house.ask() for _ in range(3)]
        assert [call.text for call in calls] == ["I am the second."] * 3
        assert [_kinds(call) for call in calls] == [[BROKEN]] * 3
        assert (len(one.requests), len(two.requests)) == (1, 3)


async def test_wherever_a_stream_breaks_every_word_is_told_once(unix_address: str) -> None:
    # One that always breaks is left alone soon: here it is not.
    first = {"breaker": {"failures": 1000}, "max_retries": 1}
    async with _two(unix_address, first=first, llm_retry_percent=100.0) as (house, one, _):
        tokens = tokens_of(TEXT)
        for broke_at in range(1, len(tokens) + 1):
            sentence = TEXT.rfind(". ", 0, len("".join(tokens[:broke_at]))) + 2
            again = TEXT if broke_at % 2 else TEXT[max(sentence, 2) if sentence > 1 else 0 :]
            one.script(Reply(tokens=tokens, cut_after=broke_at), Reply(tokens=tokens_of(again)))
            call = await house.ask()
            assert call.text == TEXT, broke_at


@pytest.mark.parametrize("share", [1.0, 0.3])
async def test_a_thousand_turns_ask_a_failing_server_no_more_than_a_tenth_more(
    unix_address: str, share: float
) -> None:
    draws = random.Random(5)
    replies = [Reply.error(500) if draws.random() < share else Reply(tokens=("Hi",)) for _ in range(3000)]
    async with OpenAiServer() as server:
        server.script(*replies)
        # A breaker would ask it less: this is the budget alone.
        declared = [
            {
                "name": "one",
                "base_url": server.base_url,
                "model": "m",
                "max_retries": 2,
                "breaker": {"failures": 1000, "window_s": 0.001},
            }
        ]
        async with House(settings(llm_providers=declared), unix_address) as house:
            ended = {True: 0, False: 0}

            async def ask(_: int) -> None:
                async with places:
                    call = house.call()
                    await call.start()
                    try:
                        await call.to_the_end()
                        ended[True] += 1
                    except grpc.aio.AioRpcError:
                        ended[False] += 1

            places = asyncio.Semaphore(20)
            async with asyncio.timeout(GUARD_S * 4):
                await asyncio.gather(*(ask(number) for number in range(1000)))
        assert sum(ended.values()) == 1000
        assert 1000 < len(server.requests) <= 1100
        if share == 1.0:
            assert ended[True] == 0


async def test_the_first_that_is_ready_is_enough_to_serve(unix_address: str) -> None:
    async with _two(unix_address) as (house, one, two):
        one.models = Reply.error(500)
        await house.hosted.start()
        async with asyncio.timeout(GUARD_S):
            while not house.readiness.serving:
                await house.readiness.changed()
        await one.probe(0)
        assert len(two.probes) == 1


async def test_an_idle_provider_is_kept_warm_over_one_connection(unix_address: str) -> None:
    async with _two(unix_address, llm_keep_warm_s=0.05) as (house, one, two):
        await house.hosted.start()
        for server in (one, two):
            async with asyncio.timeout(GUARD_S):
                await server.probe(3)
        await house.ask()
        assert one.connections == 1


async def test_a_late_first_token_is_asked_of_the_next_too(unix_address: str) -> None:
    async with _two(unix_address, llm_hedge_percent=100.0) as (house, one, two):
        for _ in range(20):
            await house.ask()
        one.script(Reply(hangs_after=0))
        call = await house.ask()
        assert call.text == "I am the second."
        async with asyncio.timeout(GUARD_S):
            await one.requests[20].disconnected.wait()
        assert len(two.requests) >= 1
