"""The LLM service, over gRPC, with the rehearsal model: what the contract promises of every provider."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.contract.llm_harness import (
    PARENT_ID,
    PROMPT,
    TRACE_ID,
    AnyHouse,
    House,
    message,
    settings,
)
from voicemesh.common.v1 import common_pb2
from voicemesh.llm.v1 import llm_pb2

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
async def house(unix_address: str) -> AnyHouse:
    async with House(settings(), unix_address) as house:
        yield house


@pytest.fixture
async def slow_house(unix_address: str) -> AnyHouse:
    """The first token comes at once, the second in an hour."""
    async with House(settings(rehearsal_tokens_per_s=0.0003), unix_address) as house:
        yield house


async def test_a_reply_comes_in_the_order_of_the_contract(house: House) -> None:
    call = await house.ask()
    assert call.kinds == ["ready", "delta", "finished"]
    assert call.text.startswith("This is a rehearsal, ")
    assert "sky" in call.text
    deltas = [response.delta for response in call.responses if response.HasField("delta")]
    assert all(delta.text and delta.turn_id == "turn-1" for delta in deltas)
    assert [delta.HasField("timing") for delta in deltas] == [True] + [False] * (len(deltas) - 1)
    assert deltas[0].timing.ttft_us >= 1000
    finished = call.finished
    assert (finished.turn_id, finished.provider, finished.model) == ("turn-1", "rehearsal", "rehearsal")
    assert finished.reason == llm_pb2.FINISH_REASON_STOP
    assert finished.usage.input_tokens == 5
    assert finished.usage.output_tokens > 50
    assert finished.total_us >= deltas[0].timing.connect_us + deltas[0].timing.ttft_us


async def test_ready_comes_before_start_is_read(house: House) -> None:
    call = house.call()
    ready = (await call.next()).ready
    assert (ready.provider, ready.model) == ("rehearsal", "rehearsal")
    assert len(ready.revision) == 12


async def test_a_caller_that_never_starts_gets_a_clean_end(house: House) -> None:
    call = house.call()
    await call.half_close()
    await call.to_the_end()
    assert call.kinds == ["ready"]


async def test_the_same_prompt_gets_the_same_reply(house: House) -> None:
    replies = await asyncio.gather(*(house.ask() for _ in range(5)))
    assert len({reply.text for reply in replies}) == 1


async def test_history_parameters_and_length(house: House) -> None:
    messages = [
        message("system", "Be brief."),
        message("user", "I like Jupiter"),
        message("assistant", "So do I."),
    ]
    call = await house.ask(messages=[*messages, message("user", PROMPT)])
    assert "A moment ago it was Jupiter" in call.text
    call = await house.ask(parameters=common_pb2.GenerationParameters(max_tokens=3))
    assert call.text == "This is a"
    assert call.finished.reason == llm_pb2.FINISH_REASON_LENGTH


async def test_cancel_ends_the_reply_with_finished(slow_house: House) -> None:
    call = slow_house.call()
    await call.start()
    await call.until("delta")
    await call.say(cancel=llm_pb2.GenerateCancel())
    await call.to_the_end()
    assert call.finished.reason == llm_pb2.FINISH_REASON_CANCELLED
    assert call.finished.usage.output_tokens == 1
    assert (await slow_house.spans())["chat rehearsal"].attributes["gen_ai.response.finish_reasons"] == (
        "cancelled",
    )


async def test_a_caller_that_goes_away_ends_the_work(slow_house: House) -> None:
    call = slow_house.call()
    await call.start()
    await call.until("delta")
    assert len(slow_house.runtime.sessions) > 0
    call.cancel()
    spans = await slow_house.spans()
    assert spans["voicemesh.llm.v1.LlmService/Generate"].attributes["rpc.response.status_code"] == "CANCELLED"
    assert "error.type" not in spans["chat rehearsal"].attributes


async def test_half_close_does_not_cancel(house: House) -> None:
    call = await house.ask()
    assert call.finished.reason == llm_pb2.FINISH_REASON_STOP


async def test_the_deadline_of_the_call_bounds_the_reply(slow_house: House) -> None:
    call = slow_house.call(timeout_s=0.3)
    await call.start()
    failure = await call.failure()
    assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await slow_house.idle()


async def test_the_total_timeout_is_a_typed_error(unix_address: str) -> None:
    async with House(settings(llm_total_timeout_s=0.1, rehearsal_tokens_per_s=0.001), unix_address) as house:
        failure = await house.fails()
    assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert failure.reason == "DEADLINE_EXCEEDED"
    assert "within 0.1 s" in failure.message


async def test_a_model_that_is_not_there(house: House) -> None:
    failure = await house.fails(model="gpt-4o")
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL")


START: dict[str, Any] = {"start": llm_pb2.GenerateStart(turn_id="t", messages=[message("user", "Hi")])}
CANCEL: dict[str, Any] = {"cancel": llm_pb2.GenerateCancel()}


@pytest.mark.parametrize(
    ("says", "field"),
    [([CANCEL], "cancel"), ([START, START], "start"), ([{}], "event"), ([START, {}], "event")],
    ids=["cancel first", "second start", "nothing", "nothing later"],
)
async def test_messages_out_of_order(slow_house: House, says: list[dict[str, Any]], field: str) -> None:
    call = slow_house.call()
    for event in says:
        await call.say(**event)
    failure = await call.failure()
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "OUT_OF_ORDER")
    assert failure.fields == [field]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": [message("system", "Be brief.")]}, "start.messages[0].role"),
        ({"messages": [message("unspecified", "Hi")]}, "start.messages[0].role"),
        ({"messages": [message("user")]}, "start.messages[0].parts"),
        ({"messages": [message("user", "   ")]}, "start.messages[0].parts"),
        ({"messages": [message("user", common_pb2.ContentPart())]}, "start.messages[0].parts[0]"),
        ({"messages": [message("user", "x" * 200_001)]}, "start.messages"),
        ({"parameters": common_pb2.GenerationParameters(temperature=3)}, "start.parameters.temperature"),
        ({"parameters": common_pb2.GenerationParameters(top_p=0)}, "start.parameters.top_p"),
        ({"parameters": common_pb2.GenerationParameters(max_tokens=0)}, "start.parameters.max_tokens"),
        ({"parameters": common_pb2.GenerationParameters(stop=list("abcde"))}, "start.parameters.stop"),
    ],
)
async def test_wrong_fields_are_named_and_other_calls_go_on(
    house: House, fields: dict[str, Any], field: str
) -> None:
    failure = await house.fails(**fields)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert failure.fields == [field]
    assert (await house.ask()).finished


async def test_no_messages_at_all(house: House) -> None:
    call = house.call()
    await call.say(start=llm_pb2.GenerateStart(turn_id="t"))
    assert (await call.failure()).fields == ["start.messages"]


async def test_one_turn_is_two_spans_with_the_right_parents(house: House) -> None:
    await house.ask(session_id="session-1", parameters=common_pb2.GenerationParameters(max_tokens=7))
    spans = await house.spans()
    server = spans["voicemesh.llm.v1.LlmService/Generate"]
    chat = spans["chat rehearsal"]
    assert f"{server.context.trace_id:032x}" == TRACE_ID
    assert f"{server.parent.span_id:016x}" == PARENT_ID
    assert server.kind.name == "SERVER"
    assert (chat.parent.span_id, chat.context.trace_id) == (server.context.span_id, server.context.trace_id)
    assert chat.kind.name == "CLIENT"
    assert server.start_time <= chat.start_time <= chat.end_time <= server.end_time
    attributes = dict(chat.attributes)
    assert attributes.pop("gen_ai.response.time_to_first_chunk") > 0
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "rehearsal",
        "gen_ai.request.model": "rehearsal",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.85,
        "gen_ai.output.type": "text",
        "gen_ai.conversation.id": "session-1",
        "gen_ai.response.model": "rehearsal",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 0,
    }


async def test_a_patient_caller_gets_the_same_text(house: House) -> None:
    call = house.call()
    await call.start("Why?")
    await call.until("delta")
    await call.say(patience=llm_pb2.GeneratePatience(join_ms=1000))
    await call.to_the_end()
    hurried = house.call()
    await hurried.start("Why?")
    await hurried.to_the_end()
    texts = [[r.delta.text for r in c.responses if r.HasField("delta")] for c in (call, hurried)]
    assert "".join(texts[0]) == "".join(texts[1])


@pytest.mark.parametrize(("join_ms", "started"), [(1001, True), (1, False)])
async def test_patience_that_is_not_allowed(house: House, join_ms: int, started: bool) -> None:
    call = house.call()
    if started:
        await call.start("Why?")
    await call.say(patience=llm_pb2.GeneratePatience(join_ms=join_ms))
    failure = await call.failure()
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.fields == ["patience.join_ms" if started else "patience"]


async def test_the_trace_of_a_stream_that_stood_by_comes_with_its_start(house: House) -> None:
    call = house.call()
    await call.next()
    own = f"00-{'ab' * 16}-{'cd' * 8}-01"
    await call.start("Why?", traceparent=own)
    await call.to_the_end()
    server = (await house.spans())["voicemesh.llm.v1.LlmService/Generate"]
    assert f"{server.context.trace_id:032x}" == "ab" * 16
    assert f"{server.parent.span_id:016x}" == "cd" * 8


async def test_a_drain_ends_streams_that_stand_by_and_no_other(house: House) -> None:
    standing, busy = house.call(), house.call()
    await standing.next()
    await busy.start("Why?")
    await busy.until("delta")
    await house.hosted.drain()
    assert [r.WhichOneof("event") for r in (await standing.to_the_end()).responses] == ["ready"]
    await busy.until("finished")


async def test_a_failed_turn_marks_its_spans(house: House) -> None:
    await house.fails(model="gpt-4o")
    for span in (await house.spans()).values():
        assert span.attributes["error.type"] == "UNKNOWN_MODEL"
        assert not span.status.is_ok


async def test_rehearsal_can_work_at_once(house: House) -> None:
    await house.hosted.start()
    while not house.readiness.serving:
        await house.readiness.changed()


async def test_the_revision_changes_with_what_changes_replies(unix_address: str) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {},
        {"llm_max_tokens": 200},
        {"llm_temperature": 0.6},
        {"rehearsal_ttft_ms": 9},
        {"OPENAI_BASE_URL": "http://127.0.0.1:1"},
    ]
    revisions = []
    for number, change in enumerate(changes):
        async with House(settings(**change), f"{unix_address}{number}") as house:
            revisions.append((await house.call().next()).ready.revision)
    assert revisions[0] == revisions[1] == revisions[4]
    assert len(set(revisions)) == 4
