"""Limits of requests that settings say, or that are told where a field is understood: over real calls."""

import asyncio
import pathlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from gateway import prompts
from tests.contract.gateway_harness import GUARD_S, Gateway, Services, running_gateway
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb

_PNG = b"\x89PNG\r\n\x1a\n"
SETTINGS = {
    "gateway_max_prompt_chars": 50,
    "gateway_max_text_chars": 60,
    "gateway_max_image_bytes": 70,
    "gateway_max_images": 2,
}


@dataclass(frozen=True)
class Limited:
    """A field, its limit, and a request that has so much of it."""

    most: int
    request: Callable[[int], Any]
    field: str
    """How an error names it."""


def configured(**fields: Any) -> pb.ConverseRequest:
    return pb.ConverseRequest(configure=pb.Configure(**fields))


def prompted(*parts: common_pb2.ContentPart) -> pb.ConverseRequest:
    return pb.ConverseRequest(prompt=pb.Prompt(parts=[common_pb2.ContentPart(text="a"), *parts]))


def picture(**fields: Any) -> common_pb2.ContentPart:
    return common_pb2.ContentPart(image=common_pb2.Image(**fields))


def spoken(**options: Any) -> pb.SpeakRequest:
    return pb.SpeakRequest(text="Hello.", speech=pb.SpeechOptions(**options))


_URL = "https://x/"
ELSEWHERE = {
    "voicemesh.gateway.v1.Configure.session_id": Limited(
        200, lambda n: configured(session_id="x" * n), "configure.session_id"
    ),
    "voicemesh.gateway.v1.Configure.system_prompt": Limited(
        prompts.MAX_CHARS, lambda n: configured(system_prompt="x" * n), "configure.system_prompt"
    ),
    "voicemesh.gateway.v1.Configure.model": Limited(
        200, lambda n: configured(model="x" * n), "configure.model"
    ),
    "voicemesh.gateway.v1.Configure.channel": Limited(
        128, lambda n: configured(channel="x" * n), "configure.channel"
    ),
    "voicemesh.gateway.v1.Configure.attributes": Limited(
        16, lambda n: configured(attributes={f"a{i}": "v" for i in range(n)}), "configure.attributes"
    ),
    "a name of attributes": Limited(
        64, lambda n: configured(attributes={"a" * n: "v"}), "configure.attributes"
    ),
    "a value of attributes": Limited(
        256, lambda n: configured(attributes={"a": "v" * n}), "configure.attributes.a"
    ),
    "how many stops": Limited(
        4,
        lambda n: configured(parameters=common_pb2.GenerationParameters(stop=["x"] * n)),
        "configure.parameters.stop",
    ),
    "voicemesh.gateway.v1.SpeechOptions.voice": Limited(200, lambda n: spoken(voice="x" * n), "speech.voice"),
    "voicemesh.gateway.v1.SpeechOptions.cache_tags": Limited(
        8, lambda n: spoken(cache_tags=[f"t{i}" for i in range(n)]), "speech.cache_tags"
    ),
    "a tag": Limited(128, lambda n: spoken(cache_tags=["x" * n]), "speech.cache_tags[0]"),
    "voicemesh.common.v1.ContentPart.text": Limited(
        50,
        lambda n: pb.ConverseRequest(prompt=pb.Prompt(parts=[common_pb2.ContentPart(text="x" * n)])),
        "prompt.parts",
    ),
    "voicemesh.common.v1.Image.data": Limited(
        70,
        lambda n: prompted(picture(data=_PNG + b"x" * (n - len(_PNG)), media_type="image/png")),
        "prompt.parts.image.data",
    ),
    "voicemesh.common.v1.Image.url": Limited(
        70, lambda n: prompted(picture(url=_URL + "x" * (n - len(_URL)))), "prompt.parts.image.data"
    ),
    "how many pictures": Limited(2, lambda n: prompted(*[picture(url=_URL)] * n), "prompt.parts"),
    "voicemesh.gateway.v1.TextInput.text": Limited(
        60, lambda n: pb.ConverseRequest(text=pb.TextInput(text="x" * n, last=True)), "text.text"
    ),
    "voicemesh.gateway.v1.SpeakRequest.text": Limited(60, lambda n: pb.SpeakRequest(text="x" * n), "text"),
    "voicemesh.gateway.v1.SpeakBatchRequest.texts": Limited(
        1000, lambda n: pb.SpeakBatchRequest(texts=["a"] * n), "texts"
    ),
    "a text of a batch": Limited(60, lambda n: pb.SpeakBatchRequest(texts=["x" * n]), "texts[0]"),
    "a prompt's turn id": Limited(
        200,
        lambda n: pb.ConverseRequest(
            prompt=pb.Prompt(turn_id="x" * n, parts=[common_pb2.ContentPart(text="a")])
        ),
        "prompt.turn_id",
    ),
    "an interrupt's turn id": Limited(
        200, lambda n: pb.ConverseRequest(interrupt=pb.Interrupt(turn_id="x" * n)), "interrupt.turn_id"
    ),
    "a confirmation's turn id": Limited(
        200, lambda n: pb.ConverseRequest(confirm=pb.Confirm(turn_id="x" * n)), "confirm.turn_id"
    ),
    "a playback's turn id": Limited(
        200, lambda n: pb.ConverseRequest(playback=pb.Playback(turn_id="x" * n)), "playback.turn_id"
    ),
    "a trace of words": Limited(
        256,
        lambda n: pb.ConverseRequest(text=pb.TextInput(text="a", traceparent="x" * n, last=True)),
        "text.traceparent",
    ),
    "a trace of one text": Limited(
        256, lambda n: pb.SpeakRequest(text="a", traceparent="x" * n), "traceparent"
    ),
    "a language": Limited(64, lambda n: pb.ListVoicesRequest(language="x" * n), "language"),
    "a turn to explain": Limited(200, lambda n: pb.ExplainTurnRequest(turn_id="x" * n), "turn_id"),
    "outcomes": Limited(16, lambda n: pb.ListTurnsRequest(outcomes=[pb.TURN_OUTCOME_FAILED] * n), "outcomes"),
}
"""By the field that it is the limit of; those with a name for people are there to be tested over a call."""
IN_MESSAGES = ELSEWHERE
ELSEWHERE = {name: limited for name, limited in ELSEWHERE.items() if name.startswith("voicemesh.")}


