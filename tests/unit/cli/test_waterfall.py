"""The waterfall: legible at 80 columns, without colours, with every stage."""

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from voicemesh.cli.characters import printable
from voicemesh.cli.waterfall import Seen, bar, show
from voicemesh.client import ChunkReport, Cost, TurnReport, Underrun
from voicemesh.stages import STAGES, Stage


def drawn(report: TurnReport, *, encoding: str = "utf-8", width: int = 80, seen_by: Seen = "gateway") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="replace")
    show(Console(file=stream, width=width), report, seen_by=seen_by)
    stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.fixture
def report() -> TurnReport:
    stages = {stage: float(number) for number, stage in enumerate(STAGES)}
    chunk = ChunkReport(
        index=0,
        text="A very long chunk\nof text " * 10 + "\x1b[31m",
        reason="sentence",
        held_ms=1234.5,
        cache="memory",
        first_frame_ms=66.5,
        audio_ms=12345.6,
    )
    return TurnReport(
        turn_id="t" * 32,
        outcome="completed",
        ttft_ms=10,
        ttfa_ms=66.5,
        ttfa_audible_ms=90,
        total_ms=123456,
        audio_ms=123456,
        underruns=3,
        underrun_ms=40,
        degraded=("cache", "voice"),
        stages=stages,
        unattributed_ms=0.5,
        chunks=(chunk,),
        input_tokens=100000,
        output_tokens=100000,
        cost=Cost(llm_usd=0.009, speech_usd=0.001, saved_usd=0.02),
    )


def test_every_stage_has_its_row_and_the_sum_stands_below(report):
    lines = drawn(report).splitlines()
    rows = [line.split()[0] for line in lines if line.strip()]
    first = rows.index("admission")
    assert rows[first : first + 13] == [*(stage.value for stage in STAGES), "unattributed"]
    last = next(line for line in lines if line.startswith("first audio"))
    assert last.split()[-2:] == ["66.50", "100%"]


@pytest.mark.parametrize("width", [50, 60, 66, 72, 80, 100, 120])
def test_no_line_is_wider_than_the_terminal(report, width):
    assert max(len(line.rstrip()) for line in drawn(report, width=width).splitlines()) <= width


@pytest.mark.parametrize("width", [36, 50, 60, 66, 72, 80, 120])
def test_the_figures_of_every_stage_are_there_however_narrow_the_terminal(report, width):
    ends = [line.split()[-2:] for line in drawn(report, width=width).splitlines() if line.strip()]
    for stage, duration_ms in report.stages.items():
        share = f"{100 * duration_ms / report.ttfa_ms:.0f}%"
        assert [f"{duration_ms:.2f}", share] in ends, stage
    assert ["66.50", "100%"] in ends


def test_nothing_in_a_text_reaches_the_terminal_as_a_command(report):
    assert "\x1b" not in drawn(report)
    assert printable("a\x1b[31m\r\x07\tb\nc\x9b") == "a[31m\tb\nc"


def test_a_terminal_that_knows_ascii_alone(report):
    text = drawn(report, encoding="ascii")
    assert "####" in text
    assert "█" not in text


def test_a_turn_without_audio_says_so():
    assert "no audio was heard" in drawn(TurnReport(turn_id="t"))


def test_small_shares_are_not_nothing(report):
    stages = {**report.stages, STAGES[0]: 0.01}
    text = drawn(TurnReport(turn_id="t", ttfa_ms=66.5, stages=stages))
    assert "<1%" in text


@given(st.floats(0, 1e5), st.floats(0, 1e5), st.just(0.0) | st.floats(0.001, 1e5), st.booleans())
def test_bars_stay_in_their_cells(start, duration, total, unicode):
    text = bar(start, duration, total, unicode=unicode)
    assert len(text) <= 41
    assert bool(text.strip()) == (duration > 0 and total > 0)


def test_bars_begin_where_the_one_before_ends():
    assert bar(0, 50, 100) == "█" * 20
    assert bar(50, 50, 100) == " " * 20 + "█" * 20
    assert bar(99.99, 0.01, 100).strip() == "▏"


