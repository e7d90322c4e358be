"""The gateway and the services behind it, one misbehaving: in one process, over real gRPC."""

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import uvicorn
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from gateway.access.caller import Caller, Priority
from gateway.callers import OutboxCaller
from gateway.core import events as on
from gateway.core.values import Message
from gateway.http.edge import HttpEdge
from gateway.turns import TurnRequest
from tests.contract.gateway_harness import GUARD_S, VOICE, Gateway, Services, running_gateway
from tests.contract.tts_harness import RPC_STATUS
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.errors import NoEngineError, VoiceNotReadyError
from voicemesh.runtime.status import reason_of

PROMPT = pb.Prompt(parts=[common_pb2.ContentPart(text="What is rain?")])
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def ask(gateway: Gateway, timeout_s: float | None = None, prompt: pb.Prompt = PROMPT) -> pb.TurnReport:
    """Ask one prompt; return the report."""
    report = pb.TurnReport()
    ended = asyncio.Event()

    async def requests() -> AsyncIterator[pb.ConverseRequest]:
        yield pb.ConverseRequest(configure=pb.Configure(speech=pb.SpeechOptions(max_lead_ms=0)))
        yield pb.ConverseRequest(prompt=prompt)
        await ended.wait()

    async with asyncio.timeout(GUARD_S):
        async for response in gateway.stub.Converse(requests(), timeout=timeout_s):
            if (event := response.WhichOneof("event")) in ("turn_completed", "turn_failed"):
                report = getattr(response, event).report
                ended.set()
    return report


async def test_voices_that_change_while_they_serve_are_followed(socket_folder: pathlib.Path) -> None:
    services = Services()

    async def listed(include_not_ready: bool) -> dict[str, int]:
        request = pb.ListVoicesRequest(include_not_ready=include_not_ready)
        return {voice.name: voice.state for voice in (await gateway.stub.ListVoices(request)).voices}

    async def until(name: str) -> None:
        async with asyncio.timeout(GUARD_S):
            while name not in await listed(include_not_ready=True):  # noqa: ASYNC110 - it polls too
                await asyncio.sleep(0.01)

    async with running_gateway(str(socket_folder), services, gateway_voices_poll_s=0.02) as gateway:
        await gateway.serving()
        coming = common_pb2.Voice(name="coming", state=common_pb2.VOICE_STATE_LOADING)
        going = common_pb2.Voice(name="going", state=common_pb2.VOICE_STATE_DRAINING)
        broken = common_pb2.Voice(name="broken", state=common_pb2.VOICE_STATE_FAILED)
        services.voices = [VOICE, coming, going, broken]
        await until("coming")
        assert list(await listed(include_not_ready=False)) == [VOICE.name]
        for name, reason in (
            ("coming", "VOICE_NOT_READY"), ("going", "UNKNOWN_VOICE"), ("broken", "NO_ENGINE"),
        ):  # fmt: skip
            request = pb.SpeakRequest(text="Hello.", speech=pb.SpeechOptions(voice=name))
            call = gateway.stub.Speak(request)
            with pytest.raises(grpc.aio.AioRpcError):
                async for _ in call:
                    pass
            assert reason_of(await RPC_STATUS.aio.from_call(call)) == reason
        revised = common_pb2.Voice()
        revised.CopyFrom(VOICE)
        revised.model_revision = "another"
        services.voices = [revised, common_pb2.Voice(name="new")]
        await until("new")
        assert gateway.peers.voice("", "voice").model_revision == "another"
        assert (await ask(gateway)).outcome == pb.TURN_OUTCOME_COMPLETED


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


@pytest.mark.parametrize("standby_s", [0.0, 60.0])
async def test_a_stream_that_was_open_before_its_question_and_is_lost_costs_no_turn(
    socket_folder: pathlib.Path, standby_s: float
) -> None:
    services = Services()
    async with running_gateway(str(socket_folder), services, gateway_standby_s=standby_s) as gateway:
        await gateway.serving()
        services.broken_questions = 1
        assert (await ask(gateway)).outcome == pb.TURN_OUTCOME_COMPLETED
        services.broken_questions = 2
        report = await ask(gateway)
        assert report.outcome == pb.TURN_OUTCOME_COMPLETED
        assert [failover.service for failover in report.failovers] == ["llm", "llm"]
        services.broken_questions = 3
        assert (await ask(gateway)).outcome == pb.TURN_OUTCOME_FAILED, "a third stream was lost, too"


