"""The LLM service in front of a provider over real HTTP: what goes there, what comes back, what breaks."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from opentelemetry.trace import SpanKind

from tests.contract.llm_harness import GUARD_S, TRACE_ID, House, message, openai_house, settings
from tests.support.openai_server import TEXT, OpenAiServer, Reply, Request, tokens_of
from voicemesh.common.v1 import common_pb2
from voicemesh.llm.v1 import llm_pb2
from voicemesh.runtime import trace_names as names

Line = tuple[House, OpenAiServer]


@pytest.fixture
async def line(unix_address: str) -> AsyncGenerator[Line, None]:
    async with openai_house(unix_address, OPENAI_API_KEY="sk-test") as line:
        yield line


async def _disconnected(request: Request) -> None:
    async with asyncio.timeout(GUARD_S):
        await request.disconnected.wait()


async def test_a_reply_with_usage_model_and_reason(line: Line) -> None:
    house, server = line
    server.script(Reply(tokens=("Hel", "lo."), usage=(11, 2, 8), model="m-2024", finish_reason="length"))
    call = await house.ask()
    assert call.kinds == ["ready", "delta", "finished"]
    assert call.text == "Hello."
    assert call.finished == llm_pb2.GenerateFinished(
        turn_id="turn-1",
        reason=llm_pb2.FINISH_REASON_LENGTH,
        usage=common_pb2.TokenUsage(input_tokens=11, output_tokens=2, cached_input_tokens=8),
        provider="openai",
        model="m-2024",
        total_us=call.finished.total_us,
    )


async def test_a_parameter_that_is_refused_is_left_out_at_once_and_from_then_on(line: Line) -> None:
    house, server = line
    renamed = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    fixed = "Unsupported value: 'temperature' does not support 0.5 with this model."
    server.script(
        Reply.error(400, renamed, code="unsupported_parameter"),
        Reply.error(400, fixed, code="unsupported_value"),
        Reply(tokens=("Hi.",)),
        Reply(tokens=("Hi.",)),
        Reply.error(400, "the prompt is too long"),
    )
    call = await house.ask()
    assert call.kinds == ["ready", "delta", "finished"]
    assert (await house.ask()).text == "Hi."
    first, second, third, fourth = (request.body for request in server.requests)
    assert (first["max_tokens"], first["temperature"], first["top_p"]) == (300, 0.5, 0.85)
    assert (second["max_completion_tokens"], second["temperature"]) == (300, 0.5)
    assert "max_tokens" not in second
    assert "temperature" not in third
    assert fourth == third
    assert (await house.fails()).reason == "LLM_REQUEST_REFUSED"
    assert len(server.requests) == 5


async def test_what_the_provider_is_asked(line: Line) -> None:
    house, server = line
    picture = common_pb2.ContentPart(image=common_pb2.Image(data=b"\x89PNG", media_type="image/png"))
    link = common_pb2.ContentPart(image=common_pb2.Image(url="https://example.org/a.png"))
    await house.ask(
        messages=[message("system", "Be brief."), message("user", "What is this?", picture, link)],
        model="vision-1",
        session_id="session-1",
        parameters=common_pb2.GenerationParameters(
            max_tokens=9, temperature=0.25, top_p=0.5, stop=["END"], seed=42
        ),
    )
    (request,) = server.requests
    assert request.headers["authorization"] == "Bearer sk-test"
    assert request.body == {
        "model": "vision-1",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
                    {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                ],
            },
        ],
        "max_tokens": 9,
        "temperature": 0.25,
        "top_p": 0.5,
        "stop": ["END"],
        "seed": 42,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_the_trace_goes_on_to_the_provider(line: Line) -> None:
    house, server = line
    server.script(Reply(tokens=("Hi",), model="m-2024"))
    await house.ask()
    spans = await house.spans()
    chat, http = spans["chat gpt-4o-mini"], spans["POST"]
    assert http.parent.span_id == chat.context.span_id
    assert http.kind is SpanKind.CLIENT
    assert server.requests[0].headers["traceparent"] == f"00-{TRACE_ID}-{http.context.span_id:016x}-01"
    port = urlsplit(server.base_url).port
    assert dict(http.attributes) == {
        "http.request.method": "POST",
        "url.full": f"{server.base_url}/chat/completions",
        "server.address": "127.0.0.1",
        "server.port": port,
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
    }
    assert [event.name for event in http.events] == ["voicemesh.http.headers"]
    assert chat.attributes["gen_ai.provider.name"] == "openai"
    assert chat.attributes["gen_ai.response.model"] == "m-2024"
    assert chat.attributes["gen_ai.response.id"] == "chatcmpl-scripted"
    assert chat.attributes["server.address"] == "127.0.0.1"


async def test_timings_are_those_of_the_provider(line: Line) -> None:
    house, server = line
    server.script(Reply(tokens=("Hi", "!"), header_delay_s=0.06, ttft_s=0.08, token_interval_s=0.1))
    call = await house.ask()
    timing = next(response.delta.timing for response in call.responses if response.HasField("delta"))
    assert timing.connect_us >= 60_000
    assert timing.ttft_us >= 75_000
    assert call.finished.total_us >= timing.connect_us + timing.ttft_us + 90_000


async def test_connections_are_used_again(line: Line) -> None:
    house, server = line
    for _ in range(3):
        await house.ask()
    assert (len(server.requests), server.connections) == (3, 1)


async def test_reasoning_and_tool_calls_are_not_text_and_refusals_are(line: Line) -> None:
    house, server = line
    server.script(
        Reply(
            chunks=[
                {"reasoning_content": "hmm"},
                {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]},
                {"content": None},
                {"content": "\ud83d"},
                {"content": "\ude00 yes"},
                {"refusal": " but no"},
            ],
            finish_reason="content_filter",
        )
    )
    call = await house.ask()
    assert call.text == "\U0001f600 yes but no"
    assert call.finished.reason == llm_pb2.FINISH_REASON_CONTENT_FILTER


async def test_cancel_closes_the_providers_stream_and_finishes(line: Line) -> None:
    house, server = line
    server.script(Reply(hangs_after=3))
    call = house.call()
    await call.start()
    await call.until("delta")
    await call.say(cancel=llm_pb2.GenerateCancel())
    await call.to_the_end()
    assert call.finished.reason == llm_pb2.FINISH_REASON_CANCELLED
    assert not call.finished.HasField("usage")
    await _disconnected(server.requests[0])


@pytest.mark.parametrize(
    "reply", [Reply(hangs_before_headers=True), Reply(hangs_after=0), Reply(hangs_after=3)]
)
@pytest.mark.parametrize("how", ["cancel", "call"])
async def test_the_providers_stream_is_closed_wherever_it_hangs(line: Line, reply: Reply, how: str) -> None:
    house, server = line
    server.script(reply)
    call = house.call()
    await call.start()
    request = await server.request(0)
    if reply.hangs_after == 3:
        await call.until("delta")
    if how == "cancel":
        await call.say(cancel=llm_pb2.GenerateCancel())
        await call.to_the_end()
        assert call.finished.reason == llm_pb2.FINISH_REASON_CANCELLED
    else:
        call.cancel()
    await _disconnected(request)
    await house.idle()


async def test_a_caller_that_does_not_read_holds_the_provider_and_can_still_go_away(line: Line) -> None:
    house, server = line
    server.script(Reply(tokens=["x" * 10_000] * 5_000))
    call = house.call()
    await call.start()
    request = await server.request(0)
    sent = -1
    async with asyncio.timeout(GUARD_S):
        while sent != request.tokens_sent or not sent:
            sent = request.tokens_sent
            await asyncio.sleep(0.3)  # until nothing more was sent for a while: backpressure has no event
    assert sent < 4_000
    call.cancel()
    await _disconnected(request)
    await house.idle()


async def test_many_small_tokens_are_joined_for_a_caller_that_reads_slowly(line: Line) -> None:
    house, server = line
    tokens = [f" {number}" for number in range(5_000)]
    server.script(Reply(tokens=tokens))
    call = await house.ask()
    assert call.text == "".join(tokens)
    assert len(call.responses) <= len(tokens) + 2


async def test_a_rate_limit_is_waited_for_and_told(line: Line) -> None:
    house, server = line
    server.script(Reply.error(429, retry_after="0.05"), Reply(tokens=("Hi",)))
    call = await house.ask()
    assert call.kinds == ["ready", "notice", "delta", "finished"]
    notice = call.responses[1].notice
    assert notice.kind == llm_pb2.GenerateNotice.KIND_RETRY
    assert "rate limit" in notice.detail
    assert call.text == "Hi"


async def test_a_rate_limit_behind_the_deadline_is_passed_on(line: Line) -> None:
    house, server = line
    server.script(Reply.error(429, retry_after="120"))
    failure = await house.fails()
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LLM_RATE_LIMITED")
    assert failure.retry_ms == 120_000
    assert len(server.requests) == 1


async def test_a_failing_server_is_tried_again_and_then_given_up(line: Line) -> None:
    house, server = line
    server.script(*[Reply.error(500)] * 3)
    call = house.call()
    await call.start()
    failure = await call.failure()
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "LLM_UNAVAILABLE")
    assert failure.retry_ms == 1000
    assert call.kinds == ["ready", "notice"]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("reply", "code", "reason", "words"),
    [
        (Reply.error(401, "bad key sk-test"), "FAILED_PRECONDITION", "LLM_KEY_REFUSED", "OPENAI_API_KEY"),
        (Reply.error(403), "FAILED_PRECONDITION", "LLM_KEY_REFUSED", "OPENAI_API_KEY"),
        (Reply.error(404), "NOT_FOUND", "UNKNOWN_MODEL", "gpt-4o-mini"),
        (
            Reply.error(400, "sk-test: 9000 tokens"),
            "FAILED_PRECONDITION",
            "LLM_REQUEST_REFUSED",
            "9000 tokens",
        ),
        (Reply.error(422), "FAILED_PRECONDITION", "LLM_REQUEST_REFUSED", "HTTP 422"),
    ],
)
async def test_what_the_provider_refuses_is_typed_and_not_repeated(
    line: Line, reply: Reply, code: str, reason: str, words: str
) -> None:
    house, server = line
    server.script(reply)
    failure = await house.fails()
    assert (failure.code.name, failure.reason) == (code, reason)
    assert words in failure.message
    assert "sk-test" not in failure.message
    assert len(server.requests) == 1
    for span in (await house.spans()).values():
        # By the conventions for HTTP it is the status there.
        http_status = str(span.attributes.get("http.response.status_code"))
        assert span.attributes["error.type"] == (http_status if span.name == "POST" else reason)
    assert (await house.ask()).finished


GARBAGE = [
    b"",
    b"<html>busy</html>",
    b"data: {nonsense\n\n",
    b"data: [DONE]\n\n",
    b"data: 42\n\ndata: [DONE]\n\n",
    b"data: [1, 2]\n\ndata: null\n\ndata: [DONE]\n\n",
    b'data: "text"\n\n',
    b"data: \xff\xfe\n\n",
    b"\xff\xfe",
    b'data: {"choices": 3}\n\ndata: {"choices": [7]}\n\ndata: {"choices": [{"delta": {"content": 5}}]}\n\n',
    b'data: {"error": {"message": "overloaded"}}\n\n',
    b'data: {"choices": [{"delta": []}], "usage": "many"}\n\n',
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_is_a_typed_error(line: Line, body: bytes) -> None:
    house, server = line
    server.default = Reply.raw(body)
    failure = await house.fails()
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "LLM_UNAVAILABLE")
    assert len(server.requests) == 3


async def test_an_empty_reply_is_a_valid_end(line: Line) -> None:
    house, server = line
    server.script(Reply(tokens=()))
    call = await house.ask()
    assert call.kinds == ["ready", "finished"]
    assert call.finished.reason == llm_pb2.FINISH_REASON_STOP
    assert call.finished.usage.output_tokens == 0


async def test_a_provider_that_counts_nothing(line: Line) -> None:
    house, server = line
    server.script(Reply(tokens=("Hi",), sends_usage=False))
    call = await house.ask()
    assert call.finished.reason == llm_pb2.FINISH_REASON_STOP
    assert not call.finished.HasField("usage")


BROKEN = [Reply(cut_after=5), Reply(tokens=tokens_of("Hello, this"), finish_reason=None)]


@pytest.mark.parametrize("reply", BROKEN)
async def test_a_stream_that_breaks_in_the_middle_ends_where_that_is_asked_for(
    unix_address: str, reply: Reply
) -> None:
    async with openai_house(unix_address, llm_continue=False) as (house, server):
        server.script(reply)
        call = house.call()
        await call.start()
        failure = await call.failure()
        assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "LLM_STREAM_BROKEN")
        assert call.text
        assert len(server.requests) == 1


@pytest.mark.parametrize("reply", BROKEN)
async def test_a_stream_that_breaks_in_the_middle_goes_on_and_repeats_nothing(
    line: Line, reply: Reply
) -> None:
    house, server = line
    server.script(reply)
    # The model begins anew: every word that was told is dropped.
    call = await house.ask()
    assert call.text == TEXT
    assert call.kinds == ["ready", "delta", "notice", "delta", "finished"]
    (notice,) = [response.notice for response in call.responses if response.HasField("notice")]
    assert notice.kind == llm_pb2.GenerateNotice.KIND_RESUMED
    asked, again = (request.body for request in server.requests)
    assert again["messages"][:-2] == asked["messages"]
    partial, instruction = again["messages"][-2:]
    assert partial["role"] == "assistant"
    assert TEXT.startswith(partial["content"])
    assert instruction["role"] == "user"


async def test_a_stream_that_breaks_before_its_first_text_is_asked_for_again(line: Line) -> None:
    house, server = line
    server.script(Reply(cut_after=0), Reply(tokens=("Hi",)))
    call = await house.ask()
    assert call.kinds == ["ready", "notice", "delta", "finished"]


async def test_a_reply_that_is_complete_stands_though_its_usage_is_cut_off(line: Line) -> None:
    house, server = line
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
    server.script(Reply.raw(f"data: {json.dumps(chunk)}\n\ndata: {{nonsense\n\n".encode()))
    call = await house.ask()
    assert call.text == "Hi"
    assert call.finished.reason == llm_pb2.FINISH_REASON_STOP


async def test_a_provider_that_hangs_ends_with_the_total_timeout(unix_address: str) -> None:
    async with openai_house(unix_address, llm_total_timeout_s=0.5) as (house, server):
        # The client is loaded before, so that the timeout is the provider's.
        await house.hosted.start()
        await _serving(house)
        server.script(Reply(hangs_before_headers=True))
        failure = await house.fails()
        assert (failure.code, failure.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        await _disconnected(server.requests[0])


async def test_no_connection_at_all(unix_address: str) -> None:
    async with House(settings(OPENAI_BASE_URL=_nobody()), unix_address) as house:
        failure = await house.fails()
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "LLM_UNAVAILABLE")
    assert "cannot be reached" in failure.message


def _nobody() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


async def _serving(house: House) -> None:
    async with asyncio.timeout(GUARD_S):
        while not house.readiness.serving:
            await house.readiness.changed()


@pytest.mark.parametrize(
    "models", [OpenAiServer().models, Reply.error(404), Reply.error(405), Reply.raw(b"<html>")]
)
async def test_serving_once_the_provider_was_reached(line: Line, models: Reply) -> None:
    house, server = line
    server.models = models
    await house.hosted.start()
    await _serving(house)
    assert server.probes[0].path == "/v1/models"
    assert server.probes[0].headers["authorization"] == "Bearer sk-test"


@pytest.mark.parametrize("models", [Reply.error(401), Reply.error(500)])
async def test_not_serving_until_the_provider_can_be_used(
    line: Line, models: Reply, capsys: pytest.CaptureFixture[str]
) -> None:
    house, server = line
    good, server.models = server.models, models
    await house.hosted.start()
    await server.probe(0)
    # Calls are tried all the same.
    assert (await house.ask()).finished
    assert not house.readiness.serving
    server.models = good
    await _serving(house)
    assert len(server.probes) == 2


async def test_not_serving_where_nobody_answers(unix_address: str) -> None:
    async with House(settings(OPENAI_BASE_URL=_nobody()), unix_address) as house:
        await house.hosted.start()
        failure = await house.fails()
        assert failure.reason == "LLM_UNAVAILABLE"
        assert not house.readiness.serving


async def test_twenty_replies_at_once_keep_apart(line: Line) -> None:
    house, server = line
    server.script(*(Reply(tokens=[f" {number}"] * 30, token_interval_s=0.001) for number in range(20)))
    calls: list[Any] = await asyncio.gather(*(house.ask() for _ in range(20)))
    assert sorted(call.text for call in calls) == sorted(f" {number}" * 30 for number in range(20))


async def test_text_is_in_spans_only_where_that_is_asked_for(line: Line) -> None:
    house, server = line
    for content in (False, True):
        house.runtime.telemetry.content = content
        server.script(Reply(tokens=("Blue", " light", ".")))
        picture = common_pb2.ContentPart(image=common_pb2.Image(url="https://example.org/a.png"))
        messages = [message("system", "Be brief."), message("user", "Why blue?", picture)]
        parameters = common_pb2.GenerationParameters(stop=["END"])
        await house.ask(messages=messages, parameters=parameters)
    without, chat = [span for span in await house.all_spans() if span.name.startswith("chat")]
    assert not {"Blue", "brief", "END"} & set(str(without.to_json()).split())
    for name in (names.SYSTEM_INSTRUCTIONS, names.INPUT_MESSAGES, names.OUTPUT_MESSAGES, names.REQUEST_STOP):
        assert name not in without.attributes
    told = {name: json.loads(chat.attributes[name]) for name in (names.INPUT_MESSAGES, names.OUTPUT_MESSAGES)}
    assert json.loads(chat.attributes[names.SYSTEM_INSTRUCTIONS]) == [
        {"type": "text", "content": "Be brief."}
    ]
    assert told[names.INPUT_MESSAGES] == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "Why blue?"},
                {"type": "uri", "modality": "image", "uri": "https://example.org/a.png"},
            ],
        }
    ]
    assert told[names.OUTPUT_MESSAGES] == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "Blue light."}],
            "finish_reason": "stop",
        }
    ]
    assert chat.attributes[names.REQUEST_STOP] == ("END",)
