"""The Python client in front of a gateway that says what it likes: each call ends once, and typed."""

import asyncio
import pathlib
import random
from collections import Counter

import grpc
from google.protobuf.message import Message

from tests.contract.gateway_harness import FORMAT
from tests.fuzz.hostile import Answers, HostileServices
from voicemesh.client import VoiceMesh, VoiceMeshError
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb

CALLS = 120
GUARD_S = 60.0
"""A call that takes as long hangs."""


def _spoken(response: type[pb.ConverseResponse] | type[pb.SpeakResponse], turn_id: str) -> list[Message]:
    frame = common_pb2.Frame(turn_id=turn_id, audio=b"\1\0" * 441, samples=441)
    return [
        response(turn_started=pb.TurnStarted(turn_id=turn_id, format=FORMAT)),
        response(frame=frame),
        response(
            turn_completed=pb.TurnCompleted(
                report=pb.TurnReport(turn_id=turn_id, outcome=pb.TURN_OUTCOME_COMPLETED)
            )
        ),
    ]


def conversed(request: Message) -> list[Message]:
    assert isinstance(request, pb.ConverseRequest)
    event = request.WhichOneof("event")
    return (
        _spoken(pb.ConverseResponse, getattr(request, event).turn_id) if event in ("prompt", "text") else []
    )


def said(request: Message) -> list[Message]:
    assert isinstance(request, pb.SpeakRequest)
    return _spoken(pb.SpeakResponse, request.turn_id)


async def made(mesh: VoiceMesh, number: int) -> str:
    """Make a call; return how it ended."""
    try:
        match number % 5:
            case 0 | 1:
                return (await mesh.say("Say this.").collect()).report.outcome
            case 2:
                return (await mesh.ask("Where is the harbour?").collect()).report.outcome
            case 3:
                async with mesh.converse() as conversation:
                    return (await (await conversation.ask("Where?")).collect()).report.outcome
            case _:
                await mesh.voices()
                return "voices"
    except VoiceMeshError as error:
        return f"{error.code} {error.reason}"


async def test_a_client_outlives_a_gateway_that_lies(socket_folder: pathlib.Path) -> None:
    right: dict[str, Answers] = {"Converse": conversed, "Speak": said}
    hostile = HostileServices(random.Random("a gateway that lies"), right, {})
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((hostile.handlers(pb.DESCRIPTOR.services_by_name["GatewayService"]),))
    server.add_insecure_port(f"unix:{socket_folder}/gateway")
    await server.start()
    ends: Counter[str] = Counter()
    try:
        async with VoiceMesh(f"unix:{socket_folder}/gateway", asks_again=0) as mesh:
            hostile.lies = True
            numbers = iter(range(CALLS))

            async def work() -> None:
                for number in numbers:
                    async with asyncio.timeout(GUARD_S):
                        ends[await made(mesh, number)] += 1

            await asyncio.gather(*(work() for _ in range(12)))
            hostile.lies = False
            assert (await mesh.say("Say this.").collect()).audio
    finally:
        await server.stop(None)
    assert ends.total() == CALLS
    assert ends["completed"]
    assert len(ends) > 5
