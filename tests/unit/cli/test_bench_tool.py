"""What a bench says of itself, and of loads that cannot be set side by side as they are."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.virtual_time import LoopClock, run_virtual
from tests.unit.cli.test_bench_html import parsed
from tests.unit.cli.test_bench_report import OPTIONS, run_of, turn
from voicemesh.cli.bench import Bench, BenchRun, TimedTurn
from voicemesh.cli.bench_html import page
from voicemesh.cli.bench_loads import arrivals_of
from voicemesh.cli.bench_options import BenchOptions, Job
from voicemesh.cli.bench_report import document, steps_of
from voicemesh.cli.exits import Failure
from voicemesh.cli.load import Output
from voicemesh.client import ChunkReport, TurnReport
from voicemesh.client.chunk_report import Underrun
from voicemesh.stages import Stage

CLOCK = LoopClock()


def made(*loads: tuple[BenchOptions, BenchRun]) -> Any:
    return json.loads(json.dumps(document(loads, {})))


def said(result: Any) -> str:
    return " ".join("".join(parsed(page(result)).itertext()).split())


def dry(underruns: int, seen: int, cause: Stage | None = None) -> TurnReport:
    """A turn whose caller ran dry `underruns` times, 300 ms each, of which the gateway saw `seen`."""
    listed = tuple(Underrun(at_ms=10, duration_ms=300, cause=cause) for _ in range(seen))
    chunk = ChunkReport(
        index=0, text="t", reason="flush", held_ms=0, cache="miss", first_frame_ms=100, audio_ms=500,
        underruns=seen, underrun_ms=300 * seen, underrun_list=listed,
    )  # fmt: skip
    return turn(
        chunks=(chunk,),
        underruns=underruns,
        underrun_ms=300 * underruns,
        hops={"caller": 883.0, "cache": 1.0},
    )


def test_what_ran_dry_behind_the_gateway_is_the_callers_and_calls_for_no_replica() -> None:
    run = replace(run_of(dry(3, 0), dry(2, 1, Stage.TTS_QUEUE)), loop_late_ms=[1.0, 2.0, 412.0])
    result = made((OPTIONS, run))
    assert result["summary"]["underruns_by_stage"] == {"caller": 4, "tts_queue": 1}
    line, stages = (line for line in result["advice"] if "underruns" in line)
    assert line == (
        "caller caused 4 of 5 underruns (1200 ms in sum): the gateway had sent in time, and this tool's "
        "machine or the network was late (the first audio on its way here by up to 883 ms, this tool's event "
        "loop by up to 412 ms): give the tool a machine of its own, or a lower load; replicas "
        "would change nothing"
    )
    assert "tts_queue caused 1 of 5 underruns" in stages
    alone = made((OPTIONS, run_of(dry(3, 0))))
    assert not any("VOICEMESH_TTS_VOICES" in line for line in alone["advice"])


def test_first_audio_that_was_late_behind_the_gateway_is_not_the_meshs() -> None:
    late = [turn(900, Stage.TRANSPORT, hops={"caller": 890.0, "llm": 2.0}) for _ in range(3)]
    usual = [turn(100 + number / 10, hops={"caller": 1.0, "llm": 2.0}) for number in range(40)]
    (line,) = [line for line in made((OPTIONS, run_of(*usual, *late)))["advice"] if line[:9] == "transport"]
    assert "it was late behind the gateway" in line
    assert "this tool's machine" in line


def test_underruns_without_an_account_of_the_gateway_are_nobodys() -> None:
    summary = made((OPTIONS, run_of(turn(underruns=2, chunks=()), dry(1, 1))))["summary"]
    assert summary["underruns_by_stage"] == {"unknown": 2, "by design": 1}


def test_a_loop_that_was_late_is_told_where_no_player_ran_dry() -> None:
    result = made((OPTIONS, replace(run_of(turn()), loop_late_ms=[0.1, 80.0])))
    assert any(
        line.startswith("this tool's event loop was late, by 79 ms (p99)") for line in result["advice"]
    )
    quiet = made((OPTIONS, replace(run_of(turn()), loop_late_ms=[0.1] * 1000)))
    assert not any("event loop" in line for line in quiet["advice"])


def test_the_tool_sees_its_own_loop_stand_still() -> None:
    stood_ns = 0

    def clock() -> int:
        return CLOCK.now_ns() + stood_ns

    async def ask(job: Job, begun: Any) -> TurnReport:
        nonlocal stood_ns
        await asyncio.sleep(0.21)
        stood_ns += 300_000_000  # as if everything had waited for one that gave no way
        await asyncio.sleep(0.2)
        return turn()

    options = replace(OPTIONS, turns=1)
    run = run_virtual(Bench(options, ask, lambda _: None, clock=clock).run())
    assert max(run.loop_late_ms) == pytest.approx(300, abs=1)
    assert sum(late_ms > 1 for late_ms in run.loop_late_ms) == 1


def test_what_was_given_up_is_told_with_what_it_means_and_no_cache_is_missed() -> None:
    light = run_of(*[turn() for _ in range(4)])
    heavy = run_of(*[turn(degraded=("cache", "history")) for _ in range(3)], turn(degraded=("cache",)))
    result = made((OPTIONS, light), (replace(OPTIONS, concurrency=6), heavy))
    advice = "\n".join(result["advice"])
    assert "of 4 turns at 6 callers some went on without the cache: cache in 4 and history in 3" in advice
    assert "VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS" in advice
    assert "none was cached" not in advice.replace("again at 1 caller and none was cached", "")
    text = said(result)
    for words in ("Given up", "4turns gave something up", "later than VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS"):
        assert words in text
    assert "Given up" not in said(made((OPTIONS, light)))


def test_each_load_has_its_figures_and_unlike_caches_are_told() -> None:
    light = run_of(*[turn(10, reply_cache="hit", cache="memory") for _ in range(4)], turn(500))
    heavy = run_of(*[turn(500) for _ in range(5)])
    result = made((OPTIONS, light), (replace(OPTIONS, concurrency=6), heavy))
    mixed = "the loads found different shares of their replies in the cache: 80% at 1 caller, 0% at 6 callers"
    assert any(line.startswith(mixed) for line in result["advice"])
    text = said(result)
    assert text.count(mixed) == 1 + 3  # advice, and each plot by load
    tiles = ["".join(tile.itertext()) for tile in parsed(page(result)).iter("div")
             if tile.get("class") == "tile"]  # fmt: skip
    assert [tile for tile in tiles if tile.endswith("replies cached")] == [
        "80%of 5 replies cached", "0%of 5 replies cached",
    ]  # fmt: skip
    alike = made((OPTIONS, heavy), (replace(OPTIONS, concurrency=6), heavy))
    assert not any("different shares" in line for line in alike["advice"])


@pytest.mark.parametrize(
    ("tenant", "addr", "command"),
    [
        ("", "127.0.0.1:50050", "voicemesh explain t"),
        ("bench-1-0", "127.0.0.1:50050", "voicemesh explain t --tenant bench-1-0"),
        ("", "there:1", "voicemesh explain t --addr there:1"),
        ("bench-1-0", "there:1", "voicemesh explain t --tenant bench-1-0 --addr there:1"),
    ],
)
def test_slow_turns_have_the_command_that_finds_them(tenant: str, addr: str, command: str) -> None:
    result = made((replace(OPTIONS, tenant=tenant, addr=addr), run_of(turn())))
    assert command in [cell.text for cell in parsed(page(result)).iter("td")]


def open_run(rate_per_s: float, ends_s: list[float]) -> tuple[BenchOptions, BenchRun]:
    """An open loop of turns that come evenly, the n-th of which ends at `ends_s[n]`."""
    turns = [
        TimedTurn(
            job=Job(number, 0, "p", None, None),
            report=turn(),
            due_s=number / rate_per_s,
            began_s=number / rate_per_s,
            ended_s=end_s,
        )
        for number, end_s in enumerate(ends_s)
    ]
    options = replace(OPTIONS, rate_per_s=rate_per_s, turns=len(turns))
    return options, BenchRun(turns=turns, wall_s=max(ends_s))


def test_a_mesh_that_answers_what_comes_keeps_up_however_long_its_last_turns_take() -> None:
    """30 turns at 2 a second, each of 4 s: of the whole run, 1.6 a second are answered."""
    result = made(open_run(2.0, [number / 2 + 4 for number in range(30)]))
    (step,) = steps_of(result)
    assert step.summary["turns_per_s"] < 1.65
    came = arrivals_of(step)
    assert came is not None
    assert came.asked_per_s == pytest.approx(2, abs=0.1)
    assert came.answered_per_s == pytest.approx(2, abs=0.1)
    assert not came.falls_behind
    assert not any("keep up" in line for line in result["advice"])


@pytest.mark.parametrize("served_per_s", [0.5, 1.0, 1.4])
def test_a_mesh_that_falls_behind_is_said_to(served_per_s: float) -> None:
    result = made(open_run(2.0, [(number + 1) / served_per_s for number in range(60)]))
    (line,) = [line for line in result["advice"] if "keep up" in line]
    assert line.startswith(f"while turns came, 2.0 a second, {served_per_s:.1f} a second were answered")


def test_a_run_that_is_over_before_its_first_turns_are_cannot_tell() -> None:
    (step,) = steps_of(made(open_run(100.0, [number / 100 + 5 for number in range(40)])))
    assert arrivals_of(step) is None


def test_turns_that_had_not_ended_when_a_run_was_cut_short_are_behind() -> None:
    options, run = open_run(2.0, [number / 2 + 0.5 for number in range(40)])
    (step,) = steps_of(made((options, replace(run, cut_short=True, unfinished=20))))
    came = arrivals_of(step)
    assert came is not None
    assert came.falls_behind


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", r"--html: \S+ is a folder$"),
        ("absent/report.html", r"cannot be written: \S+absent is not there"),
        ("file/report.html", r"cannot be written: \S+file is no folder"),
    ],
)
def test_which_folder_is_the_problem_is_said(name: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match=problem):
        Output(as_json=False, html=tmp_path / name).check()
