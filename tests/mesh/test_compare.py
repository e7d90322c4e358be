"""`voicemesh bench --compare` against a mesh: the same prompts to both, turn about."""

import asyncio
import json
import os
import pathlib
import sys
from asyncio.subprocess import DEVNULL, PIPE
from typing import Any

import pytest

from tests.support.mesh import ROOT, Mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")
GUARD_S = 120.0
TURNS = 12


async def bench(mesh: Mesh, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VOICEMESH_ADDR": mesh.address("gateway")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voicemesh.cli", "bench", *arguments,
        stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment,
    )  # fmt: skip
    async with asyncio.timeout(GUARD_S):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_two_settings_are_asked_the_same_and_told_apart(mesh: Mesh) -> None:
    arguments = ("--turns", str(TURNS), "--concurrency", "2", "--json")
    run: dict[str, Any] = json.loads(
        await bench(mesh, *arguments, "--compare", "policy=words:3", "policy=sentence")
    )
    words, whole = run["turns"]["a"], run["turns"]["b"]
    assert [turn["prompt"] for turn in words] == [turn["prompt"] for turn in whole]
    assert {turn["outcome"] for turn in (*words, *whole)} == {"completed"}
    assert "words" in {chunk["reason"] for turn in words for chunk in turn["chunks"]}
    assert "words" not in {chunk["reason"] for turn in whole for chunk in turn["chunks"]}
    compared = run["compare"]
    assert (compared["a"], compared["b"]) == ("policy=words:3", "policy=sentence")
    assert (compared["pairs"], compared["turns"]) == (TURNS, {"a": TURNS, "b": TURNS})
    assert compared["metrics"]["ttfa_ms"]["values"] == {"a": TURNS, "b": TURNS}
    # The built-in prompts come round: each side finds its own replies again, and only its own.
    assert (
        {turn["reply_cache"] for turn in words[:8]} == {turn["reply_cache"] for turn in whole[:8]} == {"miss"}
    )
    for side in run["summary"].values():
        assert side["lookups"]["reply"]["hit"] > 0


async def test_runs_that_were_recorded_are_compared_later(mesh: Mesh, tmp_path: pathlib.Path) -> None:
    names = []
    for policy in ("clause", "sentence"):
        path = tmp_path / f"{policy}.json"
        path.write_text(await bench(mesh, "--turns", "10", "--no-cache", "--policy", policy, "--json"))
        names.append(str(path))
    shown = await bench(mesh, "--compare", *names)
    assert "10 pairs; intervals hold 95%" in shown
    assert "→ first audio: " in shown