async def test_streams_are_not_opened_behind_the_end_of_their_turn(socket_folder: pathlib.Path) -> None:
    services = Services()
    async with running_gateway(str(socket_folder), services) as gateway:
        await gateway.serving()
        services.time_left.clear()
        configure = pb.Configure(bypass_reply_cache=True)
        choice = gateway.turns.choosing.plain(configure, "speech")
        begun = TurnRequest("", "", "s", 0, Message("user", ("What is rain?",)), new_session=True)
        caller = OutboxCaller(lambda event, message: pb.ConverseResponse(**{event: message}))  # type: ignore[arg-type] # events are named by their field
        with gateway.turns.admit(Caller(), Priority.NORMAL) as place:
            driver = gateway.turns.begin(begun, place, choice, caller, gateway.sessions.open(), None, None)
        # The LLM is asked, the next streams are about to be opened; now the user speaks.
        driver.handle(on.Interrupted())
        async with asyncio.timeout(GUARD_S):
            await driver.finished.wait()
        # A whole turn later they would be there.
        assert (await ask(gateway)).outcome == pb.TURN_OUTCOME_COMPLETED
        assert len(services.time_left["chunker"]) == 1
        assert len(services.time_left["tts"]) == 1


def is_refused(span: ReadableSpan, turn_id: str, reason: str) -> bool:
    """Return whether a span tells of a refusal of that turn, below `PARENT`."""
    attributes = dict(span.attributes or {})
    assert span.status.status_code is StatusCode.ERROR
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" in PARENT
    return (attributes["voicemesh.turn_id"], attributes["error.type"]) == (turn_id, reason)


async def test_a_refused_prompt_has_a_span_and_can_be_explained(socket_folder: pathlib.Path) -> None:
    async with running_gateway(str(socket_folder), Services()) as gateway:
        await gateway.serving()
        answered = await ask(gateway)
        refused = await ask(gateway, prompt=pb.Prompt(turn_id="mine", traceparent=PARENT))
        assert refused.outcome == pb.TURN_OUTCOME_FAILED
        assert refused.trace_id in PARENT
        explained = (await gateway.stub.ExplainTurn(pb.ExplainTurnRequest(turn_id="mine"))).report
        assert explained == refused
        assert reason_of(explained.error) == "INVALID_FIELD"
        assert is_refused(gateway.spans("turn")[-1], "mine", "INVALID_FIELD")
        # It never ran, so it is not the last that did.
        last = (await gateway.stub.ExplainTurn(pb.ExplainTurnRequest())).report
        assert last.turn_id == answered.turn_id


async def test_a_refused_text_has_a_span_and_can_be_explained(socket_folder: pathlib.Path) -> None:
    async with running_gateway(str(socket_folder), Services(), gateway_max_turns=1) as gateway:
        await gateway.serving()
        text = pb.SpeakRequest(turn_id="mine", text=" ", traceparent=PARENT)
        with pytest.raises(grpc.aio.AioRpcError):
            await anext(aiter(gateway.stub.Speak(text)))
        explained = (await gateway.stub.ExplainTurn(pb.ExplainTurnRequest(turn_id="mine"))).report
        assert reason_of(explained.error) == "INVALID_FIELD"
        assert is_refused(gateway.spans("turn")[-1], "mine", "INVALID_FIELD")


