"""`bench --compare`: what can be compared, how turns are paired, and what is said of them."""

import io
import json
import pathlib
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from voicemesh.cli import compare
from voicemesh.cli.app import app
from voicemesh.cli.arms import arms, recorded
from voicemesh.cli.bench_options import BenchOptions
from voicemesh.cli.compare_html import comparison
from voicemesh.cli.compare_report import show
from voicemesh.cli.exits import Failure
from voicemesh.client import SpeechOptions

OPTIONS = BenchOptions(
    addr="host:1",
    turns=2,
    concurrency=1,
    rate_per_s=None,
    prompts=("p",),
    seed=1,
    speech=SpeechOptions(voice="espeak/en-us", max_lead_ms=0),
    reply_cache=True,
    limit_s=None,
)
FLAGS = {
    "flags": {
        "voicemesh.prompt": {"state": "ENABLED", "variants": {"brief": "Be brief, please."}},
        "voicemesh.chunk_policy": {"state": "ENABLED", "variants": {"short": "words:4"}},
    }
}


def turn(ttfa_ms: float, prompt: str = "p", **more: Any) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "outcome": "completed",
        "ttft_ms": ttfa_ms / 2,
        "ttfa_ms": ttfa_ms,
        "total_ms": 2 * ttfa_ms,
        "underruns": 0,
        "reply_cache": "miss",
        "chunks": [{"cache": "miss"}, {"cache": "memory"}],
        "cost_usd": 0.0,
        **more,
    }


FAILED = turn(0, outcome="failed", ttft_ms=0, total_ms=0, chunks=[], reply_cache="off")


def sentences(result: compare.Result) -> dict[str, str]:
    return {figure.metric.name: compare.sentence(figure) for figure in result.figures}


def result_of(difference_ms: float, count: int = 30, noise_ms: float = 3.0) -> compare.Result:
    pairs: list[compare.Pair] = []
    for number in range(count):
        base_ms = 200 + 40 * (number % 7)
        wobble_ms = noise_ms if number % 2 else -noise_ms
        pairs.append((turn(base_ms), turn(base_ms + difference_ms + wobble_ms)))
    return compare.result(("old", "new"), pairs, seed=1)


def test_a_difference_is_said_with_its_interval():
    said = sentences(result_of(-35))
    assert said["ttfa_ms"].startswith("first audio: B is ")
    assert " ms faster in the median pair, 95% interval " in said["ttfa_ms"]
    assert sentences(result_of(35))["total_ms"].startswith("whole turn: B is ")
    assert " slower in the median pair" in sentences(result_of(35))["total_ms"]


def test_no_difference_is_said_to_be_none_shown():
    assert (
        "first audio: no difference shown in the median pair: B - A is " in sentences(result_of(0))["ttfa_ms"]
    )


def test_no_stage_is_named_where_the_first_audio_shows_no_difference():
    def one(ttft_ms: float, synthesis_ms: float) -> dict[str, Any]:
        stages = {"llm_ttft": ttft_ms, "tts_synthesis": synthesis_ms}
        return turn(ttft_ms + synthesis_ms, stages=stages, unattributed_ms=0.0)

    # What one stage takes more the other takes less: each differs, their sum does not.
    pairs = [(one(100 + number % 7, 100), one(90 + number % 7, 110)) for number in range(40)]
    same = compare.result(("a", "b"), pairs, 1)
    assert [figure.metric.title for figure in same.figures if figure.metric in compare.STAGE_METRICS and
            figure.shows("mean")] == ["llm_ttft", "tts_synthesis"]  # fmt: skip
    assert compare.stage_sentence(same) == ""
    # Of stages that differ, the one in the direction of the whole is named, however much another makes up.
    pairs = [(one(100 + number % 7, 100), one(160 + number % 7, 60)) for number in range(40)]
    assert compare.stage_sentence(compare.result(("a", "b"), pairs, 1)).startswith("most of it is llm_ttft")


def test_of_too_few_turns_nothing_is_said():
    result = result_of(-35, count=9)
    assert sentences(result)["ttfa_ms"] == "first audio: too few turns to tell (9; at least 10 of each)"
    assert compare.to_json(result, 1)["metrics"]["ttfa_ms"]["pairs"]["shown"] is False


def test_turns_that_failed_or_are_missing_leave_their_pair_out_of_times_and_count_as_failed():
    pairs: list[compare.Pair] = [(turn(100), turn(90)) for _ in range(12)]
    # The second one failed behind its first audio.
    pairs += [(turn(1000), FAILED), (turn(2000, outcome="failed"), turn(2000)), (turn(5000), None)]
    result = compare.result(("a", "b"), pairs, seed=1)
    found = {figure.metric.name: figure for figure in result.figures}
    assert (result.turns, result.pairs) == ((15, 14), 14)
    assert found["ttfa_ms"].counts == (12, 12)
    assert found["ttfa_ms"].found["p95"].a == 100
    assert found["failed"].found["mean"].b == pytest.approx(1 / 14)
    assert found["audio_hit_rate"].found["mean"].a == 0.5


