"""A cause that was put in is the cause that is named, with its figure; and nothing else is."""

import random
from dataclasses import replace
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.critical_path.populations import USUAL_MS, noisy, population, turn
from voicemesh.critical_path import Analysis, FirstChunk, Turn, analyse
from voicemesh.critical_path.analysis import measured_parts
from voicemesh.critical_path.baseline import usual_of
from voicemesh.critical_path.causes import BUSY_ADVICE, advice, reason_of, said
from voicemesh.critical_path.turns import CACHED, OWN_WORDS, PARTS, SPEAKING, UNATTRIBUTED
from voicemesh.stages import STAGES, Stage

INJECTED_MS = 300.0


def injected(part: str, count: int = 30, of: int = 300, **values: Any) -> list[Turn]:
    """Return `of` turns, of which `count` are `INJECTED_MS` slower in one part."""
    made = noisy(of - count)
    for number in range(count):
        made.append(turn(f"slow{number:03}", {part: INJECTED_MS + number / 10}, **values))
    return made


def analysed(turns: list[Turn], **options: Any) -> Analysis:
    return analyse(population(turns, **options))


@pytest.mark.parametrize("part", [*(stage.value for stage in STAGES), UNATTRIBUTED])
def test_the_stage_that_was_slowed_is_blamed_with_its_figure(part):
    result = analysed(injected(part))
    (finding,) = result.findings
    assert finding.part == part
    assert (finding.turns, finding.share, finding.affected) == (20, 1.0, 30)
    assert finding.excess_ms == pytest.approx(INJECTED_MS, rel=0.05)
    usual_ms = USUAL_MS.get(part, 0.0)
    assert finding.usual_ms == pytest.approx(usual_ms, abs=0.01 + usual_ms * 0.02)
    assert finding.part_ms == pytest.approx(finding.usual_ms + finding.excess_ms, abs=1)
    # A tenth of the turns: the 95th percentile is theirs, and without it that of the others.
    assert result.times.p95 == pytest.approx(sum(USUAL_MS.values()) + INJECTED_MS, rel=0.03)
    assert finding.without.p95 == pytest.approx(sum(USUAL_MS.values()), rel=0.05)
    assert finding.slow_median_without_ms == pytest.approx(sum(USUAL_MS.values()), rel=0.02)
    assert finding.examples[0] == "slow029"
    assert finding.advice


@pytest.mark.parametrize(
    ("part", "values", "reason", "words"),
    [
        ("chunk_hold", {"first": FirstChunk("clause")}, "lookahead", "first chunk held 320 ms by lookahead"),
        ("chunk_hold", {"first": FirstChunk("deadline")}, "deadline", "until its deadline"),
        ("chunk_hold", {"first": FirstChunk("words")}, "policy", "by policy"),
        ("chunk_hold", {"first": FirstChunk("flush")}, "the end of the text", "until the text ended"),
        ("chunk_hold", {"first": None}, "", "first chunk held 320 ms"),
        ("llm_ttft", {}, "openai", "the first token came after 320 ms (openai)"),
        ("llm_ttft", {"retried": True}, "retried", "and was asked for again"),
        ("llm_connect", {"degraded": ("model",)}, "failed over", "from another provider"),
        ("llm_ttft", {"retried": True, "failed_over": True}, "failed over", "from another provider"),
        ("llm_text", {}, "slow writer", "because they came slowly"),
        ("llm_text", {"first": FirstChunk("clause", "miss", 5000)}, "long chunk", "because it was long"),
        ("audio_cache", {"first": FirstChunk("clause", "redis", 900)}, "redis", "from Redis"),
        ("audio_cache", {"degraded": ("cache",)}, "late", "and was given up"),
        ("history", {"degraded": ("history",)}, "late", "the history came after"),
        ("tts_queue", {}, "", "first chunk waited 320 ms for a replica"),
        ("tts_synthesis", {"degraded": ("voice",)}, "another voice", "from another voice"),
        ("tts_synthesis", {"first": FirstChunk("clause", "shared")}, "shared", "another turn's engine"),
        ("transport", {"hops": {"llm": 4.0, "tts": 304.0}}, "to tts", "between the processes (to tts)"),
        ("gateway", {}, "", "the gateway itself took 320 ms"),
    ],
)
def test_the_reason_is_named_and_so_is_what_helps(part, values, reason, words):
    (finding,) = analysed(injected(part, **values)).findings
    assert (finding.part, finding.reason) == (part, reason)
    assert words in said(part, reason, "320 ms")
    assert finding.advice == advice(part, reason)