async def test_refusals_do_not_push_out_what_earlier_turns_were_like(socket_folder: pathlib.Path) -> None:
    async with running_gateway(str(socket_folder), Services(), gateway_remembered_turns=2) as gateway:
        await gateway.serving()
        answered = await ask(gateway)
        for turn_id in ("a", "b", "c", "d" * 201):
            await ask(gateway, prompt=pb.Prompt(turn_id=turn_id))
        known = []
        for turn_id in (answered.turn_id, "a", "b", "c", "d" * 201):
            with contextlib.suppress(grpc.aio.AioRpcError):
                known.append((await gateway.stub.ExplainTurn(pb.ExplainTurnRequest(turn_id=turn_id))).report)
        assert [report.turn_id for report in known] == [answered.turn_id, "b", "c"]


async def test_an_http_edge_that_no_longer_answers_is_no_secret(
    socket_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: asyncio.Queue[tuple[str, BaseException | None]] = asyncio.Queue()

    async def broken(*_: object) -> bool:
        raise OSError("no more files")

    async with running_gateway(str(socket_folder), Services()) as gateway:
        edge = HttpEdge(
            gateway.turns,
            gateway.sessions,
            gateway.readiness,
            f"unix:{socket_folder}/http",
            lambda what, error: lost.put_nowait((what, error)),
        )
        monkeypatch.setattr(uvicorn.Server, "on_tick", broken)
        edge.start()
        what, error = await asyncio.wait_for(lost.get(), GUARD_S)
        assert "HTTP" in what
        assert isinstance(error, OSError)
        # The end of the process, which follows, has nothing more to say.
        await edge.drain()
        await edge.close()
        assert lost.empty()


async def test_an_http_edge_that_is_stopped_is_no_loss(socket_folder: pathlib.Path) -> None:
    lost: list[str] = []
    async with running_gateway(str(socket_folder), Services()) as gateway:
        edge = HttpEdge(
            gateway.turns,
            gateway.sessions,
            gateway.readiness,
            f"unix:{socket_folder}/http",
            lambda what, _error: lost.append(what),
        )
        edge.start()
        await edge.drain()
        await edge.close()
    assert not lost


async def join_error(gateway: Gateway, host: pb.Configure, guest: pb.Configure) -> grpc.aio.AioRpcError:
    """Open a channel, and try to join it; return how that was refused."""
    host.channel = guest.channel = "c"
    converse: Any = gateway.stub.Converse  # the stubs ask for an iterator of requests

    async with asyncio.timeout(GUARD_S):
        first = converse()
        await first.write(pb.ConverseRequest(configure=host))
        await first.write(pb.ConverseRequest(prompt=PROMPT))
        assert (await first.read()).HasField("turn_started")
        second = converse()
        await second.write(pb.ConverseRequest(configure=guest))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await second.read()
        first.cancel()
    return raised.value


@pytest.mark.parametrize(
    ("guest", "field"),
    [
        (pb.Configure(speech=pb.SpeechOptions(speech_text=False)), "configure.speech.speech_text"),
        (pb.Configure(channel_join=9), "configure.channel_join"),  # type: ignore[arg-type] # as of a later version
    ],
)
async def test_a_member_that_wants_something_else_is_told_what(
    socket_folder: pathlib.Path, guest: pb.Configure, field: str
) -> None:
    async with running_gateway(str(socket_folder), Services()) as gateway:
        await gateway.serving()
        error = await join_error(gateway, pb.Configure(), guest)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (error.details() or "")


async def test_a_voice_that_one_process_still_loads_is_known_by_what_another_said(
    socket_folder: pathlib.Path,
) -> None:
    services = Services()
    services.voices = [common_pb2.Voice(name="late", model_revision="1"), common_pb2.Voice(name="other")]
    async with running_gateway(str(socket_folder), services) as gateway:
        await gateway.serving()
        loading = common_pb2.VOICE_STATE_LOADING
        services.voices = [common_pb2.Voice(name=name, state=loading) for name in ("late", "other")]
        await gateway.peers._learn_voices()
        assert gateway.peers.voice("late", "voice").model_revision == "1"
        with pytest.raises(VoiceNotReadyError):
            gateway.peers.voice("other", "voice")
        services.voices = [common_pb2.Voice(name="late", state=common_pb2.VOICE_STATE_FAILED)]
        await gateway.peers._learn_voices()
        with pytest.raises(NoEngineError):
            gateway.peers.voice("late", "voice")