def test_runs_that_asked_the_same_are_paired_by_prompt_whatever_their_order():
    a = [turn(1, "x"), turn(2, "y"), turn(3, "x")]
    b = [turn(20, "y"), turn(10, "x"), turn(30, "x")]
    pairs = compare.paired_by_prompt(a, b)
    assert pairs is not None
    assert [(x["ttfa_ms"], y["ttfa_ms"]) for x, y in pairs if x and y] == [(1, 10), (2, 20), (3, 30)]
    assert compare.paired_by_prompt(a, b[:2]) is None
    assert compare.paired_by_prompt(a, [*b, turn(4, "z")]) is None


def test_the_json_form_has_every_figure():
    result = result_of(-35)
    told = compare.to_json(result, 7)
    assert set(told["metrics"]) == {metric.name for metric in compare.METRICS}
    median = told["metrics"]["ttfa_ms"]["pairs"]
    assert set(median) == {"a", "b", "difference", "ratio", "shown", "fewest"}
    assert set(median["difference"]) == {"value", "low", "high"}
    assert median["shown"] is True
    assert told["method"] == {"interval": "percentile bootstrap", "level": 0.95, "paired": True, "seed": 7}
    json.dumps(told)


def test_the_table_leaves_out_what_there_was_none_of():
    stream = io.StringIO()
    show(Console(file=stream, width=100), result_of(-35), ["a note"])
    shown = stream.getvalue()
    assert "A: old (30 turns)\nB: new (30 turns)\n30 pairs" in shown
    assert "first audio," in shown
    assert "underruns" not in shown
    assert "→ a note" in shown


def test_flags_that_had_a_say_are_told():
    pairs: list[compare.Pair] = [(turn(1, variants={"voicemesh.voice": "new"}), turn(1))]
    stream = io.StringIO()
    show(Console(file=stream, width=100), compare.result(("a", "b"), pairs, seed=1))
    assert "flags had a say in turns of A: voicemesh.voice=new in 1" in stream.getvalue()


@pytest.fixture
def flags(tmp_path: pathlib.Path) -> dict[str, str]:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(FLAGS))
    return {"VOICEMESH_FLAGS_FILE": str(path)}


def test_arms_say_what_is_asked_for(flags: dict[str, str]):
    a, b = arms("policy=clause,prompt=Hello, you,model=m", "addr=there:2,voice=espeak/de", OPTIONS, flags)
    assert (a.speech.policy, a.system_prompt, a.model) == ("clause", "Hello, you", "m")
    assert (a.addr, a.speech.voice, b.addr, b.speech.voice) == (
        "host:1",
        "espeak/en-us",
        "there:2",
        "espeak/de",
    )
    a, b = arms("other:50050", "policy=", OPTIONS, flags)
    assert (a.addr, b.speech.policy) == ("other:50050", "")


def test_arms_name_variants_of_flags_or_their_values(flags: dict[str, str]):
    a, b = arms("voicemesh.prompt=brief", "voicemesh.prompt=Be long.", OPTIONS, flags)
    assert (a.system_prompt, b.system_prompt) == ("Be brief, please.", "Be long.")
    a, b = arms("voicemesh.chunk_policy=short", "voicemesh.chunk_policy=sentence", OPTIONS, flags)
    assert (a.speech.policy, b.speech.policy) == ("words:4", "sentence")
    with pytest.raises(
        Failure, match=r"'long' is none of adaptive.*variants of voicemesh\.chunk_policy are short"
    ):
        arms("voicemesh.chunk_policy=long", "policy=clause", OPTIONS, flags)


def test_a_value_that_could_be_a_name_is_a_prompt_of_the_mesh(tmp_path: pathlib.Path):
    path = tmp_path / "flags.json"
    variants = {"short": "compact", "own": "Be brief, please.", "none": ""}
    path.write_text(json.dumps({"flags": {"voicemesh.prompt": {"state": "ENABLED", "variants": variants}}}))
    named = {"VOICEMESH_FLAGS_FILE": str(path)}
    for text in ("prompt=compact", "voicemesh.prompt=short"):
        (a, b) = arms(text, "voicemesh.prompt=own", OPTIONS, named)
        assert (a.system_prompt, a.prompt_variant) == ("", "compact")
        assert (b.system_prompt, b.prompt_variant) == ("Be brief, please.", "")
    (a, _) = arms("voicemesh.prompt=none", "policy=clause", OPTIONS, named)
    assert (a.system_prompt, a.prompt_variant) == ("", "")


