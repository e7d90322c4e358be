"""`voicemesh bench --compare` against gateways: turns that fail, and a mesh that is not there."""

import json
from collections import Counter

from tests.contract.test_cli import cli, nowhere

__all__ = ["cli", "nowhere"]


async def test_turns_that_fail_are_counted_and_left_out_of_the_times(cli):
    (cli.folder / "prompts.txt").write_text("one\ntwo\nfail\n")
    result = await cli.run(
        "bench", "--turns", "30", "--concurrency", "4", "--prompts", "prompts.txt", "--json",
        "--compare", "policy=sentence", "prompt=compact",
    )  # fmt: skip
    assert (result.status, result.err) == (0, "")
    run = json.loads(result.out)
    assert {letter: len(turns) for letter, turns in run["turns"].items()} == {"a": 30, "b": 30}
    metrics = run["compare"]["metrics"]
    assert run["compare"]["pairs"] == 30
    assert metrics["failed"]["mean"]["a"] == metrics["failed"]["mean"]["b"] == round(1 / 3, 6)
    assert metrics["ttfa_ms"]["values"] == {"a": 20, "b": 20}
    assert run["config"]["arms"]["b"]["prompt_variant"] == "compact"
    asked = [request.configure for request in cli.gateway.received if request.HasField("configure")]
    assert Counter(each.system_prompt_variant for each in asked) == {"": 30, "compact": 30}


async def test_one_that_only_fails_ends_with_1(cli):
    (cli.folder / "prompts.txt").write_text("fail\n")
    result = await cli.run(
        "bench", "--turns", "2", "--prompts", "prompts.txt", "--compare", "policy=sentence", "policy=clause"
    )
    assert result.status == 1
    for letter in "AB":
        assert f"→ {letter}: 2 turns failed with LLM_UNAVAILABLE: no model answers" in result.out


async def test_a_mesh_that_is_not_there_is_named_before_anything_runs(cli, nowhere):
    result = await cli.run("bench", "--turns", "2", "--compare", f"addr={cli.address}", nowhere.address)
    assert (result.status, result.out) == (3, "")
    assert f"cannot reach the mesh at {nowhere.address}" in result.err
