"""Whole turns and similar prompts: found with the switch on, by its tenant and in its conversation alone."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.command_line import voicemesh
from tests.support.mesh import Mesh, running_mesh
from tests.support.openai_server import OpenAiServer
from voicemesh.cache.v1 import cache_pb2, cache_pb2_grpc
from voicemesh.client import SpeechOptions, TurnReport, VoiceMesh
from voicemesh.runtime.channels import open_channel

pytestmark = pytest.mark.asyncio(loop_scope="module")
GUARD_S = 60.0
PROMPT = "What is a lighthouse for?"
ALIKE = "Can you please tell me what a lighthouse is for?"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def similar() -> AsyncIterator[Mesh]:
    """Run a mesh that looks for similar prompts."""
    async with (
        OpenAiServer() as server,
        running_mesh(
            VOICEMESH_CACHE_SIMILAR="true",
            VOICEMESH_CACHE_SIMILAR_BASE_URL=server.base_url,
            VOICEMESH_CACHE_SIMILAR_MODEL="bag",
            # A busy machine must not make embeddings late.
            VOICEMESH_CACHE_SIMILAR_TIMEOUT_MS="10000",
            VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS="10000",
        ) as running,
    ):
        yield running


async def asked(mesh: Mesh, prompt: str, tenant: str = "", session: str = "") -> TurnReport:
    async with VoiceMesh(mesh.address("gateway"), tenant=tenant) as client:
        unpaced = SpeechOptions(max_lead_ms=0)
        report = (await client.ask(prompt, speech=unpaced, session_id=session).collect()).report
    assert report is not None
    assert report.error is None
    return report


async def has_vectors(mesh: Mesh, number: int) -> None:
    async with open_channel(mesh.address("cache")) as channel, asyncio.timeout(GUARD_S):
        stub = cache_pb2_grpc.CacheServiceStub(channel)
        while (await stub.GetStats(cache_pb2.GetStatsRequest())).similar.entries < number:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


async def test_a_paraphrase_is_answered_by_the_reply_and_its_audio_and_says_so(similar: Mesh) -> None:
    first = await asked(similar, PROMPT)
    assert first.reply_cache == "miss"
    await has_vectors(similar, 1)
    await asked(similar, ALIKE)
    found: set[str] = set()
    async with asyncio.timeout(GUARD_S):
        # On a busy machine an engine may begin so late that a lease is lost, and what it made not kept.
        while found != {"memory"}:
            report = await asked(similar, ALIKE)
            assert report.reply_cache == "similar"  # and does not become a reply of its own
            assert report.text == first.text
            found = {chunk.cache for chunk in report.chunks}
    assert (await asked(similar, PROMPT)).reply_cache == "hit"
    ended = [line for line in similar.processes["gateway"].logs if line["event"] == "turn ended"]
    assert [line["reply_cache"] for line in ended[-3:-1]] == ["similar", "similar"]
    assert all(line["cache_hit"] for line in ended[-3:])
    for tenant, session, prompt in (("other", "", ALIKE), ("", "", "What is a lighthouse not for?")):
        assert (await asked(similar, prompt, tenant, session)).reply_cache == "miss"


async def test_the_command_line_tells_how_often(similar: Mesh) -> None:
    command = ("cache", "stats", "--cache-addr", similar.address("cache"))
    shown = [(await voicemesh(*command, *option)).out for option in ((), ("--json",))]
    counted = json.loads(shown[1])["caches"][0]["similar"]
    assert isinstance(counted["hits"], int)
    assert f"similar prompts: {counted['hits']} found" in shown[0]


async def test_another_conversation_never_finds_it(similar: Mesh) -> None:
    await asked(similar, PROMPT)
    await asked(similar, "What is a buoy?", session="s")
    assert (await asked(similar, ALIKE, session="s")).reply_cache == "miss"


async def test_while_it_is_off_a_paraphrase_is_a_prompt_of_its_own(mesh: Mesh) -> None:
    await asked(mesh, PROMPT, tenant="similar")
    assert (await asked(mesh, PROMPT, tenant="similar")).reply_cache == "hit"
    assert (await asked(mesh, ALIKE, tenant="similar")).reply_cache == "miss"
