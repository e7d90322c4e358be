"""What is measured of turns, from their reports."""

import random
import string
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider

from gateway import instruments
from gateway.core.invariant import Rule
from gateway.core.report import Attribution, ChunkAccount, TurnReport, Underrun
from gateway.core.values import TurnSpec
from gateway.measuring import TurnMeter
from gateway.prices import Cost
from tests.support.scraped import Scraped
from tests.unit.gateway.engine import spec
from tests.unit.gateway.test_prices import report
from voicemesh.runtime.errors import (
    DrainingError,
    InvalidFieldError,
    LlmUnavailableError,
    MeshError,
    TooManyTurnsError,
)
from voicemesh.runtime.instruments import Instrument
from voicemesh.runtime.metrics import Metrics
from voicemesh.stages import STAGES

OBJECTIVE_MS = 800
SPAN = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("turn")
PROMPT = spec()
HEARD = Attribution(ttfa_us=300_000, stages={"llm_ttft": 200_000, "gateway": 100_000, "history": 0})


@pytest.fixture
def seen() -> Iterator[Scraped]:
    opened = Scraped()
    yield opened
    opened.close()


@pytest.fixture
def meter(seen: Scraped) -> TurnMeter:
    return TurnMeter(seen, OBJECTIVE_MS)


def take(meter: TurnMeter, turn: TurnReport, of: TurnSpec = PROMPT, cost: Cost | None = None) -> None:
    meter.ended(turn, of, cost or Cost(), SPAN)


def counted(seen: Scraped, instrument: Instrument) -> dict[tuple[tuple[str, str], ...], float]:
    """Return the values of a counter, or how many a histogram has counted; without those at 0."""
    name = f"{instrument.prometheus}_count" if instrument.buckets else instrument.prometheus
    return {labels: value for labels, value in seen.values(name).items() if value}


def test_a_turn_is_counted_with_its_times(seen: Scraped, meter: TurnMeter) -> None:
    take(meter, report(attribution=HEARD, ttft_us=250_000, total_us=2_000_000, audio_us=1_500_000))
    assert counted(seen, instruments.TURNS) == {(("kind", "prompt"), ("outcome", "completed")): 1}
    assert seen.values("voicemesh_turn_time_to_first_audio_seconds_sum") == {
        (("kind", "prompt"), ("reply_cache", "miss")): pytest.approx(0.3)
    }
    assert seen.values("voicemesh_turn_time_to_first_token_seconds_sum") == {(): pytest.approx(0.25)}
    assert seen.values("voicemesh_turn_duration_seconds_sum") == {
        (("kind", "prompt"), ("outcome", "completed")): pytest.approx(2.0)
    }
    assert counted(seen, instruments.AUDIO) == {(("kind", "prompt"),): pytest.approx(1.5)}


def test_a_stage_that_a_turn_did_not_go_through_says_nothing(seen: Scraped, meter: TurnMeter) -> None:
    take(meter, report(attribution=HEARD))
    assert counted(seen, instruments.STAGE) == {(("stage", "llm_ttft"),): 1, (("stage", "gateway"),): 1}


def test_what_takes_the_mean_time_adds_up_to_it(seen: Scraped, meter: TurnMeter) -> None:
    take(meter, report(attribution=HEARD))
    take(meter, report(attribution=Attribution(ttfa_us=50_000, stages={"audio_cache": 50_000})))
    stages = seen.values("voicemesh_turn_stage_duration_seconds_sum")
    (whole,) = seen.values("voicemesh_turn_time_to_first_audio_seconds_sum").values()
    assert sum(stages.values()) == pytest.approx(whole)


def test_a_failed_turn_has_its_reason(seen: Scraped, meter: TurnMeter) -> None:
    take(meter, report(outcome="failed", error=LlmUnavailableError("away")))
    take(meter, report(outcome="failed", error=ValueError("a secret")))
    assert counted(seen, instruments.TURNS) == {
        (("error_type", "LLM_UNAVAILABLE"), ("kind", "prompt"), ("outcome", "failed")): 1,
        (("error_type", "INTERNAL"), ("kind", "prompt"), ("outcome", "failed")): 1,
    }


def test_a_cached_reply_has_no_time_to_first_token(seen: Scraped, meter: TurnMeter) -> None:
    take(meter, report(attribution=HEARD, ttft_us=9_000, reply_cache="memory"))
    assert counted(seen, instruments.FIRST_TOKEN) == {}
    assert counted(seen, instruments.FIRST_AUDIO) == {(("kind", "prompt"), ("reply_cache", "memory")): 1}


