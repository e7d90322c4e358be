"""Overload at the gateway's edge: how a turn is refused, and what the next one finds."""

import json
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from gateway.access.caller import Caller, Priority
from tests.contract.gateway_harness import Gateway, Services, running_gateway
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb

_AIO: Any = grpc.aio
EOF = _AIO.EOF
ENDS = ("turn_completed", "turn_failed")


def details_of(status: status_pb2.Status) -> tuple[str, dict[str, str], float]:
    """Return reason, metadata, and the seconds after which to come again."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    return info.reason, dict(info.metadata), retry.retry_delay.ToMilliseconds() / 1000


def opened(gateway: Gateway, **options: Any) -> Any:
    """Open a conversation that is written and read by hand."""
    stub: Any = gateway.stub
    return stub.Converse(**options)


def prompt(text: str = "Why?") -> pb.ConverseRequest:
    part = common_pb2.ContentPart(text=text)
    return pb.ConverseRequest(prompt=pb.Prompt(parts=[part]))


async def converse(gateway: Gateway, *requests: pb.ConverseRequest, **configure: Any) -> list[Any]:
    """Have a conversation, prompts one behind the other; return the responses that are no audio."""
    call = opened(gateway)
    await call.write(pb.ConverseRequest(configure=pb.Configure(**configure)))
    seen = []
    for request in requests:
        await call.write(request)
        while True:
            response = await call.read()
            event = response.WhichOneof("event")
            seen.append(getattr(response, event))
            if event in ENDS:
                break
    await call.done_writing()
    assert await call.read() is EOF
    return seen


@pytest.fixture
async def full(socket_folder: pathlib.Path) -> AsyncIterator[Gateway]:
    """Run a gateway whose one place is taken, as far as the mesh can take turns."""
    limits = {"gateway_start_turns": 1, "gateway_min_turns": 1}
    async with running_gateway(str(socket_folder), Services(), **limits) as gateway:
        await gateway.serving()
        yield gateway


async def test_a_turn_is_refused_at_once_and_the_stream_lives_on(full: Gateway) -> None:
    place = full.turns.admit(Caller(), Priority.NORMAL)
    services = full.services
    before = {service: len(times) for service, times in services.time_left.items()}
    call = opened(full)
    await call.write(pb.ConverseRequest(configure=pb.Configure()))
    await call.write(prompt())
    failed = (await call.read()).turn_failed
    reason, metadata, retry_s = details_of(failed.status)
    assert (reason, metadata["limit"]) == ("OVERLOADED", "capacity")
    assert 0.5 <= retry_s <= 15
    assert failed.status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    # Nothing was asked of anybody for it: not even a stream stands by.
    assert {service: len(times) for service, times in services.time_left.items()} == before

    place.release()
    await call.write(prompt())
    assert (await call.read()).WhichOneof("event") == "turn_started"
    await call.done_writing()
    events = []
    while (response := await call.read()) is not EOF:
        events.append(response.WhichOneof("event"))
    assert events[-1] == "turn_completed"
    assert len(full.turns.door) == 0


async def test_a_text_that_is_refused_is_a_status_with_its_reason(full: Gateway) -> None:
    with full.turns.admit(Caller(), Priority.NORMAL), pytest.raises(grpc.aio.AioRpcError) as raised:
        await anext(aiter(full.stub.Speak(pb.SpeakRequest(text="Hello."))))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    error: Any = raised.value
    status = rpc_status.from_call(error)
    assert status is not None
    assert details_of(status)[0] == "OVERLOADED"


async def test_a_flood_is_counted_and_not_all_of_it_traced(socket_folder: pathlib.Path) -> None:
    async with running_gateway(str(socket_folder), Services(), gateway_max_turns=1) as gateway:
        await gateway.serving()
        with gateway.turns.admit(Caller(), Priority.NORMAL):
            seen = await converse(gateway, *[prompt() for _ in range(1000)])
        assert {details_of(failed.status)[0] for failed in seen} == {"TOO_MANY_TURNS"}
        assert 600 <= len(gateway.spans("turn")) < 1000
        assert len(gateway.turns.door) == 0


async def test_a_key_has_its_limits(socket_folder: pathlib.Path) -> None:
    rules = json.dumps({"tenants": {"acme": {"requests_per_min": 2}}})
    async with running_gateway(str(socket_folder), Services(), gateway_limits=rules) as gateway:
        await gateway.serving()
        call = opened(gateway, metadata=(("voicemesh-tenant", "acme"),))
        await call.write(pb.ConverseRequest(configure=pb.Configure()))
        ends: list[Any] = []
        for _ in range(3):
            await call.write(prompt())
            while (response := await call.read()).WhichOneof("event") not in ENDS:
                pass
            ends.append(response)
        await call.done_writing()
        assert [end.WhichOneof("event") for end in ends] == ["turn_completed"] * 2 + ["turn_failed"]
        reason, metadata, retry_s = details_of(ends[-1].turn_failed.status)
        assert (reason, metadata["limit"]) == ("RATE_LIMITED", "requests")
        assert retry_s > 0
        # Another tenant is not concerned.
        assert (await converse(gateway, prompt()))[-1].report.outcome == pb.TURN_OUTCOME_COMPLETED


async def test_what_is_given_up_is_told_before_a_turn_is_refused(socket_folder: pathlib.Path) -> None:
    cheap = common_pb2.Voice()
    services = Services()
    cheap.CopyFrom(services.voices[0])
    cheap.name, cheap.is_default = "scripted/cheap", False
    services.voices.append(cheap)
    settings = {
        "gateway_max_turns": 10,
        "gateway_start_turns": 10,
        "gateway_overload_voices": {"*": "scripted/cheap"},
    }
    async with running_gateway(str(socket_folder), services, **settings) as gateway:
        await gateway.serving()
        places = [gateway.turns.admit(Caller(), Priority.HIGH) for _ in range(9)]
        services.clock.jump(5)
        for _ in range(2):  # it is looked at when something happens
            places.pop().release()
            places.append(gateway.turns.admit(Caller(), Priority.HIGH))
            services.clock.jump(5)
        seen = await converse(gateway, prompt(), priority=pb.PRIORITY_HIGH)
        report = seen[-1].report
        assert list(report.degraded) == [pb.DEGRADATION_LONGER_CHUNKS, pb.DEGRADATION_CHEAPER_VOICE]
        assert "scripted/cheap speaks" in report.degraded_why[1]
        assert report.priority == pb.PRIORITY_HIGH
        (span,) = gateway.spans("turn")
        assert [event.name for event in span.events].count("voicemesh.degraded") == 2
        for place in places:
            place.release()
        services.clock.jump(30)
        for _ in range(4):
            gateway.turns.admit(Caller(), Priority.HIGH).release()
            services.clock.jump(5)
        seen = await converse(gateway, prompt())
        assert not seen[-1].report.degraded


async def test_an_unknown_priority_is_named(full: Gateway) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="priority: is none of"):
        await converse(full, prompt(), priority=9)
