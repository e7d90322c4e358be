"""Plans: the fewest replicas that are not too busy and keep the objective, and why."""

from typing import Any

import pytest

from tests.unit.capacity.queues import exponential, profile
from voicemesh.capacity.demand import NODES, Load, turn_s
from voicemesh.capacity.plan import LATENCY, Plan, UnreachableError, Wanted, floor, plan
from voicemesh.capacity.prices import Prices, cost_of, read_prices
from voicemesh.capacity.profile import CPU, GPU, Kind, Profile, TurnSample

PATH = {"gateway": 2.0, "llm": 1.0, "chunker": 0.5, "cache": 0.3, "tts": 1.0}
CPU_MS = {"gateway": 20.0, "llm": 5.0, "chunker": 2.0, "cache": 1.0, "tts": 10.0, "worker": 12.0}


def measured(**given: Any) -> Profile:
    of: dict[str, Any] = {
        "slots": 4,
        "first_ms": 40.0,
        "llm_ms": 100.0,
        "path_ms": PATH,
        "cpu_ms": CPU_MS,
    } | given
    return profile([200.0, 300.0, 400.0], **of)


def wanted(**given: Any) -> Wanted:
    return Wanted(**({"rate_per_s": 50.0, "objective_ms": 500.0, "cores": 4.0} | given))


def replicas(found: Plan) -> dict[str, int]:
    return {service.name: service.replicas for service in (*found.services, found.nodes)}


def test_utilisation_asks_for_the_fewest_replicas_and_says_of_what():
    found = plan(measured(), wanted())
    # 50/s x 20 ms = 1.0 of a core at the gateway, and 50/s x 0.3 s = 15 slots: busy for 70% at most.
    assert replicas(found) == {"gateway": 2, "llm": 1, "chunker": 1, "tts": 6, "cache": 1, "nodes": 1}
    because = {service.name: service.because for service in (*found.services, found.nodes)}
    assert because.pop("tts") == "engine slots"
    assert because.pop(NODES) == "cores"
    assert set(because.values()) == {"CPU"}
    assert {service.name: round(service.busy, 3) for service in found.services}["tts"] == 0.625
    assert found.result.percentile(95) <= 500
    assert found.floor_ms == pytest.approx(144.8)
    assert found.gpus == 0


@pytest.mark.parametrize(("kind", "utilisation"), [("timers", 0.3), (CPU, 0.9)])
def test_nothing_is_busier_than_was_allowed_and_the_objective_is_kept(kind, utilisation):
    found = plan(
        measured(kind=kind, workers=2, slots=1),
        wanted(rate_per_s=15.0, utilisation=utilisation, objective_ms=400),
    )
    assert all(service.busy <= utilisation + 1e-9 for service in (*found.services, found.nodes))
    assert found.result.percentile(95) <= 400
    assert found.result.refused == 0


def test_a_tighter_objective_takes_more_of_what_slow_turns_wait_for():
    easy = plan(measured(slots=1), wanted(rate_per_s=8.0, utilisation=0.9, objective_ms=3000))
    tight = plan(measured(slots=1), wanted(rate_per_s=8.0, utilisation=0.9, objective_ms=400))
    assert replicas(tight)["tts"] > replicas(easy)["tts"]
    assert {service.name: service.because for service in tight.services}["tts"] == LATENCY
    assert tight.result.percentile(95) <= 400


def test_places_of_turns_can_decide():
    # A second of audio and 145 ms before it: 57 turns at once, and a gateway has 10 places.
    found = plan(measured(), wanted(max_turns=10))
    (gateway,) = (service for service in found.services if service.name == "gateway")
    assert gateway.because in ("places of turns", LATENCY)
    assert gateway.replicas >= 9
    assert found.result.refused == 0


def test_spare_replicas_are_beside_those_that_are_simulated():
    plain, spare = (plan(measured(), wanted(rate_per_s=9.0, spare=count)) for count in (0, 2))
    assert {name: count + 2 for name, count in replicas(plain).items()} == replicas(spare)
    assert plain.result.percentile(95) == spare.result.percentile(95)