@pytest.mark.parametrize("of", [spec(patience_ms=2000), spec(keeps_audio=True, prompt=None)])
def test_nobody_waits_in_the_background(seen: Scraped, meter: TurnMeter, of: TurnSpec) -> None:
    take(meter, report(attribution=HEARD, audio_us=1_000_000), of)
    assert counted(seen, instruments.TURNS) == {(("kind", "background"), ("outcome", "completed")): 1}
    assert counted(seen, instruments.AUDIO) == {(("kind", "background"),): 1}
    assert counted(seen, instruments.FIRST_AUDIO) == {}
    assert counted(seen, instruments.SLO) == {}


def test_a_draft_that_nobody_wanted_cost_something_all_the_same(seen: Scraped, meter: TurnMeter) -> None:
    take(meter, report(outcome="discarded", characters=12), cost=Cost(llm_usd=0.25))
    assert counted(seen, instruments.TURNS) == {(("kind", "prompt"), ("outcome", "discarded")): 1}
    assert counted(seen, instruments.CHARACTERS) == {(): 12}
    assert counted(seen, instruments.COST) == {(("part", "llm"),): 0.25}
    assert counted(seen, instruments.DURATION) == {}


@pytest.mark.parametrize(
    ("turn", "met"),
    [
        (report(attribution=Attribution(ttfa_us=800_000)), "true"),
        (report(attribution=Attribution(ttfa_us=800_001)), "false"),
        (report(outcome="interrupted", attribution=Attribution(ttfa_us=5)), "true"),
        (report(outcome="interrupted", total_us=700_000), None),
        (report(outcome="interrupted", total_us=900_000), "false"),
        (report(outcome="failed", error=LlmUnavailableError("away")), "false"),
        (report(outcome="failed", error=InvalidFieldError("text", "too long")), None),
        (report(), None),
    ],
)
def test_the_objective_is_met_missed_or_does_not_count(
    seen: Scraped, meter: TurnMeter, turn: TurnReport, met: str | None
) -> None:
    take(meter, turn)
    assert counted(seen, instruments.SLO) == ({(("met", met),): 1} if met else {})


@pytest.mark.parametrize(
    ("error", "missed"),
    [
        (TooManyTurnsError("full"), True),
        (InvalidFieldError("prompt", "empty"), False),
        (DrainingError("elsewhere"), False),
    ],
)
def test_a_refused_turn_has_missed_the_objective_unless_its_caller_is_served_elsewhere(
    seen: Scraped, meter: TurnMeter, error: MeshError, missed: bool
) -> None:
    meter.refused("", error, SPAN)
    assert counted(seen, instruments.REFUSALS) == {(("error_type", error.reason),): 1}
    assert counted(seen, instruments.SLO) == ({(("met", "false"),): 1} if missed else {})
    assert counted(seen, instruments.TURNS) == {}


def test_underruns_have_the_stage_to_blame(seen: Scraped, meter: TurnMeter) -> None:
    chunk = ChunkAccount(1, "x", "sentence", 0)
    chunk.underruns, chunk.underrun_us = 5, 400_000
    chunk.underrun_stages = {"tts_queue": 400_000}
    chunk.underrun_list = [Underrun(9, 250_000, "tts_queue"), Underrun(10, 50_000, "")]
    take(meter, report(attribution=HEARD, chunks=(chunk,), underruns=5, underrun_us=400_000))
    assert counted(seen, instruments.UNDERRUNS) == {(("stage", "tts_queue"),): 4, (): 1}
    assert seen.values("voicemesh_turn_underrun_duration_seconds_sum") == {
        (("stage", "tts_queue"),): pytest.approx(0.25),
        (): pytest.approx(0.05),
    }


def test_what_was_given_up_looked_up_spent_and_saved_is_counted(seen: Scraped, meter: TurnMeter) -> None:
    chunks = tuple(
        ChunkAccount(index, "x", "sentence", 0, cache=cache)
        for index, cache in enumerate(("memory", "miss", "miss", "off"))
    )
    cost = Cost(llm_usd=0.5, speech_usd=0.25, saved_usd=2.0)
    take(meter, report(degraded=("cache", "voice"), chunks=chunks, reply_cache="redis"), cost=cost)
    meter.spoke_late("", 0.5)
    meter.barged_in()
    meter.violated(Rule.SUM)
    assert counted(seen, instruments.DEGRADATIONS) == {(("what", "cache"),): 1, (("what", "voice"),): 1}
    assert counted(seen, instruments.LOOKUPS) == {
        (("kind", "reply"), ("result", "redis")): 1,
        (("kind", "audio"), ("result", "memory")): 1,
        (("kind", "audio"), ("result", "miss")): 2,
    }
    assert counted(seen, instruments.COST) == {(("part", "llm"),): 0.5, (("part", "speech"),): 0.75}
    assert counted(seen, instruments.SAVED) == {(): 2}
    assert counted(seen, instruments.BARGE_INS) == {(): 1}
    assert counted(seen, instruments.VIOLATIONS) == {(("rule", "sum"),): 1}