def test_first_audio_that_had_to_be_made_is_named_where_it_is_cached_as_a_rule():
    hit = FirstChunk("clause", "memory", 900)
    made = [replace(one, first=hit, stages={**one.stages, "tts_synthesis": 0.0}) for one in noisy(200)]
    made = [replace(one, ttfa_ms=sum(one.stages.values())) for one in made]
    made += [turn(f"made{number}", {"tts_synthesis": 200}) for number in range(20)]
    (finding,) = analysed(made).findings
    assert (finding.part, finding.reason) == ("tts_synthesis", "not cached")
    assert "voicemesh warm" in finding.advice


def test_a_stage_that_is_always_long_is_not_blamed_for_what_varies():
    # The model takes 150 of 300 ms in every turn; the hold is 20, and 120 in a few.
    result = analysed(injected("chunk_hold", 15))
    assert [finding.part for finding in result.findings] == ["chunk_hold"]
    shares = {part.name: part.slow_ms for part in result.parts}
    assert result.parts[PARTS.index("llm_ttft")].blamed == 0
    assert shares["llm_ttft"] == pytest.approx(150, rel=0.05)


def test_a_stage_that_always_varies_is_not_blamed_either():
    chance = random.Random(3)
    made = [turn(f"t{number}", {"llm_ttft": chance.uniform(-100, 100)}) for number in range(400)]
    result = analysed(made)
    assert result.findings == ()
    assert result.nothing == len(result.slow) == 20


def test_of_two_causes_the_one_comes_first_without_which_more_would_be_won():
    made = noisy(300)
    made += [turn(f"queue{number}", {"tts_queue": 400 + number}) for number in range(30)]
    made += [turn(f"hold{number}", {"chunk_hold": 410 + number}) for number in range(6)]
    result = analysed(made, slowest=30)
    first, second = result.findings
    assert (first.part, second.part) == ("tts_queue", "chunk_hold")
    assert first.turns + second.turns == 30
    assert first.without.p95 < second.without.p95 <= result.times.p95
    assert (first.affected, second.affected) == (30, 6)


def test_a_population_without_a_cause_has_no_finding():
    result = analysed(noisy(500))
    assert result.findings == ()
    assert result.nothing == 20
    same = analysed([turn(f"t{number}") for number in range(50)])
    assert (same.findings, same.nothing) == ((), 12)
    assert [part.excess_ms for part in same.parts] == [0.0] * 13


@pytest.mark.parametrize("count", [0, 1, 2, 19])
def test_of_few_turns_nothing_is_said(count):
    result = analysed([turn(f"t{number}", {"llm_ttft": 1000 * number}) for number in range(count)])
    assert not result.enough
    assert (result.findings, result.parts) == ((), ())
    assert len(result.slow) == min(count, max(count // 4, 1))


def test_of_few_slow_turns_nothing_is_concluded():
    made = [*noisy(100), turn("a", {"tts_queue": 500}), turn("b", {"tts_queue": 500})]
    (finding,) = analysed(made).findings
    assert (finding.turns, finding.advice) == (2, "")
    (finding,) = analysed([*made, turn("c", {"tts_queue": 500})]).findings
    assert finding.advice


def test_no_more_than_a_quarter_is_slow():
    result = analysed(noisy(40), slowest=1000)
    assert len(result.slow) == 10


def test_turns_are_compared_with_their_own_kind():
    cached_ms = {
        name: 0.0 if name.startswith(("llm", "chunk")) else value for name, value in USUAL_MS.items()
    }
    cached = [
        replace(one, stages=cached_ms, ttfa_ms=sum(cached_ms.values()), reply_cache="memory")
        for one in noisy(200)
    ]
    asked = [replace(one, turn_id=f"a{one.turn_id}") for one in noisy(40)]
    result = analysed([*cached, *asked], slowest=40)
    # All slow turns asked the model, as turns of their kind do: no stage of theirs is unusual.
    assert result.findings == ()
    assert result.kinds[CACHED] == (0, 200)
    # A cached reply that took as long as a new one is slow for its kind.
    late = [
        replace(one, turn_id=f"late{number}", stages={**cached_ms, "reply_cache": 400.0}, ttfa_ms=445.5)
        for number, one in enumerate(cached[:10])
    ]
    (finding,) = analysed([*cached, *asked, *late], slowest=10).findings
    assert (finding.part, finding.usual_ms) == ("reply_cache", 1.0)


def test_too_few_of_a_kind_are_compared_with_all():
    words = [
        turn(f"w{number}", {"tts_synthesis": 700}, own_words=True, reply_cache="off") for number in range(5)
    ]
    result = analysed([*noisy(100), *words])
    assert result.kinds[OWN_WORDS] == (5, 5)
    assert [finding.part for finding in result.findings] == ["tts_synthesis"]


@pytest.mark.parametrize(
    ("values", "reason", "words"),
    [
        ({"reply_cache": "miss"}, "not cached", "most replies come from the cache"),
        ({"reply_cache": "off"}, "rarely asked", "most turns ask no model"),
    ],
)
def test_a_few_new_replies_among_cached_ones_are_slow_because_they_are_new(values, reason, words):
    cached_ms = {name: 0.0 if name.startswith("llm") else value for name, value in USUAL_MS.items()}
    cached = [
        replace(one, stages=cached_ms, ttfa_ms=sum(cached_ms.values()), reply_cache="memory")
        for one in noisy(200)
    ]
    new = [turn(f"new{number}", **values) for number in range(10)]
    (first, *others) = analysed([*cached, *new], slowest=10).findings
    assert (first.part, first.reason) == ("llm_ttft", reason)
    assert words in first.advice
    assert "second provider" not in first.advice
    assert {finding.reason for finding in others} <= {reason}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"total_ms": 20_000.0, "audio_ms": 25_000.0}, "long reply"),
        ({"total_ms": 20_000.0, "underruns": 3, "underrun_ms": 15_000.0}, "underruns"),
        ({"total_ms": 20_000.0}, ""),
    ],
)
def test_the_whole_time_has_a_part_behind_the_first_audio(values, reason):
    made = [*noisy(100), *(turn(f"slow{number}", **values) for number in range(20))]
    result = analysed(made, by="total", slowest=20)
    (finding,) = result.findings
    assert (finding.part, finding.reason) == (SPEAKING, reason)
    assert finding.excess_ms == pytest.approx(20_000 - 300 - 4000, rel=0.01)