def test_a_prompt_may_be_longer_than_the_name_of_a_file():
    long = "prompt=" + "Be brief. " * 100
    assert recorded(long, "prompt=compact") is None


def test_arms_share_no_cache_unless_a_tenant_is_named():
    a, b = arms("policy=clause", "policy=clause", OPTIONS, {})
    again, _ = arms("policy=clause", "policy=clause", OPTIONS, {})
    assert len({a.tenant, b.tenant, again.tenant}) == 3


@pytest.mark.parametrize(
    "text", ["policy", "polciy=clause", "policy=never", "nowhere.json", "policy=clause,x=1"]
)
def test_what_cannot_be_compared_is_wrong_use(text: str):
    result = CliRunner().invoke(app, ["bench", "--compare", text, "policy=clause"])
    assert result.exit_code == 2
    assert "--compare: " in result.stderr


def test_recorded_runs_are_compared(tmp_path: pathlib.Path):
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, faster_ms in zip(paths, (0, 35), strict=True):
        turns = [turn(200 + 40 * (n % 7) - faster_ms + n % 3, f"prompt {n}") for n in range(20)]
        path.write_text(json.dumps({"turns": turns}))
    names = [str(path) for path in paths]
    told = CliRunner().invoke(app, ["bench", "--compare", *names])
    assert told.exit_code == 0
    assert "20 pairs" in told.stdout
    assert "first audio: B is 35 ms faster in the median pair" in told.stdout
    in_json = json.loads(CliRunner().invoke(app, ["bench", "--json", "--compare", *names]).stdout)
    assert in_json["compare"]["metrics"]["ttfa_ms"]["median"]["difference"]["value"] == -35
    # Other prompts: the same turns, without pairs, show nothing.
    paths[1].write_text(paths[1].read_text().replace("prompt ", "question "))
    apart = CliRunner().invoke(app, ["bench", "--compare", *names])
    assert "not paired" in apart.stdout
    assert "first audio: no difference shown at the median" in apart.stdout


@pytest.mark.parametrize("content", ["{", "[]", '{"turns": []}', '{"turns": {"a": []}}', '{"turns": [1]}'])
def test_files_that_are_no_runs_are_refused(tmp_path: pathlib.Path, content: str):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(Failure, match="is not what `voicemesh bench --json` prints"):
        recorded(str(path), str(path))
    with pytest.raises(Failure, match="is no file, and a recorded run is compared with another one"):
        recorded(str(path), "policy=clause")


def test_the_table_has_eighty_columns_and_money_fixed_decimals():
    pairs: list[compare.Pair] = [
        (turn(12345 + n, cost_usd=0.000015), turn(12340 + 2 * n, cost_usd=0.00001)) for n in range(30)
    ]
    stream = io.StringIO()
    show(Console(file=stream, width=80), compare.result(("a", "b"), pairs, seed=1))
    table = stream.getvalue().partition("→")[0]
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 80
    assert "$0.000015" in table
    assert "e-" not in stream.getvalue()
    assert "B is $0.000005 cheaper" in stream.getvalue()


@pytest.mark.parametrize(("count", "shows"), [(99, False), (100, True)])
def test_a_p95_is_left_out_where_there_are_too_few_turns_for_one(count, shows):
    result = result_of(-35, count=count)
    stream = io.StringIO()
    show(Console(file=stream, width=80), result)
    assert ("p95" in stream.getvalue()) is shows
    assert compare.to_json(result, 1)["metrics"]["ttfa_ms"]["p95"]["shown"] is shows


@pytest.mark.parametrize(
    "given", [["policy=usual", "--turns", "5"], ["a.json", "b.json", "c.json"], ["policy=usual", "--json"]]
)
def test_what_takes_two_says_so(given):
    result = CliRunner().invoke(app, ["bench", "--compare", *given])
    assert result.exit_code == 2
    assert "--compare: takes two settings or files, A and B" in result.stderr


def test_what_is_left_over_without_compare_is_wrong_use():
    result = CliRunner().invoke(app, ["bench", "5"])
    assert result.exit_code == 2
    assert "bench takes no argument: '5'" in result.stderr


