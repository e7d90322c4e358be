"""The summary of a bench: numbers, and advice that is drawn from them."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from voicemesh.cli.bench import BenchRun, TimedTurn
from voicemesh.cli.bench_options import BenchOptions, Job
from voicemesh.cli.bench_report import document, show
from voicemesh.cli.slow_text import headline
from voicemesh.client import ChunkReport, Cost, SpeechOptions, TurnReport, VoiceMeshError
from voicemesh.client.chunk_report import no_stages
from voicemesh.critical_path import Population, analyse, causes
from voicemesh.critical_path.reports import turn_from
from voicemesh.stages import STAGES, Stage

OPTIONS = BenchOptions(
    addr="host:1",
    turns=2,
    concurrency=1,
    rate_per_s=None,
    prompts=("p",),
    seed=1,
    speech=SpeechOptions(max_lead_ms=0),
    reply_cache=True,
    limit_s=None,
)


def turn(
    ttfa_ms: float = 100.0, stage: Stage = Stage.LLM_TTFT, *, cache: str = "miss", **fields
) -> TurnReport:
    chunk = ChunkReport(
        index=0, text="t", reason="flush", held_ms=0, cache=cache, first_frame_ms=ttfa_ms, audio_ms=500
    )
    values = {
        "turn_id": "t",
        "outcome": "completed",
        "ttft_ms": ttfa_ms / 2,
        "ttfa_ms": ttfa_ms,
        "total_ms": 2 * ttfa_ms,
        "stages": {**no_stages(), stage: ttfa_ms},
        "chunks": (chunk,),
        "reply_cache": "miss",
        **fields,
    }
    return TurnReport(**values)


def failed(reason: str = "QUEUE_FULL") -> TurnReport:
    return TurnReport(turn_id="f", error=VoiceMeshError("RESOURCE_EXHAUSTED", reason, "no place"))


def run_of(*reports: TurnReport, late_ms: tuple[float, ...] = (), cut_short: bool = False) -> BenchRun:
    """A run of two seconds; with `late_ms` it was an open one."""
    late = [None] * len(reports) if not late_ms else [*late_ms, *[0.0] * (len(reports) - len(late_ms))]
    turns = [
        TimedTurn(
            job=Job(number, 0, "p", None, None),
            report=report,
            due_s=None if lateness is None else 0.1 * number,
            began_s=0.1 * number + (lateness or 0.0) / 1000,
            ended_s=0.1 * number + 0.5,
        )
        for number, (report, lateness) in enumerate(zip(reports, late, strict=True))
    ]
    return BenchRun(turns=turns, wall_s=2.0, cut_short=cut_short)


def summarise(run: BenchRun):
    return document([(OPTIONS, run)], {})["summary"]


def advice(run: BenchRun):
    return document([(OPTIONS, run)], {})["advice"]


def shown(run: BenchRun) -> str:
    stream = io.StringIO()
    show(Console(file=stream, width=80), json.loads(json.dumps(document([(OPTIONS, run)], {}))))
    return stream.getvalue()


def test_failed_turns_count_but_do_not_pull_the_times():
    summary = summarise(run_of(turn(100), turn(200), failed()))
    assert (summary["turns"], summary["errors"], summary["turns_per_s"]) == (3, 1, 1.5)
    assert summary["ttfa_ms"] == {"p50": 150, "p95": 195, "p99": 199}
    assert summary["total_ms"]["p50"] == 300
    assert summary["stages"]["llm_ttft"]["p50"] == 150
    assert list(summary["stages"]) == [stage.value for stage in STAGES]


def test_interrupted_turns_have_no_whole_time():
    summary = summarise(run_of(turn(100), turn(500, outcome="interrupted")))
    assert summary["total_ms"]["p99"] == 200
    assert summary["ttfa_ms"]["p50"] == 300


def test_hit_rates_are_shares_of_what_was_asked():
    hit, off = turn(reply_cache="hit", cache="memory"), turn(reply_cache="off", cache="shared")
    summary = summarise(run_of(hit, turn(), turn(), off))
    assert summary["hit_rate"] == {"reply": 0.3333, "audio": 0.5}


def test_turns_are_told_apart_by_what_their_first_audio_came_from():
    run = run_of(
        turn(10, reply_cache="hit", cache="memory"),
        turn(20, reply_cache="similar"),
        turn(100, cache="redis"),
        turn(400),
        turn(600),
        failed(),
    )
    summary = summarise(run)
    assert summary["lookups"] == {
        "reply": {"hit": 1, "similar": 1, "miss": 3},
        "audio": {"hit": 2, "miss": 3},
    }
    by_cache = summary["by_cache"]
    assert [by_cache[kind]["turns"] for kind in ("reply", "audio", "none")] == [2, 1, 2]
    assert [by_cache[kind]["ttfa_ms"]["p50"] for kind in ("reply", "audio", "none")] == [15, 100, 500]
    assert by_cache["none"]["total_ms"]["p50"] == 1000
    text = shown(run)
    for line in ("of a cached reply (2)", "of cached audio (1)", "of nothing cached (2)"):
        assert text.count(line) == 3
    assert "from the cache: 1 of 5 replies (1 more by similarity), 2 of 5 chunks of audio" in " ".join(
        text.split()
    )


def test_turns_of_one_kind_have_no_rows_of_their_own():
    assert "of nothing cached" not in shown(run_of(turn(), turn()))


def test_what_a_run_cost_is_told_by_turn_and_with_what_was_saved():
    paid = replace(turn(), cost=Cost(llm_usd=0.03, speech_usd=0.01, prompt_cache_saved_usd=0.01))
    hit = replace(turn(), cost=Cost(saved_usd=0.05, unpriced=("llm p/new",)))
    summary = summarise(run_of(paid, hit))
    assert summary["cost_usd"] == pytest.approx(0.04)
    assert summary["cost"]["per_1000_turns_usd"] == pytest.approx(20)
    assert summary["cost"]["saved_share"] == 0.5
    assert (summary["cost"]["unpriced"], summary["cost"]["unpriced_turns"]) == (["llm p/new"], 1)
    text = " ".join(shown(run_of(paid, hit)).split())
    assert "$20.00 for 1,000 saved $0.0500 by the cache (50%), $0.0100 by the provider's prompt cache" in text
    assert "saved" not in shown(run_of(replace(turn(), cost=Cost(llm_usd=0.03))))
    assert "1 turns had something without a price: llm p/new" in text
    assert "cost" not in shown(run_of(turn()))


def test_a_run_without_turns_has_the_same_shape():
    summary = summarise(run_of())
    assert summary["ttft_ms"] == {"p50": 0, "p95": 0, "p99": 0}
    assert summary["hit_rate"] == {"reply": 0, "audio": 0}
    assert summary["by_cache"]["reply"]["ttfa_ms"] == {"p50": 0, "p95": 0, "p99": 0}
    assert {"turns", "summary", "config", "versions"} <= set(document([(OPTIONS, run_of())], {}))


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_has_advice(stage):
    lines = advice(run_of(turn(stage=stage)))
    said = f"{stage.value} is most of the time to first audio (100%, 100 ms a turn): "
    assert lines[-1] == said + causes.advice(stage, "")


def usual_and_slow(slow: Stage, *, usual: int = 40, **fields) -> list[TurnReport]:
    """Turns in which the model takes most of the time, and three in which something else is slow."""
    stages = {**no_stages(), Stage.LLM_TTFT: 300.0}
    rest = [turn(300 + number / 10, stages=stages) for number in range(usual)]
    late = {**stages, slow: 500.0}
    return rest + [turn(800 + number, stages=late, turn_id=f"late{number}", **fields) for number in range(3)]


def test_what_slow_turns_waited_for_is_what_explain_says():
    reports = usual_and_slow(Stage.CHUNK_HOLD)
    population = Population("ttfa", 3)
    population.extend(turn_from(report.to_json()) for report in reports)
    (finding,) = analyse(population).findings
    slow, typical = (line for line in advice(run_of(*reports)) if line.startswith(("chunk_hold", "llm_ttft")))
    assert slow.startswith(f"chunk_hold: {headline(finding, 3)}; usually 0.00 ms; without that p95 ")
    assert slow.endswith(f": {causes.advice('chunk_hold', 'the end of the text')}")
    assert typical.startswith("llm_ttft is most of the time to first audio (")


def test_turns_of_a_heavy_load_are_set_beside_the_usual_turn_of_the_lightest():
    """Every turn of the heavy one waits for a replica: in itself nothing is unusual there."""
    light = run_of(*usual_and_slow(Stage.LLM_TTFT))
    stages = {**no_stages(), Stage.LLM_TTFT: 300.0, Stage.TTS_QUEUE: 600.0}
    heavy = run_of(*[turn(900 + number, stages=stages) for number in range(40)])
    steps = [(OPTIONS, light), (replace(OPTIONS, concurrency=16), heavy)]
    (line,) = [line for line in document(steps, {})["advice"] if line.startswith("tts_queue")]
    assert line.startswith("tts_queue at 16 callers: first chunk waited 600 ms for a replica in 100% of slow")
    assert "usually 0.00 ms at 1 caller" in line
    assert "without that p95 937 to 337 ms" in line
    assert "VOICEMESH_TTS_VOICES" in line


def test_saved_runs_of_an_older_version_are_understood():
    known = {"turn_id", "outcome", "ttfa_ms", "total_ms", "stages", "unattributed_ms", "chunks"}
    known |= {"reply_cache", "audio_ms", "underruns", "degraded"}
    told = {name: value for name, value in turn().to_json().items() if name in known}
    assert turn_from(told).parts() == turn_from(turn().to_json()).parts()


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (run_of(turn(), failed(), failed()), "2 turns failed with QUEUE_FULL: no place"),
        (run_of(turn(), cut_short=True), "the run was ended before its turns had"),
        (run_of(turn(), turn(), late_ms=(1.0, 80.0)), "began turns up to 80 ms late"),
        (run_of(turn(underruns=2, chunks=())), "in 1 turn a player would have run dry"),
        (run_of(turn(unattributed_ms=5.0)), "5.0% of the time to first audio is unattributed"),
        (run_of(turn(), turn(), turn()), "none was cached"),
    ],
)
def test_advice_is_drawn_from_the_numbers(run, text):
    assert any(text in line for line in advice(run))


def test_a_good_run_gets_no_alarm():
    lines = advice(run_of(turn(), turn(cache="memory"), late_ms=(0.5,)))
    assert len(lines) == 1


def test_the_table_is_legible_at_80_columns():
    lines = shown(run_of(turn(123456.7), turn(cache="memory"), failed())).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert "3 turns in 2.0 s (1.5 a second): 2 completed, 0 interrupted, 1 failed" in lines


def test_turns_that_gave_something_up_are_counted_by_what():
    run = run_of(turn(degraded=("model", "cache")), turn(degraded=("model", "model")), turn())
    assert summarise(run)["degraded"] == {"model": 2, "cache": 1}
    said = " ".join(shown(run).split())
    assert "given up: model in 2 turns, cache in 1 turns (stand-ins' replies are not cached)" in said
    assert "given up" not in shown(run_of(turn()))


def test_what_no_stage_accounts_for_has_a_row():
    run = run_of(turn(100, unattributed_ms=-7.0), turn(100, unattributed_ms=7.0))
    assert summarise(run)["unattributed"] == {"p50": 7, "p95": 7, "p99": 7}
    (row,) = [line for line in shown(run).splitlines() if line.split()[:1] == ["unattributed"]]
    assert row.split()[1:] == ["7.00", "7.00", "7.00"]


def test_refusals_are_told_apart_by_the_limit_that_was_met():
    def refused(limit: str) -> TurnReport:
        error = VoiceMeshError("RESOURCE_EXHAUSTED", "RATE_LIMITED", f"no more {limit}", limit=limit)
        return TurnReport(turn_id="f", error=error)

    run = run_of(turn(), refused("turns"), refused("requests"), refused("requests"))
    assert summarise(run)["errors_by_reason"] == {"RATE_LIMITED": 3}
    said = [line for line in advice(run) if "RATE_LIMITED" in line]
    assert said[0].startswith("2 turns failed with RATE_LIMITED (requests): no more requests")
    assert said[1].startswith("1 turns failed with RATE_LIMITED (turns): no more turns")
