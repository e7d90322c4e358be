"""`voicemesh capacity`: what is asked, what is told, and what is wrong about a question."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.unit.capacity.queues import profile
from voicemesh.capacity import profile as profiles
from voicemesh.cli.app import app

PATH = {"gateway": 2.0, "llm": 1.0, "chunker": 0.5, "cache": 0.3, "tts": 1.0}
CPU_MS = {"gateway": 20.0, "llm": 5.0, "chunker": 2.0, "cache": 1.0, "tts": 10.0, "worker": 12.0}


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """A profile with a model of 100 ms, an engine of 40, and five milliseconds of everything else."""
    of = profile([200.0, 300.0, 400.0], slots=4, first_ms=40.0, llm_ms=100.0, path_ms=PATH, cpu_ms=CPU_MS)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(profiles.to_json(of)))
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["capacity", *arguments], env={"COLUMNS": "100"})


def told(*arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_turns_at_once_are_the_rate_times_how_long_a_turn_is(mine):
    at_once = told("--turns", "4", "--p95", "500ms", "--profile", mine)
    assert at_once["asked"]["turn_s"] == pytest.approx(1.145, abs=0.001)
    assert at_once["asked"]["turns_per_s"] == pytest.approx(4 / 1.1448, rel=1e-3)
    by_rate = told("--rate", f"{4 / 1.1448:.6f}", "--p95", "0.5s", "--profile", mine)
    assert by_rate["services"] == at_once["services"]
    assert by_rate["simulated"]["ttfa_ms"]["p95"] <= 500


def test_a_plan_is_a_table_with_what_decides_and_what_was_not_measured(mine):
    done = run("--rate", "30", "--p95", "500ms", "--profile", mine, "--spare", "1")
    assert done.exit_code == 0
    for words in (
        "turns at once = 30.00 that begin in a second",
        "engine slots, 1 spare",
        "nodes of 2 cores",
        "no GPU is in this plan: the profile measured none",
        "without a price, and in no sum: nodes (--node-usd), LLM (--llm-usd)",
        "the engine of test only waits",
    ):
        assert words in done.stdout


def test_prices_give_a_cost_and_none_gives_none(mine, tmp_path):
    free = told("--rate", "30", "--p95", "500ms", "--profile", mine)
    assert free["cost"].pop("unpriced") == ["nodes", "LLM"]
    assert set(free["cost"].values()) == {None}
    prices = tmp_path / "prices.json"
    prices.write_text('{"node_cores": 2, "node_usd_per_hour": 0.1, "llm_usd_per_1000_turns": 9}')
    paid = told(
        "--rate", "30", "--p95", "500ms", "--profile", mine, "--prices", str(prices), "--llm-usd", "2"
    )
    nodes = paid["nodes"]["replicas"]
    assert paid["cost"]["usd_per_hour"] == pytest.approx(0.1 * nodes)
    assert paid["cost"]["llm_usd_per_hour"] == pytest.approx(216)
    assert paid["cost"]["usd_per_1000_turns"] == pytest.approx((0.1 * nodes + 216) / 108, abs=1e-6)
    assert paid["cost"]["unpriced"] == []


def test_an_objective_out_of_reach_names_the_stage_and_exits_with_1(mine):
    done = run("--turns", "10", "--p95", "50ms", "--profile", mine)
    assert done.exit_code == 1
    assert "OUT_OF_REACH" in done.stderr
    assert "where nobody waits it is 145 ms, most of it the model" in done.stderr


def test_a_faster_model_and_longer_replies_are_other_turns(mine):
    fast = told("--rate", "5", "--p95", "100ms", "--profile", mine, "--model-ms", "10")
    assert fast["simulated"]["floor_p95_ms"] == pytest.approx(54.8)
    long = told("--rate", "5", "--p95", "500ms", "--profile", mine, "--speech-s", "5")
    assert long["asked"]["turn_s"] == pytest.approx(5.145, abs=0.001)
    assert long["profile"]["turn"]["engine_s"] > 4 * fast["profile"]["turn"]["engine_s"]


def test_turns_may_come_in_bursts_or_as_they_were_recorded(mine, tmp_path):
    options = ("--rate", "3", "--p95", "3s", "--profile", mine)
    usual, bursts = told(*options), told(*options, "--bursts", "3,5")
    assert bursts["simulated"]["ttfa_ms"]["p95"] > usual["simulated"]["ttfa_ms"]["p95"]
    trace = tmp_path / "trace"
    trace.write_text("\n".join(f"{place / 10}" for place in range(100)))
    even = told(*options, "--trace", str(trace))
    assert even["simulated"]["ttfa_ms"]["p95"] <= usual["simulated"]["ttfa_ms"]["p95"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --turns N (at once) or --rate R"),
        (["--turns", "1", "--rate", "1"], "either --turns N (at once) or --rate R"),
        (["--turns", "0"], "--turns: must be from 0.01"),
        (["--rate", "nan"], "--rate: must be from 0.001"),
        (["--rate", "1", "--p95", "300"], "--p95: must be a time like 300ms or 0.8s, and is '300'"),
        (["--rate", "1", "--p95", "0ms"], "--p95: must be a time"),
        (["--rate", "1", "--cached", "120%"], "--cached: must be a percentage from 0 to 100"),
        (["--rate", "1", "--cached", "50%"], "has no turns that were in the cache"),
        (["--rate", "1", "--utilisation", "100%"], "--utilisation: must be a percentage from 1 to 98"),
        (["--rate", "1", "--node-cores", "0"], "--node-cores: must be a number from 0.1"),
        (["--rate", "1", "--gpu-usd", "-2"], "--gpu-usd: must be a number from 0"),
        (["--rate", "1", "--bursts", "x"], "--bursts: must be a factor"),
        (["--rate", "1", "--bursts", "1"], "--bursts (factor): must be from 1.1"),
        (["--rate", "1", "--bursts", "2", "--trace", "x"], "--bursts and --trace exclude each other"),
        (["--rate", "1", "--trace", "/none"], "/none: No such file"),
        (["--rate", "1", "--speech-s", "0"], "--speech-s: must be from 0.1"),
        (["--rate", "1", "--model-ms", "-1"], "--model-ms: must be from 0"),
        (["--rate", "1", "--profile", "none.json"], "none.json: is no file, and no profile that comes along"),
    ],
)
def test_a_wrong_question_is_told_with_its_option(mine, arguments, message):
    if "--profile" not in arguments:
        arguments = [*arguments, "--profile", mine]
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_the_profiles_that_come_along_are_listed():
    found = json.loads(run("--profiles", "--json").stdout)["profiles"]
    assert [each["name"] for each in found] == profiles.shipped()
    for each in found:
        assert each["turns_per_s"]["gpu"] is None  # none was measured, so none is told
        assert each["turns_per_s"]["core"] > 0
    shown = run("--profiles").stdout
    assert all(each["name"] in shown for each in found)