def test_turns_without_audio_have_no_time_to_it_and_are_told_apart():
    silent = [replace(turn(f"s{number}"), ttfa_ms=0.0, outcome="failed") for number in range(5)]
    result = analysed([*noisy(30), *silent])
    assert (result.turns, result.measured) == (35, 30)


def test_underruns_are_told_by_the_stage_to_blame_over_all_turns():
    late = turn(
        "u", underruns=3, underrun_ms=500.0, underrun_stages={"tts_synthesis": 400.0, "llm_text": 60.0}
    )
    taken = population([*noisy(30), late, replace(late, turn_id="v", ttfa_ms=0.0)])
    assert (taken.underruns.turns, taken.underruns.count, taken.underruns.total_ms) == (2, 6, 1000.0)
    assert dict(taken.underruns.by_stage) == {"tts_synthesis": 800.0, "llm_text": 120.0}


# ------------------------------------------------------------ what always holds

milliseconds = st.floats(0, 1e6, allow_nan=False)


@st.composite
def any_turn(draw: Any) -> Turn:
    stages = {stage.value: draw(milliseconds) for stage in STAGES}
    unattributed_ms = draw(st.floats(-1e3, 1e3))
    return Turn(
        turn_id=draw(st.text("abc", min_size=1, max_size=3)),
        outcome="completed",
        ttfa_ms=max(sum(stages.values()) + unattributed_ms, 0.0),
        total_ms=draw(st.sampled_from([0.0, 1.0, 1e7])),
        stages=stages,
        unattributed_ms=unattributed_ms,
        hops=draw(st.dictionaries(st.sampled_from(["llm", "tts"]), milliseconds)),
        own_words=draw(st.booleans()),
        reply_cache=draw(st.sampled_from(["off", "miss", "hit", "redis"])),
        provider=draw(st.sampled_from(["", "openai"])),
        first=draw(st.sampled_from([None, FirstChunk(), FirstChunk("clause", "shared", 7.0)])),
        audio_ms=draw(milliseconds),
        underruns=draw(st.integers(0, 3)),
        underrun_ms=draw(milliseconds),
        degraded=draw(st.sampled_from([(), ("cache", "voice"), ("model",)])),
    )


@given(st.lists(any_turn(), max_size=60), st.integers(1, 30), st.sampled_from(["ttfa", "total"]))
def test_what_is_more_than_usual_adds_up_for_every_turn_and_for_all(turns, slowest, by):
    taken = population(turns, by=by, slowest=slowest)
    result = analyse(taken)
    assert len(result.slow) <= slowest
    if not result.enough:
        return
    for slow in result.slow:
        assert len(slow.excess) == measured_parts(by)
        total_ms = sum(slow.turn.parts()[: measured_parts(by)])
        assert slow.usual_ms + sum(slow.excess) == pytest.approx(total_ms, rel=1e-9, abs=1e-6)
    for part in result.parts:
        assert part.usual_ms + part.excess_ms == pytest.approx(part.slow_ms, rel=1e-9, abs=1e-6)
    assert sum(part.blamed for part in result.parts) + result.nothing == len(result.slow)
    assert sum(finding.turns for finding in result.findings) + result.nothing == len(result.slow)
    for finding in result.findings:
        assert finding.without.p95 <= result.times.p95
        assert 0 < finding.share <= 1
        assert finding.excess_ms > 0
        assert finding.turns >= 3 or not finding.advice
        assert said(finding.part, finding.reason, "1 ms")


