"""The gateway in front of services that say what they like: each turn ends once, typed, nothing is held."""

import asyncio
import dataclasses
import pathlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc

from tests.contract.gateway_harness import FORMAT, VOICE
from tests.fuzz.calls import Tally, perform
from tests.fuzz.grammars import GATEWAY
from tests.fuzz.hostile import Answers, HostileServices
from tests.fuzz.lab import complaints_of
from tests.support.mesh import Mesh
from voicemesh.cache.v1 import cache_pb2
from voicemesh.chunker.v1 import chunker_pb2
from voicemesh.common.v1 import common_pb2
from voicemesh.llm.v1 import llm_pb2
from voicemesh.runtime.channels import open_channel
from voicemesh.runtime.health import HealthServicer, Readiness
from voicemesh.tts.v1 import tts_pb2

CALLS = 70
THEIRS = (
    "service failed (",  # an INTERNAL of theirs is passed on as such, by the service's name
    "reason 'INTERNAL'",
    "Exception deserializing message!",  # grpc.aio's own line
    "attribution violated",  # times that cannot be are told of
    "ENHANCE_YOUR_CALM",  # a server with other pings than the mesh's
    "GOAWAY",
)
"""What is theirs to answer for."""
CALLERS = dataclasses.replace(
    GATEWAY, vocabulary={**GATEWAY.vocabulary, "voice": ("",), "max_lead_ms": (0,), "model": ("",)}
)
"""They are well-behaved here."""
SERVICES = (llm_pb2, chunker_pb2, tts_pb2, cache_pb2)


def generated(request: Message) -> list[Message]:
    assert isinstance(request, llm_pb2.GenerateRequest)
    if not request.HasField("start"):
        return []
    response, turn_id = llm_pb2.GenerateResponse, request.start.turn_id
    return [
        response(delta=llm_pb2.GenerateDelta(turn_id=turn_id, text="A short reply.")),
        response(finished=llm_pb2.GenerateFinished(turn_id=turn_id, reason=llm_pb2.FINISH_REASON_STOP)),
    ]


def chunked(request: Message) -> list[Message]:
    assert isinstance(request, chunker_pb2.ChunkRequest)
    response = chunker_pb2.ChunkResponse
    if request.HasField("text"):
        text = request.text.text
        return [
            response(
                chunk=common_pb2.Chunk(
                    text=text, text_length=len(text), reason=common_pb2.CHUNK_REASON_SENTENCE
                )
            )
        ]
    return [response(done=chunker_pb2.ChunkDone(chunk_count=1))] if request.HasField("end") else []


def spoken(request: Message) -> list[Message]:
    assert isinstance(request, tts_pb2.SynthesizeRequest)
    if not request.HasField("chunk"):
        return []
    index, response = request.chunk.chunk_index, tts_pb2.SynthesizeResponse
    frame = common_pb2.Frame(chunk_index=index, audio=b"\1\0" * 441)
    start = tts_pb2.SynthesisStart(format=FORMAT)
    return [
        response(frame=tts_pb2.SynthesizedFrame(frame=frame, start=start)),
        response(finished=tts_pb2.ChunkFinished(chunk_index=index, total_samples=441)),
    ]


def cached(request: Message) -> list[Message]:
    assert isinstance(request, cache_pb2.ExchangeRequest)
    answer = cache_pb2.ExchangeResponse(request_id=request.request_id)
    (answer.miss if request.HasField("get") else answer.done).SetInParent()
    return [answer]


def listed(_: Message) -> list[Message]:
    return [tts_pb2.ListVoicesResponse(voices=[VOICE])]


RIGHT: dict[str, Answers] = {
    "Generate": generated,
    "Chunk": chunked,
    "Synthesize": spoken,
    "Exchange": cached,
    "ListVoices": listed,
}


FIRST: dict[str, Message] = {"Generate": llm_pb2.GenerateResponse(ready=llm_pb2.GenerateReady(revision="r1"))}


@asynccontextmanager
async def besieged(folder: pathlib.Path, seed: str) -> AsyncIterator[tuple[Mesh, HostileServices]]:
    """Run a gateway whose services all lie."""
    hostile = HostileServices(random.Random(seed), RIGHT, FIRST)
    behind = f"unix:{folder}/services"
    server, healthy = grpc.aio.server(), Readiness("services")
    for contract in SERVICES:
        service = next(iter(contract.DESCRIPTOR.services_by_name.values()))
        server.add_generic_rpc_handlers((hostile.handlers(service),))
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(healthy), server)
    server.add_insecure_port(behind)
    await server.start()
    await healthy.set(True, "lying")
    mesh = Mesh(
        folder,
        {
            **{f"VOICEMESH_{name}_ADDR": behind for name in ("LLM", "CHUNKER", "TTS", "CACHE")},
            "VOICEMESH_GATEWAY_VOICES_POLL_S": "3600",
            "VOICEMESH_GATEWAY_TEXT_IDLE_S": "1",
            "VOICEMESH_GATEWAY_DRAFT_S": "1",
            "VOICEMESH_GATEWAY_MAX_LEAD_MS": "0",
        },
    )
    try:
        await mesh.start("gateway")
        yield mesh, hostile
    finally:
        statuses = await mesh.stop()
        await healthy.drain()
        await server.stop(None)
    assert statuses == {"gateway": 0}


async def test_a_gateway_outlives_services_that_lie(socket_folder: pathlib.Path) -> None:
    tally = Tally()
    async with besieged(socket_folder, "lies") as (mesh, hostile):
        hostile.lies = True
        async with open_channel(mesh.address("gateway")) as channel:
            numbers = iter(range(CALLS))

            async def work() -> None:
                for number in numbers:
                    rng = random.Random(f"lies {number}")
                    plan = CALLERS.plan(rng)
                    if plan.manner == "orderly" and plan.method.name in ("Converse", "Speak"):
                        await perform(channel, plan, tally, f"lies {number}")

            await asyncio.gather(*(work() for _ in range(8)))
        hostile.lies = False
        await asyncio.sleep(1.5)
        faults = complaints_of(mesh.processes["gateway"])
        await mesh.wait_serving("gateway")
    assert hostile.calls
    assert tally.ends["OK"]
    assert not [fault for fault in tally.faults + faults if not any(known in fault for known in THEIRS)]