def test_what_alerts_ask_for_is_there_before_it_happens(seen: Scraped) -> None:
    TurnMeter(seen, OBJECTIVE_MS)
    assert seen.values(instruments.VIOLATIONS.prometheus) == {(("rule", rule.value),): 0 for rule in Rule}
    assert seen.values(instruments.SLO.prometheus) == {(("met", "false"),): 0, (("met", "true"),): 0}


def test_only_listed_tenants_are_shown(seen: Scraped) -> None:
    meter = TurnMeter(seen, OBJECTIVE_MS, ("acme",))
    for tenant in ("acme", "globex", "", "other"):
        take(meter, report(tenant=tenant, characters=1))
    assert counted(seen, instruments.CHARACTERS) == {
        (("voicemesh_tenant", "acme"),): 1,
        (("voicemesh_tenant", "other"),): 3,
    }


def test_nothing_is_read_of_a_turn_where_metrics_are_off() -> None:
    meter = TurnMeter(Metrics.off(), OBJECTIVE_MS)
    meter.ended(None, PROMPT, Cost(), SPAN)  # type: ignore[arg-type] # it would fail on the first look


def hostile(chance: random.Random) -> TurnReport:
    """Return a turn all of whose words are what a caller, or a broken peer, could have said."""

    def word() -> str:
        return "id-" + "".join(chance.choices(string.ascii_letters + '"\\\n{}=,é', k=chance.randint(0, 90)))

    stages = {stage: chance.randrange(400_000) for stage in (*STAGES, word())}
    chunks = tuple(
        ChunkAccount(
            index,
            word(),
            word(),
            0,
            cache=chance.choice((word(), "miss", "memory")),
            underruns=2,
            underrun_stages={word(): 5},
            underrun_list=[Underrun(1, chance.randrange(900_000), chance.choice((word(), "llm_text")))],
        )
        for index in range(chance.randrange(4))
    )
    return report(
        turn_id=word(),
        session_id=word(),
        tenant=word(),
        outcome=chance.choice(("completed", "interrupted", "failed", word())),
        text=word(),
        error=chance.choice((None, MeshError(word()), ValueError(word()), InvalidFieldError(word(), word()))),
        attribution=Attribution(ttfa_us=sum(stages.values()), stages=stages, hops={word(): 1}),
        ttft_us=chance.randrange(900_000),
        total_us=chance.randrange(9_000_000),
        degraded=(word(), "cache"),
        chunks=chunks,
        reply_cache=chance.choice((word(), "off", "miss", "similar")),
        variants=((word(), word()),),
        prompt_variant=word(),
    )


@pytest.mark.parametrize("tenants", [(), ("acme", "globex")])
def test_no_caller_can_make_a_series(seen: Scraped, tenants: tuple[str, ...]) -> None:
    chance = random.Random(7)
    meter = TurnMeter(seen, OBJECTIVE_MS, tenants)

    def some_turns() -> set[tuple[str, str]]:
        for _ in range(400):
            of = spec(turn_id="id-x", patience_ms=chance.choice((0, 0, 9)), prompt=chance.choice((None, 1)))
            take(meter, hostile(chance), of, Cost(llm_usd=0.1, speech_usd=0.1, saved_usd=0.1))
            meter.refused(f"id-{chance.random()}", InvalidFieldError("id-f", "id-t"), SPAN)
        return {(sample.name, str(sorted(sample.labels.items()))) for sample in seen.samples()}

    some_turns()
    settled = some_turns()
    assert some_turns() == settled
    values = {value for sample in seen.samples() for value in sample.labels.values()}
    assert "other" in values
    assert [value for value in values if value.startswith("id-")] == []
    every = [member for member in vars(instruments).values() if isinstance(member, Instrument)]
    series = sum(each.series * (len(each.buckets) + 3 if each.buckets else 1) for each in every)
    assert len(settled) <= series