def test_what_another_statistic_shows_is_said_beside_the_pairs_that_show_nothing():
    # Nine of ten pairs differ by next to nothing, to either side; the tenth is much slower.
    pairs: list[compare.Pair] = [
        (turn(100), turn(99 if number % 2 == 0 else 600 if number % 10 == 1 else 101))
        for number in range(200)
    ]
    result = compare.result(("a", "b"), pairs, seed=1)
    (figure,) = [figure for figure in result.figures if figure.metric.name == "ttfa_ms"]
    assert [name for name in figure.found if figure.shows(name)] == ["p95"]
    assert compare.sentence(figure).startswith(
        "first audio: no difference shown in the median pair: B - A is "
    )
    assert "; but its p95 is 500 ms slower, 95% interval 500 to 500 ms" in compare.sentence(figure)


def told_apart(result: compare.Result) -> str:
    return " ".join(" ".join(comparison({"compare": compare.to_json(result, 1)})).split())


def test_a_difference_that_is_of_too_few_turns_says_so():
    told = told_apart(result_of(-35, count=30))
    assert "too few: 30 of 100" in told
    assert "of a p95 from 100 on" in told
    assert "too few" not in told_apart(result_of(-35, count=500)).replace("of too few turns to claim one", "")


def staged(shift_ms: float) -> dict[str, Any]:
    stages = {"llm_ttft": 100 + shift_ms, "tts_synthesis": 100.0}
    chunks = [{"cache": "miss", "reason": "flush", "audio_ms": 500.0}]
    return turn(
        200 + shift_ms,
        stages=stages,
        unattributed_ms=0.0,
        audio_ms=500.0,
        turn_id="t",
        degraded=[],
        chunks=chunks,
    )


def test_what_else_differs_comes_first_and_every_stage_has_its_mean():
    pairs: list[compare.Pair] = [(staged(number % 5), staged(40 + number % 7)) for number in range(20)]
    result = compare.result(("a", "b"), pairs, seed=1)
    stream = io.StringIO()
    show(Console(file=stream, width=80), replace(result, warnings=["policy differs"]))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "→ policy differs"
    text = " ".join(stream.getvalue().split())
    assert "llm_ttft, mean" in text
    assert "tts_synthesis," in text  # although it shows no difference
    assert "chunk_hold" not in text  # there was none of it


def saved(path: pathlib.Path, loads: dict[str, float]) -> str:
    """A run of 20 turns under each load, with its time to first audio."""
    steps: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for place, (load, ttfa_ms) in enumerate(loads.items()):
        step = dict.fromkeys(("concurrency", "rate_per_s", "late_ms", "unfinished"))
        step |= dict.fromkeys(("most_in_flight", "held_back", "cut_short", "warmup_failed"), 0)
        steps.append({**step, "load": load, "summary": {}})
        run = {"step": place, "due_s": None, "began_s": 0.0, "ended_s": 1.0}
        turns += [staged(ttfa_ms + number % 3) | {"prompt": f"p{number}", "run": run} for number in range(20)]
    path.write_text(json.dumps({"turns": turns, "summary": {}, "steps": steps, "config": {}}))
    return str(path)


def test_two_sweeps_are_compared_load_by_load(tmp_path: pathlib.Path):
    a = saved(tmp_path / "a.json", {"1 caller": 0, "6 callers": 100})
    b = saved(tmp_path / "b.json", {"6 callers": 160, "1 caller": 0})
    html = tmp_path / "ab.html"
    told = CliRunner().invoke(app, ["bench", "--compare", a, b, "--html", str(html)])
    assert told.exit_code == 0, told.output
    light, _, heavy = told.stdout.partition("under 6 callers")
    assert light.startswith("under 1 caller\n")
    assert "first audio: no difference shown" in light
    assert "first audio: B is 60 ms slower" in heavy
    compared = json.loads(CliRunner().invoke(app, ["bench", "--compare", a, b, "--json"]).stdout)["compare"]
    assert "metrics" not in compared
    assert [(each["load"], each["steps"]) for each in compared["loads"]] == [
        ("1 caller", {"a": 0, "b": 1}), ("6 callers", {"a": 1, "b": 0}),
    ]  # fmt: skip
    page = html.read_text()
    assert page.index("Under 1 caller") < page.index("Under 6 callers") < page.index("B is 60 ms slower")


def test_sweeps_of_other_loads_are_not_compared(tmp_path: pathlib.Path):
    a = saved(tmp_path / "a.json", {"1 caller": 0, "6 callers": 100})
    b = saved(tmp_path / "b.json", {"1 caller": 0})
    told = CliRunner().invoke(app, ["bench", "--compare", a, b])
    assert told.exit_code == 2
    assert "a.json has 1 caller, 6 callers and " in told.stderr
    assert "sweeps are compared load by load" in told.stderr
    # One load each is what a comparison of loads is.
    assert CliRunner().invoke(app, ["bench", "--compare", b, b]).exit_code == 0
