"""The logs of all five processes: every line of a turn says so, and each turn has one line of its own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.turn_line import FIELDS
from tests.support.mesh import SERVICES, Mesh, running_mesh
from voicemesh.client import VoiceMesh, VoiceMeshError

pytestmark = pytest.mark.asyncio(loop_scope="module")
GUARD_S = 60.0
URL = "http://traces.example/{trace_id}"
PROMPT = "Tell me of zebras in the quiet valley, please."
TURN_EVENTS = {"turn ended", "turn failed", "turn refused", "draft discarded"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    async with running_mesh(VOICEMESH_LOG_LEVEL="debug", VOICEMESH_LOG_TRACE_URL=URL) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(mesh: Mesh) -> AsyncIterator[VoiceMesh]:
    async with VoiceMesh(mesh.address("gateway")) as opened:
        yield opened


def of_turn(mesh: Mesh, name: str, turn_id: str) -> list[dict[str, Any]]:
    return [line for line in mesh.processes[name].logs if line.get("turn_id") == turn_id]


def own_lines(mesh: Mesh, turn_id: str) -> list[dict[str, Any]]:
    return [line for line in of_turn(mesh, "gateway", turn_id) if line["event"] in TURN_EVENTS]


def all_lines(mesh: Mesh) -> list[dict[str, Any]]:
    return [line for line in mesh.processes["gateway"].logs if line["event"] in TURN_EVENTS]


async def until(found) -> None:
    async with asyncio.timeout(GUARD_S):
        while not found():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.02)  # another process writes it, and tells nobody


async def test_each_process_tells_of_a_turn_by_its_ids(mesh: Mesh, client: VoiceMesh) -> None:
    turn = client.ask(PROMPT)
    async for _ in turn:
        pass
    assert turn.report is not None
    turn_id, trace_id = turn.report.turn_id, turn.report.trace_id
    for name in SERVICES:
        await until(lambda name=name: of_turn(mesh, name, turn_id))
        for line in of_turn(mesh, name, turn_id):
            assert line["trace_id"] == trace_id, line
            assert line["trace_url"] == URL.replace("{trace_id}", trace_id)
            assert line["service"] == name
    (line,) = own_lines(mesh, turn_id)
    assert set(FIELDS) <= set(line)
    assert (line["outcome"], line["cache_hit"], line["trace_id"]) == ("completed", False, trace_id)
    assert line["total_latency_ms"] >= line["ttfa_ms"] >= line["llm_latency_ms"] > 0
    assert line["llm_tokens"] > 0
    assert line["tts_chars"] > 0
    said = "".join(text for name in SERVICES for text in mesh.processes[name].lines)
    assert "zebras" not in said


async def test_texts_and_what_fails_have_their_line_too(mesh: Mesh, client: VoiceMesh) -> None:
    turn = client.say("Some words of one's own.")
    async for _ in turn:
        pass
    assert turn.report is not None
    (spoken,) = own_lines(mesh, turn.report.turn_id)
    assert (spoken["outcome"], spoken["llm_tokens"]) == ("completed", 0)
    before = len(all_lines(mesh))
    batch = [item async for item in client.speak_batch(["One.", "Two."])]
    assert all(item.error is None for item in batch)
    texts = all_lines(mesh)[before:]
    assert [line["outcome"] for line in texts] == ["completed"] * 2
    assert len({line["turn_id"] for line in texts}) == 2
    with pytest.raises(VoiceMeshError):
        async for _ in client.say("   ", turn_id="an-empty-text"):
            pass
    (refused,) = own_lines(mesh, "an-empty-text")
    assert (refused["event"], refused["outcome"], refused["level"]) == ("turn refused", "refused", "warning")
    assert set(FIELDS) <= set(refused)


async def test_no_line_of_any_process_is_anything_but_json(mesh: Mesh) -> None:
    for process in mesh.processes.values():
        assert process.lines
        assert len(process.logs) == len(process.lines)
