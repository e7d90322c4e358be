import dataclasses

import pytest

from gateway.core.report import Attribution, ChunkAccount, TurnReport
from gateway.core.values import Usage
from gateway.prices import Prices, SpeechPrice, TextPrice
from gateway.usage import MOST, OTHER, UsageMeter

VOICE, ENGINE = "amy/en-us", "piper"
CENT = TextPrice(input=10_000, cached_input=5_000, output=20_000)
"""A cent a token, half a cent cached, two cents for one of the reply."""
SPEECH = SpeechPrice(mchar=10_000, engine_second=1.0)


def report(**changes: object) -> TurnReport:
    fields: dict[str, object] = {
        "turn_id": "t",
        "session_id": "s",
        "outcome": "completed",
        "text": "",
        "ttft_us": 0,
        "attribution": Attribution(),
        "leading_silence_us": 0,
        "total_us": 0,
        "audio_us": 0,
        "underruns": 0,
        "underrun_us": 0,
        "degraded": (),
        "chunks": (),
        "reply_cache": "miss",
        "usage": None,
        "characters": 0,
        "heard": "",
        "error": None,
        **changes,
    }
    return TurnReport(**fields)  # type: ignore[arg-type] # a test's shorthand


def used(given: int, made: int, cached: int = 0, model: str = "m") -> Usage:
    return Usage(given, made, cached, provider="p", model=model)


def chunk(text: str, cache: str, engine_us: int = 0) -> ChunkAccount:
    return ChunkAccount(0, text, "sentence", 0, cache=cache, engine_us=engine_us)


PRICES = Prices({"p/m": CENT}, {VOICE: SPEECH})


def test_tokens_characters_and_engine_seconds_have_their_prices() -> None:
    turn = report(
        usage=used(100, 10, cached=40),
        chunks=(chunk("x" * 50, "miss", 2_000_000),),
        characters=50,
    )
    cost = PRICES.cost_of(turn, VOICE, ENGINE, 0)
    assert cost.llm_usd == pytest.approx(0.60 + 0.20 + 0.20)
    assert cost.prompt_cache_saved_usd == pytest.approx(0.20)
    assert cost.speech_usd == pytest.approx(0.50 + 2.0)
    assert cost.total_usd == pytest.approx(cost.llm_usd + cost.speech_usd)
    assert (cost.saved_usd, cost.unpriced, cost.estimated) == (0, (), False)


def test_a_hit_costs_nothing_and_says_what_it_saved() -> None:
    turn = report(
        reply_cache="redis",
        cached_usage=used(100, 10),
        chunks=(chunk("x" * 50, "memory"), chunk("y" * 30, "shared")),
    )
    cost = PRICES.cost_of(turn, VOICE, ENGINE, 10_000)
    assert cost.total_usd == 0
    assert cost.saved_usd == pytest.approx(1.20 + 0.80 + 80 * 0.01)


def test_hedges_and_broken_attempts_are_paid_too() -> None:
    turn = report(usage=used(100, 10), also_billed=(used(100, 0), used(50, 5)))
    assert PRICES.cost_of(turn, VOICE, ENGINE, 0).llm_usd == pytest.approx(1.2 + 1.0 + 0.6)


def test_what_has_no_price_is_told_and_not_taken_for_free() -> None:
    turn = report(usage=used(100, 10, model="new"), also_billed=(used(1, 0),), characters=5)
    cost = Prices({"p/m": CENT}, {}).cost_of(turn, "own", "my-engine", 0)
    assert cost.unpriced == ("llm p/new", "speech own")
    assert cost.total_usd == pytest.approx(0.01)
    assert PRICES.cost_of(report(), "own", "my-engine", 0).unpriced == ()


def test_patterns_match_by_their_letters_and_settings_go_first() -> None:
    low, high = TextPrice(input=1, output=1), TextPrice(input=9, output=9)
    prices = Prices({"openai/*": low, "openai/big*": high}, {"piper:*": SPEECH})
    assert prices.text("openai", "small") is low
    assert prices.text("openai", "big-2") is high
    assert prices.text("openai", "gpt-4o-mini") is low
    assert prices.text("other", "small") is None
    assert prices.speech("amy/en-us", "piper") is SPEECH
    assert Prices({"a.c/*": low}, {}).text("abc", "m") is None


def test_known_models_and_engines_have_prices() -> None:
    known = Prices({}, {})
    mini = known.text("openai", "gpt-4o-mini")
    assert mini is not None
    assert mini.input == 0.15
    assert known.text("openai", "gpt-4o-mini-2024-07-18") == mini
    assert known.text("openai", "gpt-4o-2024-08-06") != mini
    assert known.text("openai", "gpt-4o-audio-preview") is None
    rehearsed = known.text("rehearsal", "rehearsal")
    assert rehearsed is not None
    assert rehearsed.output == 0
    assert known.speech("espeak/en-us", "espeak") == SpeechPrice()
    assert known.speech("nova", "openai") is None


def test_usage_adds_up_by_tenant_and_variant() -> None:
    meter = UsageMeter(PRICES)
    turn = report(tenant="a", prompt_variant="compact", variants=(("model", "big"),), usage=used(10, 1))
    assert meter.take(turn, VOICE, ENGINE).llm_usd == pytest.approx(0.12)
    meter.take(turn, VOICE, ENGINE)
    meter.take(report(tenant="b", characters=5, usage=used(1, 1, model="new")), VOICE, ENGINE)
    (row,) = meter.rows("a")
    tenant, variant, totals = row
    assert (tenant, variant) == ("a", "model=big,prompt=compact")
    assert (totals.turns, totals.input_tokens, totals.output_tokens) == (2, 20, 2)
    assert totals.llm_usd == pytest.approx(0.24)
    assert [row[0] for row in meter.rows(None)] == ["a", "b"]
    (_, _, other) = meter.rows("b")[0]
    assert (other.unpriced_turns, list(other.unpriced)) == (1, ["llm p/new"])


def test_what_engines_take_is_learned_for_what_caches_save() -> None:
    meter = UsageMeter(PRICES)
    made = report(characters=100, chunks=(chunk("x" * 100, "miss", 1_000_000),))
    meter.take(made, VOICE, ENGINE)
    hit = report(chunks=(chunk("x" * 100, "memory"),))
    assert meter.take(hit, VOICE, ENGINE).saved_usd == pytest.approx(1.0 + 1.0)
    # Of another voice nothing is known: its characters alone are counted.
    assert Prices({}, {"*": SPEECH}).cost_of(hit, "other", "e", 0).saved_usd == pytest.approx(1.0)


def test_engine_time_behind_the_end_of_a_turn_is_counted_in_the_sums() -> None:
    meter = UsageMeter(PRICES)
    meter.take_late("a", "", VOICE, ENGINE, 500_000)
    ((_, _, totals),) = meter.rows("a")
    assert (totals.turns, totals.engine_us, totals.speech_usd) == (0, 500_000, 0.5)


def test_the_number_of_rows_is_bounded() -> None:
    meter = UsageMeter(PRICES)
    for number in range(MOST + 5):
        meter.take(report(tenant=f"t{number}"), VOICE, ENGINE)
    assert len(meter.rows(None)) == MOST + 1
    ((_, _, totals),) = meter.rows(OTHER)
    assert totals.turns == 5


def test_a_report_adds_up_its_chunks() -> None:
    turn = report(chunks=(chunk("a", "miss", 3), chunk("b", "miss", 4)))
    assert turn.engine_us == 7
    assert dataclasses.replace(turn, chunks=()).engine_us == 0