def test_an_objective_below_what_nothing_waits_for_names_the_stage():
    with pytest.raises(UnreachableError, match="it is 145 ms, most of it the model") as caught:
        plan(measured(), wanted(objective_ms=100))
    assert "Ask a model with a shorter time to its first token" in str(caught.value)
    with pytest.raises(UnreachableError, match="most of it the engine's first frame"):
        plan(measured(llm_ms=1.0), wanted(objective_ms=20))


def test_what_the_cache_gives_needs_neither_model_nor_engine():
    of = measured()
    given = Kind({"gateway": 6.0, "cache": 1.0}, [TurnSample(0.0, 0.0, {"gateway": 3.0, "cache": 1.0}, ())])
    of = Profile(of.name, of.measured, of.engine, of.made, given)
    none, half = plan(of, wanted()), plan(of, wanted(cached=0.5))
    assert replicas(half)["tts"] == 3 < replicas(none)["tts"]
    assert half.result.percentile(50) < none.result.percentile(50)
    # Half of the turns are heard after 4 ms: so is the median, where nothing is waited for.
    assert floor(of, wanted(cached=0.6, percent=50)) == pytest.approx(4.0)
    assert turn_s(of, Load(1.0, 1.0)) == pytest.approx(1.004)
    with pytest.raises(ValueError, match="has no turns that were in the cache"):
        plan(measured(), wanted(cached=0.5))


def test_a_device_that_batches_gives_what_it_gives_at_its_best():
    # Four at once take twice as long as one: two seconds of leases in a second.
    found = plan(measured(kind=GPU, slowdown=[1.0, 1.2, 1.6, 2.0]), wanted(objective_ms=1000))
    tts = {service.name: service for service in found.services}["tts"]
    assert tts.need.each == pytest.approx(2.0)
    assert found.gpus == tts.replicas >= 11
    assert found.result.percentile(95) <= 1000


def test_the_same_seed_gives_the_same_plan():
    of = profile(exponential(250.0, 300), slots=3, llm_ms=80.0, path_ms=PATH, cpu_ms=CPU_MS)
    one, again = (plan(of, wanted(rate_per_s=10.0, seed=3)) for _ in range(2))
    assert replicas(one) == replicas(again)
    assert [turn.ttfa_ms for turn in one.result.turns] == [turn.ttfa_ms for turn in again.result.turns]


# ---- prices


def test_costs_are_of_what_has_a_price():
    prices = Prices(4, 0.2, 3.0, 1.5)
    cost = cost_of(prices, nodes=10, gpus=2, rate_per_s=10.0, cached=0.5)
    assert cost.per_hour_usd == pytest.approx(8.0)
    assert cost.llm_per_hour_usd == pytest.approx(27.0)
    assert cost.per_1000_turns_usd == pytest.approx(35.0 / 36)
    assert cost.unpriced == ()
    none = cost_of(Prices(node_usd_per_hour=0.2), nodes=10, gpus=2, rate_per_s=10.0, cached=0.0)
    assert none.per_hour_usd is none.per_1000_turns_usd is None
    assert none.unpriced == ("GPUs", "LLM")


def test_prices_are_read_and_options_go_first(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text('{"node_cores": 8, "node_usd_per_hour": 0.4}')
    assert Prices(node_usd_per_hour=0.3).over(read_prices(path)) == Prices(8, 0.3, None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must be an object with node_cores"),
        ("{", "is no JSON"),
        ('{"gpu": 1}', "gpu: is no price; there are node_cores"),
        ('{"gpu_usd_per_hour": -1}', "gpu_usd_per_hour: must be a number from 0"),
        ('{"node_cores": 0}', "node_cores: must be a number from 0.1"),
        ('{"gpu_usd_per_hour": "3"}', "gpu_usd_per_hour: must be a number"),
    ],
)
def test_wrong_prices_are_named(tmp_path, text, message):
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"prices\.json: ") as caught:
        read_prices(path)
    assert message in str(caught.value)
