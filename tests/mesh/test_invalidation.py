"""What is invalidated is made anew; what was being made at that moment is not kept."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.support.mesh import Mesh
from voicemesh.cache.v1 import cache_pb2, cache_pb2_grpc
from voicemesh.client import SpeechOptions, TextDelta, TurnReport, VoiceMesh

GUARD_S = 30.0
"""Ends a test that hangs."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def invalidate(mesh: Mesh, **target: Any) -> cache_pb2.InvalidateResponse:
    async with grpc.aio.insecure_channel(mesh.address("cache")) as channel:
        stub: Any = cache_pb2_grpc.CacheServiceStub(channel)
        removed = await stub.Invalidate(cache_pb2.InvalidateRequest(**target), timeout=10)
    assert isinstance(removed, cache_pb2.InvalidateResponse)
    return removed


async def counted(mesh: Mesh) -> cache_pb2.GetStatsResponse:
    async with grpc.aio.insecure_channel(mesh.address("cache")) as channel:
        stub: Any = cache_pb2_grpc.CacheServiceStub(channel)
        stats = await stub.GetStats(cache_pb2.GetStatsRequest(), timeout=10)
    assert isinstance(stats, cache_pb2.GetStatsResponse)
    return stats


async def asked(client: VoiceMesh, prompt: str, *tags: str) -> TurnReport:
    speech = SpeechOptions(max_lead_ms=0, cache_tags=tags)
    report = (await client.ask(prompt, speech=speech).collect()).report
    assert report is not None
    assert report.error is None
    return report


def found(report: TurnReport) -> set[str]:
    return {report.reply_cache, *(chunk.cache for chunk in report.chunks)}


async def test_a_tag_takes_a_turn_back_and_no_other(mesh: Mesh, client: VoiceMesh) -> None:
    for prompt, tag in (("What is a lock?", "lesson-1"), ("What is a weir?", "lesson-2")):
        await asked(client, prompt, tag)
        assert "miss" not in found(await asked(client, prompt))
    assert (await invalidate(mesh, tag="lesson-1")).memory_entries >= 2
    assert "hit" not in found(await asked(client, "What is a lock?"))
    assert "miss" not in found(await asked(client, "What is a weir?"))


async def test_what_is_being_made_is_not_kept(mesh: Mesh, client: VoiceMesh) -> None:
    prompt = "What is an aqueduct, and who built the first?"
    invalidated = False
    async for event in client.ask(prompt, speech=SpeechOptions(max_lead_ms=0)):
        if isinstance(event, TextDelta) and not invalidated:
            await invalidate(mesh, all=True)
            invalidated = True
    async with asyncio.timeout(GUARD_S):  # the last write may still be on its way
        while not (stats := await counted(mesh)).stale_writes:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    assert {kind.kind: kind.entries for kind in stats.kinds if kind.kind != "history"} == {
        "audio": 0,
        "reply": 0,
    }
    assert (await asked(client, prompt)).reply_cache == "miss"
    assert "miss" not in found(await asked(client, prompt))


async def test_a_tenants_sessions_begin_anew(mesh: Mesh) -> None:
    async with VoiceMesh(mesh.address("gateway"), tenant="acme") as client:
        for _ in range(2):
            async with client.converse(session_id="s", speech=SpeechOptions(max_lead_ms=0)) as conversation:
                report = (await (await conversation.ask("What is a sluice?")).collect()).report
                assert report is not None
        assert report.reply_cache == "miss"  # the same question, but in a conversation
        await invalidate(mesh, tenant="acme")
        async with client.converse(session_id="s", speech=SpeechOptions(max_lead_ms=0)) as conversation:
            await (await conversation.ask("What is a sluice?")).collect()
        # Had anything of the session been left, this would not be the reply to a first question.
        assert (await asked(client, "What is a sluice?")).reply_cache == "hit"