async def complaint(gateway: Gateway, request: Any) -> str:
    """Return what a request is refused with; "" where it is taken."""
    async with asyncio.timeout(GUARD_S):
        try:
            match request:
                case pb.ConverseRequest():
                    return await _of_conversation(gateway, request)
                case pb.SpeakRequest():
                    async for _ in gateway.stub.Speak(request):
                        pass
                case pb.SpeakBatchRequest():
                    async for part in gateway.stub.SpeakBatch(request):
                        if part.HasField("failed"):
                            return str(part.failed.status.message)
                case pb.ListVoicesRequest():
                    await gateway.stub.ListVoices(request)
                case pb.ExplainTurnRequest():
                    await gateway.stub.ExplainTurn(request)
                case pb.ListTurnsRequest():
                    async for _ in gateway.stub.ListTurns(request):
                        pass
        except grpc.aio.AioRpcError as error:
            return error.details() or ""
    return ""


async def _of_conversation(gateway: Gateway, request: pb.ConverseRequest) -> str:
    async def requests() -> AsyncIterator[pb.ConverseRequest]:
        if not request.HasField("configure"):
            yield configured()
        yield request

    async for response in gateway.stub.Converse(requests()):
        if response.HasField("turn_failed"):
            return str(response.turn_failed.status.message)
    return ""


async def test_each_field_takes_its_limit_and_no_more(socket_folder: pathlib.Path) -> None:
    async with running_gateway(str(socket_folder), Services(), **SETTINGS) as gateway:
        await gateway.serving()
        for name, limited in IN_MESSAGES.items():
            told = await complaint(gateway, limited.request(limited.most))
            assert not told.startswith(f"{limited.field}: has"), (name, told)
            assert str(limited.most) not in told, (name, told)
            told = await complaint(gateway, limited.request(limited.most + 1))
            assert told.startswith(f"{limited.field}: "), (name, told)
            assert str(limited.most) in told, (name, told)