@pytest.mark.parametrize(
    ("cost", "lines"),
    [
        (
            Cost(llm_usd=0.000024, speech_usd=0.001185, prompt_cache_saved_usd=0.000003),
            [
                "cost $0.001209 (llm $0.000024, speech $0.001185)",
                "saved $0.000003 by the provider's prompt cache",
            ],
        ),
        (
            Cost(saved_usd=0.02, prompt_cache_saved_usd=0.000003),
            ["saved $0.020000 by the cache, $0.000003 by the provider's prompt cache"],
        ),
    ],
)
def test_what_was_paid_and_what_was_saved_are_lines_of_their_own(report, cost, lines):
    told = drawn(replace(report, cost=cost)).splitlines()
    assert [line.rstrip() for line in told if line.startswith(("cost", "saved"))] == lines


# ------------------------------------------------------------ chunks


@pytest.fixture
def spoken(report: TurnReport) -> TurnReport:
    first = replace(report.chunks[0], text="One.", held_ms=0.2)
    second = replace(first, index=1, held_ms=20.6, reason="clause", slack_ms=790.4)
    third = replace(
        first,
        index=2,
        held_ms=801.25,
        reason="deadline",
        slack_ms=-130.0,
        underruns=2,
        underrun_ms=131.0,
        underrun_cause=Stage.TTS_SYNTHESIS,
        underrun_list=(
            Underrun(at_ms=900.0, duration_ms=31.0, cause=Stage.LLM_TEXT),
            Underrun(at_ms=1100.0, duration_ms=100.0, cause=Stage.TTS_SYNTHESIS),
        ),
    )
    fourth = replace(first, index=3, held_ms=4.0, slack_ms=-50.0, underruns=1, underrun_ms=50.0)
    return replace(report, chunks=(first, second, third, fourth))


@pytest.mark.parametrize("width", [50, 60, 72, 80, 120])
def test_the_reason_of_each_hold_and_each_underrun_is_there_however_narrow(spoken, width):
    text = drawn(spoken, width=width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    said = " ".join(text.split())
    assert "held by lookahead: chunk 1 (20.6 ms), chunk 3 (4.0 ms)" in said
    assert "held until its deadline: chunk 2 (801.2 ms)" in said
    assert "dry at chunk 2 for 131 ms, 2 times: tts_synthesis 100 ms, llm_text 31 ms" in said
    assert "dry at chunk 3 for 50 ms: by design, no stage's" in said
    if width < 80:
        assert "slack ms: 1 790 · 2 -130 · 3 -50" in said
    else:
        assert "slack ms  text" in text
        assert "-130" in next(line for line in text.splitlines() if line.startswith(" 2  deadline"))


def test_a_caret_stands_where_the_first_sound_is(report):
    for width, said in ((80, "audible at 90.0 ms, behind 23.5 ms of silence"), (50, "audible +23.5 ms")):
        line = next(line for line in drawn(report, width=width).splitlines() if line.startswith("audible"))
        assert line.startswith(said)
        assert line.rstrip().endswith("^")
    wide = next(line for line in drawn(report, width=100).splitlines() if line.startswith("audible"))
    # The bars are 40 cells for 66.5 ms, and begin at the 16th.
    assert wide.index("^") == 15 + 40 + round(40 * 23.5 / 66.5)
    heard_at_once = drawn(replace(report, ttfa_audible_ms=report.ttfa_ms))
    assert "audible at" not in heard_at_once
    assert "^" not in heard_at_once


def test_what_was_given_up_says_why_and_is_wrapped(report):
    why = "the cache took longer than 20 ms"
    told = replace(report, degraded_why=(why, ""))
    assert f"given up: cache ({why})\ngiven up: voice" in drawn(told)
    narrow = drawn(replace(report, degraded_why=(why * 3, "")), width=50)
    assert max(len(line.rstrip()) for line in narrow.splitlines()) <= 50


def test_it_says_whose_times_these_are(report):
    assert "the gateway's" in drawn(report)
    assert "the caller's" in drawn(report, seen_by="caller")
