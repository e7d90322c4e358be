"""`voicemesh bench --compare` against a mesh: the same prompts to both, turn about."""

import json
import pathlib
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.support.command_line import voicemesh
from tests.support.mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")
GUARD_S = 120.0
TURNS = 12


async def bench(mesh: Mesh, *arguments: str) -> str:
    done = await voicemesh("bench", *arguments, environment={"VOICEMESH_ADDR": mesh.address("gateway")})
    assert done.status == 0, done.err
    return done.out


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


async def test_a_sweep_has_a_report_of_the_same_numbers(mesh: Mesh, tmp_path: pathlib.Path) -> None:
    report = tmp_path / "report.html"
    arguments = ("--concurrency", "1,3", "--turns", "6", "--warmup", "1", "--mix", "cached=0.5,own_words=0.2")
    run: dict[str, Any] = json.loads(await bench(mesh, *arguments, "--html", str(report), "--json"))
    assert [step["load"] for step in run["steps"]] == ["1 caller", "3 callers"]
    assert [turn["run"]["step"] for turn in run["turns"]] == [0] * 6 + [1] * 6
    assert {turn["outcome"] for turn in run["turns"]} == {"completed"}
    kinds: dict[str, set[str]] = {turn["run"]["kind"]: set() for turn in run["turns"]}
    for turn in run["turns"]:
        kinds[turn["run"]["kind"]].add(turn["reply_cache"])
    # What was to be found in the cache was, and nothing else: each load has a cache of its own.
    assert kinds["cached"] == {"hit"}
    assert "hit" not in kinds["plain"]
    root = ET.fromstring(report.read_text().partition("\n")[2])
    drawn = {float(mark.attrib["data-y"]) for mark in root.iter() if "data-y" in mark.attrib}
    for step in run["steps"]:
        assert set(step["summary"]["ttfa_ms"].values()) <= drawn
    assert {turn["ttfa_ms"] for turn in run["turns"]} <= drawn


async def test_turns_of_an_open_loop_count_from_when_they_were_due(mesh: Mesh) -> None:
    run: dict[str, Any] = json.loads(
        await bench(mesh, "--rate", "20", "--arrivals", "poisson", "--turns", "10", "--json")
    )
    (step,) = run["steps"]
    assert (step["loop"], step["held_back"], len(run["turns"])) == ("open", 0, 10)
    for turn in run["turns"]:
        timing = turn["run"]
        assert turn["total_ms"] >= timing["late_ms"]
        assert timing["ended_s"] - timing["due_s"] >= turn["total_ms"] / 1000 - 0.001
