"""Phrases that were warmed are heard from memory, by the turns that they were warmed for."""

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.command_line import voicemesh
from tests.support.mesh import Mesh, running_mesh
from voicemesh.client import SpeechOptions, TurnReport, VoiceMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")
GUARD_S = 60.0
PHRASES = ("Great job! That was right.", "Please try again.")
LONG = "No speech detected. Please say the whole sentence, slowly and clearly, so that I hear every word."


def voices(char_ms: int) -> str:
    """Return a declaration of one voice; another length of its characters is another model."""
    options = {"first_frame_ms": 10, "rtf": 0.01, "char_ms": char_ms}
    return json.dumps([{"name": "sim", "engine": "simulated", "options": options}])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rolling(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Mesh, pathlib.Path]]:
    """Run a mesh with a list of its own and voices from a file; give the mesh and that file."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "phrases.txt").write_text("\n".join(PHRASES))
    declared = folder / "voices.json"
    declared.write_text(voices(20))
    async with running_mesh(
        VOICEMESH_TTS_VOICES_FILE=str(declared),
        VOICEMESH_GATEWAY_WARM_FILE=str(folder / "phrases.txt"),
        VOICEMESH_GATEWAY_VOICES_POLL_S="0.1",
    ) as mesh:
        yield mesh, declared


async def warm(mesh: Mesh, path: pathlib.Path, *options: str) -> tuple[int, dict[str, Any]]:
    done = await voicemesh("warm", str(path), "--json", "--addr", mesh.address("gateway"), *options)
    return done.status, json.loads(done.out) if done.out else {}


async def said(mesh: Mesh, text: str, *, tenant: str = "", **options: Any) -> TurnReport:
    async with VoiceMesh(mesh.address("gateway"), tenant=tenant) as client:
        report = (await client.say(text, speech=SpeechOptions(**options)).collect()).report
    assert report is not None
    return report


def caches(report: TurnReport) -> set[str]:
    return {chunk.cache for chunk in report.chunks}


async def logged(mesh: Mesh, rounds: int) -> list[dict[str, Any]]:
    """Wait until the gateway has told of so many rounds over its list."""
    async with asyncio.timeout(GUARD_S):
        while True:
            told = [line for line in mesh.processes["gateway"].logs if line["event"] == "phrases warmed"]
            if len(told) >= rounds:
                return told
            await asyncio.sleep(0.05)  # another process's log


async def test_a_turn_hears_warmed_phrases_from_memory_and_no_engine_works(
    mesh: Mesh, tmp_path: pathlib.Path
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join((*PHRASES, LONG, PHRASES[0])))
    status, told = await warm(mesh, listed)
    assert (status, told) == (
        0,
        {"phrases": 3, "spoken": 3, "present": 0, "not_kept": 0, "failed": 0, "failures": []},
    )
    for text in (*PHRASES, LONG):
        report = await said(mesh, text)
        assert caches(report) == {"memory"}
        assert report.characters == 0
    status, told = await warm(mesh, listed)
    assert (status, told["spoken"], told["present"]) == (0, 0, 3)


async def test_a_phrase_is_warmed_for_its_tenant_speed_and_rate(mesh: Mesh, tmp_path: pathlib.Path) -> None:
    listed = tmp_path / "list.jsonl"
    phrase = {"text": "Welcome back.", "speed": 1.25, "sample_rate_hz": 8000, "tenant": "acme"}
    listed.write_text(json.dumps(phrase))
    assert (await warm(mesh, listed))[1]["spoken"] == 1
    options: dict[str, Any] = {"speed": 1.25, "sample_rate_hz": 8000}
    assert caches(await said(mesh, "Welcome back.", tenant="acme", **options)) == {"memory"}
    assert caches(await said(mesh, "Welcome back.", **options)) == {"miss"}
    assert caches(await said(mesh, "Welcome back.", tenant="acme")) == {"miss"}


async def test_what_cannot_be_warmed_is_told_and_the_rest_is_done(mesh: Mesh, tmp_path: pathlib.Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("Hello there.\n")
    status, _ = await warm(mesh, listed, "--voice", "nobody")
    assert status == 1
    listed.write_text("")
    assert (await warm(mesh, listed))[0] == 2
    assert (await warm(mesh, tmp_path / "nothing.txt"))[0] == 2


async def test_the_gateways_list_is_spoken_at_the_start(rolling: tuple[Mesh, pathlib.Path]) -> None:
    mesh, _ = rolling
    first = (await logged(mesh, 1))[0]
    assert (first["spoken"], first["complete"]) == (len(PHRASES), True)
    for text in PHRASES:
        assert caches(await said(mesh, text)) == {"memory"}


async def test_the_gateways_list_is_spoken_again_with_a_new_model(rolling: tuple[Mesh, pathlib.Path]) -> None:
    mesh, declared = rolling
    before = await logged(mesh, 1)
    other = declared.with_suffix(".new")
    other.write_text(voices(30))
    other.replace(declared)
    after = (await logged(mesh, len(before) + 1))[-1]
    assert after["revision"] != before[0]["revision"]
    assert after["spoken"] == len(PHRASES)
    assert caches(await said(mesh, PHRASES[0])) == {"memory"}
