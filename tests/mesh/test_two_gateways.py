"""Two gateways and one session: whoever writes, no message is lost, and none is there twice."""

import asyncio
import pathlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from tests.support.mesh import SERVICES, Mesh, running_mesh
from tests.support.redis_server import redis_server
from voicemesh.cache.v1 import cache_pb2, cache_pb2_grpc
from voicemesh.client import SpeechOptions, VoiceMesh
from voicemesh.common.v1 import common_pb2

GUARD_S = 120.0
"""Ends a test that hangs."""
STREAMS = 4
"""Conversations of each gateway, all of one session."""
TURNS = 2
SPEECH = SpeechOptions(max_lead_ms=0)


def environment(redis_url: str) -> dict[str, str]:
    """Return the variables of a mesh with that Redis; a busy machine is not what is tested."""
    return {"VOICEMESH_REDIS_URL": redis_url, "VOICEMESH_CACHE_REDIS_TIMEOUT_MS": "5000"}


@asynccontextmanager
async def another_gateway(first: Mesh) -> AsyncIterator[Mesh]:
    """Run one more gateway of a mesh."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vm-"))
    services = {
        f"VOICEMESH_{name.upper()}_ADDR": first.address(name) for name in SERVICES if name != "gateway"
    }
    second = Mesh(folder, services)
    try:
        await second.start("gateway")
        yield second
    finally:
        await second.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def said(mesh: Mesh, session: str) -> list[tuple[int, str]]:
    """Return the roles and texts of a session's history."""
    key = cache_pb2.CacheKey(history=cache_pb2.HistoryKey(session_id=session))
    async with grpc.aio.insecure_channel(mesh.address("cache")) as channel:
        stub: Any = cache_pb2_grpc.CacheServiceStub(channel)
        call = stub.Exchange()
        await call.write(cache_pb2.ExchangeRequest(request_id=1, get=cache_pb2.Get(key=key)))
        answer = await call.read()
        call.cancel()
    assert answer.HasField("hit")
    return [(message.role, message.parts[0].text) for message in answer.hit.value.history.messages]


async def test_no_message_is_lost_between_two_gateways() -> None:
    async def talk(mesh: Mesh, name: str) -> None:
        async with (
            VoiceMesh(mesh.address("gateway")) as client,
            client.converse(session_id="s", speech=SPEECH) as conversation,
        ):
            for turn in range(TURNS):
                report = (await (await conversation.ask(f"Question {name} {turn}?")).collect()).report
                assert report is not None
                assert (report.outcome, report.degraded) == ("completed", ())

    async with redis_server() as redis, running_mesh(**environment(redis.url)) as first:
        async with another_gateway(first) as second, asyncio.timeout(GUARD_S):
            await asyncio.gather(
                *(
                    talk(mesh, f"{at}{n}")
                    for at, mesh in (("a", first), ("b", second))
                    for n in range(STREAMS)
                )
            )
        messages = await said(first, "s")
    asked = [text for role, text in messages if role == common_pb2.ROLE_USER]
    wanted = {f"Question {at}{n} {turn}?" for at in "ab" for n in range(STREAMS) for turn in range(TURNS)}
    assert sorted(asked) == sorted(wanted)
    # Each with its reply behind it.
    roles = [role for role, _ in messages]
    assert roles == [common_pb2.ROLE_USER, common_pb2.ROLE_ASSISTANT] * len(wanted)