@settings(max_examples=20)
@given(st.lists(any_turn(), min_size=20, max_size=40), st.randoms(use_true_random=False))
def test_the_order_in_which_turns_come_says_nothing(turns, chance):
    turns = [replace(one, turn_id=f"{number}") for number, one in enumerate(turns)]
    shuffled = list(turns)
    chance.shuffle(shuffled)
    one, other = analysed(turns, slowest=8), analysed(shuffled, slowest=8)
    assert one == other


@given(st.floats(0.1, 100), st.sampled_from([stage.value for stage in Stage]))
def test_a_population_that_is_slower_throughout_has_the_same_findings(factor, part):
    made = injected(part, 20, 120)
    scaled = [
        replace(
            one,
            ttfa_ms=one.ttfa_ms * factor,
            stages={name: value * factor for name, value in one.stages.items()},
            hops={name: value * factor for name, value in one.hops.items()},
        )
        for one in made
    ]
    (finding,) = analysed(made).findings
    (same,) = analysed(scaled).findings
    assert (same.part, same.turns) == (finding.part, finding.turns)
    assert same.excess_ms == pytest.approx(finding.excess_ms * factor, rel=1e-6)


# ------------------------------------------------------------ very many turns


def test_beyond_the_sample_the_slowest_are_exact_and_the_rest_is_near():
    made = injected("tts_queue", 400, 4000)
    exact, sampled = analysed(made), analysed(made, sample=500)
    assert (exact.sampled, sampled.sampled, sampled.measured) == (4000, 500, 4000)
    assert [slow.turn.turn_id for slow in sampled.slow] == [slow.turn.turn_id for slow in exact.slow]
    (finding,) = sampled.findings
    assert finding.part == "tts_queue"
    assert finding.excess_ms == pytest.approx(exact.findings[0].excess_ms, rel=0.02)
    assert sampled.times.p50 == pytest.approx(exact.times.p50, rel=0.02)
    again = analysed(made, sample=500)
    assert again == sampled


def test_every_turn_has_the_same_chance_to_be_in_the_sample():
    taken = population(noisy(5000), sample=1000)
    numbers = [int(one.turn_id[1:]) for one in taken.sample]
    assert len(set(numbers)) == 1000
    # A thousand draws of 0 to 4999: their mean has a standard deviation of 46.
    assert median(numbers) == pytest.approx(2500, abs=250)


def test_limits_are_named():
    for slowest in (0, 1001):
        with pytest.raises(ValueError, match=f"slowest: {slowest} is not between 1 and 1000"):
            population([], slowest=slowest)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_words_and_advice(part):
    usual = analysed(noisy(30)).slow[0]
    assert usual.part == ""
    assert said(part, "", "7 ms").count("7 ms") == 1
    assert advice(part, "no such reason") == advice(part, "")


def test_a_reason_is_found_for_turns_that_say_little():
    bare = Turn(turn_id="t", outcome="completed", ttfa_ms=1.0, total_ms=0.0, stages={})
    usual = usual_of([bare] * 20)[bare.kind]
    assert {reason_of(bare, part, usual) for part in PARTS} == {""}


def test_a_second_cause_of_the_same_turns_has_a_finding_of_its_own():
    made = noisy(300)
    made += [turn(f"both{number}", {"llm_ttft": 400 + number, "tts_queue": 250}) for number in range(20)]
    first, second = analysed(made, slowest=20).findings
    assert (first.part, first.turns, first.first) == ("llm_ttft", 20, 20)
    assert (second.part, second.turns, second.first) == ("tts_queue", 20, 0)
    assert second.excess_ms == pytest.approx(250, abs=5)


def test_what_adds_little_beside_a_cause_is_no_finding():
    made = noisy(300)
    made += [turn(f"one{number}", {"llm_ttft": 400 + number, "tts_queue": 40}) for number in range(20)]
    assert [finding.part for finding in analysed(made, slowest=20).findings] == ["llm_ttft"]


def test_of_a_busy_machine_no_stage_is_said_to_be_at_fault():
    made = noisy(300)
    slower = {
        "llm_text": 200.0,
        "tts_synthesis": 90.0,
        "transport": 60.0,
        "gateway": 20.0,
        "chunk_hold": 30.0,
    }
    made += [turn(f"busy{number}", slower) for number in range(20)]
    result = analysed(made, slowest=20)
    assert result.busy == 20
    assert {finding.advice for finding in result.findings} == {BUSY_ADVICE}
    assert result.findings[0].part == "llm_text"
    alone = analysed(
        noisy(300) + [turn(f"m{number}", {"llm_text": 400.0}) for number in range(20)], slowest=20
    )
    assert alone.busy == 0
    assert "faster one" in alone.findings[0].advice
