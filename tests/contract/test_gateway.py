"""The gateway and the services behind it, one misbehaving: in one process, over real gRPC."""

import asyncio
import pathlib
from collections.abc import AsyncIterator

import pytest

from gateway.callers import OutboxCaller
from gateway.core import events as on
from gateway.core.values import Message
from gateway.options import speech_choice, text_choice
from gateway.turns import TurnRequest
from tests.contract.gateway_harness import GUARD_S, VOICE, Gateway, Services, running_gateway
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb

PROMPT = pb.Prompt(parts=[common_pb2.ContentPart(text="What is rain?")])


async def ask(gateway: Gateway, timeout_s: float | None = None) -> pb.TurnReport:
    """Ask one prompt; return the report."""
    report = pb.TurnReport()
    ended = asyncio.Event()

    async def requests() -> AsyncIterator[pb.ConverseRequest]:
        yield pb.ConverseRequest(configure=pb.Configure(speech=pb.SpeechOptions(max_lead_ms=0)))
        yield pb.ConverseRequest(prompt=PROMPT)
        await ended.wait()

    async with asyncio.timeout(GUARD_S):
        async for response in gateway.stub.Converse(requests(), timeout=timeout_s):
            if (event := response.WhichOneof("event")) in ("turn_completed", "turn_failed"):
                report = getattr(response, event).report
                ended.set()
    return report


@pytest.mark.parametrize("broken", ["broken_listings", "broken_openings"])
async def test_a_service_that_says_it_serves_and_does_not_answer_is_asked_again(
    socket_folder: pathlib.Path, broken: str
) -> None:
    services = Services()
    setattr(services, broken, 2)
    async with running_gateway(str(socket_folder), services) as gateway:
        await gateway.serving()
        asked = services.listings if broken == "broken_listings" else len(services.time_left["llm"])
        assert asked == 3
        assert gateway.peers.llm_revision == "r1"
        assert list(gateway.peers.voices) == [VOICE.name]
        assert (await ask(gateway)).outcome == pb.TURN_OUTCOME_COMPLETED


@pytest.mark.parametrize(("broken", "service"), [("brief_lookups", "cache"), ("broken_questions", "llm")])
async def test_a_stream_that_is_opened_again_has_what_is_left_of_the_callers_time(
    socket_folder: pathlib.Path, broken: str, service: str
) -> None:
    services = Services(reply_takes_s=400)
    async with running_gateway(str(socket_folder), services) as gateway:
        await gateway.serving()
        services.time_left.clear()
        setattr(services, broken, 1)
        report = await ask(gateway, timeout_s=1000)
    assert report.outcome == pb.TURN_OUTCOME_COMPLETED, report
    first, second = services.time_left[service][:2]
    # gRPC rounds long times up, by a hundredth.
    assert first > 990
    assert 0 < second < 610


async def test_streams_are_not_opened_behind_the_end_of_their_turn(socket_folder: pathlib.Path) -> None:
    services = Services()
    async with running_gateway(str(socket_folder), services) as gateway:
        await gateway.serving()
        services.time_left.clear()
        configure = pb.Configure(bypass_reply_cache=True)
        speech = speech_choice(pb.SpeechOptions(), gateway.peers, gateway.turns.settings, "speech")
        begun = TurnRequest("", "s", 0, Message("user", ("What is rain?",)), new_session=True)
        caller = OutboxCaller(lambda event, message: pb.ConverseResponse(**{event: message}))  # type: ignore[arg-type] # events are named by their field
        driver = gateway.turns.begin(
            begun,
            text_choice(configure, gateway.turns.settings),
            speech,
            caller,
            gateway.sessions.open(),
            None,
            None,
        )
        # The LLM is asked, the next streams are about to be opened; now the user speaks.
        driver.handle(on.Interrupted())
        async with asyncio.timeout(GUARD_S):
            await driver.finished.wait()
        # A whole turn later they would be there.
        assert (await ask(gateway)).outcome == pb.TURN_OUTCOME_COMPLETED
        assert len(services.time_left["chunker"]) == 1
        assert len(services.time_left["tts"]) == 1
