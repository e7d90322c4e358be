"""`voicemesh capacity`: what is asked, what is told, and what is wrong about a question."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.unit.capacity.queues import profile
from voicemesh.capacity import profile as profiles
from voicemesh.capacity.profile import Kind
from voicemesh.cli.app import app

PATH = {"gateway": 2.0, "llm": 1.0, "chunker": 0.5, "cache": 0.3, "tts": 1.0}
CPU_MS = {"gateway": 20.0, "llm": 5.0, "chunker": 2.0, "cache": 1.0, "tts": 10.0, "worker": 12.0}


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """A profile with a model of 100 ms, an engine of 40, and five milliseconds of everything else."""
    of = profile([200.0, 300.0, 400.0], slots=4, first_ms=40.0, llm_ms=100.0, path_ms=PATH, cpu_ms=CPU_MS)
    turns = [replace(turn, ttft_ms=70.0) for turn in of.made.turns]
    of = replace(of, made=Kind(of.made.cpu_ms, turns), model="rehearsal/rehearsal", tokens_per_s=100.0)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(profiles.to_json(of)))
    return str(path)


def bench_turn(ttft_ms: float) -> dict[str, Any]:
    """A turn as a bench prints it: of its first token, and two more that its first chunk took."""
    return {
        "outcome": "completed",
        "reply_cache": "off",
        "text": "abcdefghijkl",
        "chunks": [{"text": "abcdef"}],
        "tokens": {"input": 5, "output": 6, "cached": 0},
        "stages": {"llm_connect": 0.0, "llm_ttft": ttft_ms, "llm_text": 20.0},
    }


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
    for name, service in by_rate["services"].items():
        assert service["replicas"] == at_once["services"][name]["replicas"]
        assert service["busy"] == pytest.approx(at_once["services"][name]["busy"], abs=1e-3)
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


def test_longer_replies_are_other_turns(mine):
    fast = told("--rate", "5", "--p95", "500ms", "--profile", mine)
    long = told("--rate", "5", "--p95", "500ms", "--profile", mine, "--speech-s", "5")
    assert long["asked"]["turn_s"] == pytest.approx(5.145, abs=0.001)
    assert long["profile"]["turn"]["engine_s"] > 4 * fast["profile"]["turn"]["engine_s"]


def test_a_model_of_ones_own_has_its_times(mine, tmp_path):
    asked = ("--rate", "5", "--profile", mine)
    own = told(*asked, "--p95", "2s", "--ttft", "350ms,0.9s", "--tokens-per-s", "50")
    # 900 ms to the first token, 60 for the words of the chunk at half the pace, 44.8 for all else.
    assert own["simulated"]["floor_p95_ms"] == pytest.approx(900 + 60 + 44.8, rel=0.01)
    assert own["simulated"]["ttfa_ms"]["p95"] == pytest.approx(1005, rel=0.1)
    assert own["asked"]["model_p95_ms"] == pytest.approx(960, rel=0.01)
    assert not any("rehearsal" in line for line in own["remarks"])
    assert any("no provider is so even" in line for line in told(*asked, "--p95", "2s")["remarks"])
    refused = run(*asked, "--p95", "600", "--ttft", "350,900")
    assert refused.exit_code == 1
    assert "most of it the model" in refused.stderr
    bench = tmp_path / "bench.json"
    bench.write_text(json.dumps({"turns": [bench_turn(200.0 + 10 * place) for place in range(40)]}))
    found = told(*asked, "--p95", "2s", "--model-from", str(bench))
    assert found["simulated"]["floor_p95_ms"] == pytest.approx(580 + 20 + 44.8, rel=0.02)


def test_callers_are_turns_and_pauses(mine):
    half = told("--callers", "20", "--p95", "500", "--profile", mine)
    assert half["asked"]["turns_at_once"] == pytest.approx(10)
    fewer = told("--callers", "20", "--think", "3.4344s", "--p95", "500", "--profile", mine)
    assert fewer["asked"]["turns_at_once"] == pytest.approx(5)
    shown = run("--callers", "20", "--think", "3s", "--p95", "500", "--profile", mine).stdout
    assert "20 callers, each 1.1 s in a turn and 3.0 s out of one" in shown


def test_a_plan_says_what_pods_ask_for_and_what_keda_makes_of_it(mine):
    found = told("--rate", "60", "--p95", "500ms", "--profile", mine, "--node-cores", "4", "--node-gib", "2")
    services = found["services"]
    for of in services.values():
        assert of["all"]["cpu"] == pytest.approx(of["replicas"] * of["asks_for"]["cpu"], abs=1e-3)
        assert of["keda"]["fitting_threshold"] * of["replicas"] <= of["keda"]["counts"] * (1 + 1e-3)
    assert found["asked_for"]["memory_mib"] == pytest.approx(
        sum(of["all"]["memory_mib"] for of in services.values())
    )
    # A gateway uses 0.6 of a core here, and asks for less: a scheduler would believe it.
    gateway = services["gateway"]
    assert gateway["uses_cpu"] == pytest.approx(60 * 0.02 / gateway["replicas"])
    assert any("pods use more CPU than they ask for" in line for line in found["remarks"])
    # Memory decides how many nodes there are: they hold 2 GiB each.
    assert found["nodes"]["decided_by"] == "what pods ask for"
    assert found["nodes"]["replicas"] * 2048 >= found["asked_for"]["memory_mib"]
    shown = run("--rate", "60", "--p95", "500ms", "--profile", mine).stdout
    assert "KEDA" in shown
    assert "all pods ask for" in shown


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
        ([], "in one of three ways: --turns N"),
        (["--turns", "1", "--rate", "1"], "in one of three ways: --turns N"),
        (["--turns", "0"], "--turns: must be from 0.01"),
        (["--rate", "nan"], "--rate: must be from 0.001"),
        (["--rate", "1", "--p95", "300m"], "--p95: must be a time like 300ms, 0.8s, or 300 for milliseconds"),
        (["--rate", "1", "--callers", "2"], "in one of three ways: --turns N"),
        (["--rate", "1", "--think", "2s"], "--think: is about callers, and there are no --callers"),
        (["--callers", "0"], "--callers: must be from 1"),
        (["--rate", "1", "--ttft", "300"], "--ttft: must be two times, as in 350ms,900ms"),
        (["--rate", "1", "--ttft", "900,300"], "--ttft: the second time must be no less than the first"),
        (["--rate", "1", "--tokens-per-s", "0"], "--tokens-per-s: must be from 0.1"),
        (["--rate", "1", "--ttft", "1,2", "--model-from", "x"], "--ttft and --model-from exclude each other"),
        (["--rate", "1", "--model-from", "/none"], "/none: No such file"),
        (["--rate", "1", "--node-gib", "0"], "--node-gib: must be from 0.1"),
        (
            ["--rate", "1", "--node-cores", "0.5"],
            "a pod of tts asks for 1 CPU and 384 MiB, and fits on no node",
        ),
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
