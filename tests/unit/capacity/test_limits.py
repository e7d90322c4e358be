"""What a plan refuses to work out, and that it ends: counted in steps, not in seconds."""

import random
from typing import Any

import pytest

from tests.unit.capacity.queues import layout, profile
from voicemesh.capacity import profile as profiles
from voicemesh.capacity.arrivals import bursty, cycle_s, poisson
from voicemesh.capacity.events import TooLargeError
from voicemesh.capacity.plan import UnreachableError, Wanted, plan
from voicemesh.capacity.profile import GPU, Kind
from voicemesh.capacity.simulation import Objective, Result, simulate
from voicemesh.capacity.turns import ENGINE

PATH = {"gateway": 2.0, "llm": 1.0, "chunker": 0.5, "cache": 0.3, "tts": 1.0}
CPU_MS = {"gateway": 20.0, "llm": 5.0, "chunker": 2.0, "cache": 1.0, "tts": 10.0, "worker": 12.0}


def test_a_simulation_takes_no_more_steps_than_it_may():
    of, endless = profile([100.0]), poisson(5.0, random.Random(1))
    with pytest.raises(TooLargeError):
        simulate(of, layout(), endless, seed=1, end_s=1e9, most_steps=5000)
    found = simulate(of, layout(), poisson(5.0, random.Random(1)), seed=1, end_s=10, most_steps=5000)
    assert 0 < found.steps < 5000


@pytest.mark.parametrize("objective_ms", [60.0, 80.0, 100.0, 150.0, 250.0, 400.0, 2000.0])
def test_what_misses_its_objective_for_certain_ends_early_and_nothing_else_does(objective_ms):
    of = profile([50.0, 60.0], first_ms=20.0, llm_ms=30.0, path_ms=PATH, cpu_ms=CPU_MS)

    def simulated(objective: Objective | None) -> Result:
        arrivals = poisson(14.0, random.Random(1))
        return simulate(of, layout(), arrivals, seed=1, end_s=60, warm_s=15, objective=objective)

    whole, short = simulated(None), simulated(Objective(95, objective_ms))
    assert short.missed == (whole.percentile(95) > objective_ms)
    if short.missed:
        assert short.steps < whole.steps
        assert all(turn.ttfa_ms for turn in short.turns)
    else:
        assert [turn.ttfa_ms for turn in short.turns] == [turn.ttfa_ms for turn in whole.turns]


def test_a_load_that_is_too_large_is_told_with_what_to_ask_for():
    with pytest.raises(
        ValueError, match="100 turns a second with 1 s of audio each are more than is simulated"
    ):
        plan(profile([100.0]), Wanted(rate_per_s=100.0, objective_ms=900, cores=2.0, most_steps=2000))
    with pytest.raises(ValueError, match=r"this takes 14,286 gateway, and no more than 10,000 replicas"):
        plan(profile([9.0]), Wanted(rate_per_s=1e4, objective_ms=900, cores=2.0, max_turns=1))


def test_an_objective_just_above_what_nothing_waits_for_ends():
    of = profile([100.0, 200.0, 300.0], slots=1, llm_ms=100.0, first_ms=40.0, path_ms=PATH, cpu_ms=CPU_MS)
    with pytest.raises(UnreachableError, match=r"gave up at|p95 stays at"):
        plan(of, Wanted(rate_per_s=60.0, objective_ms=144.9, cores=2.0, utilisation=0.9, most_steps=300_000))


def test_a_search_without_steps_left_gives_what_it_has_and_says_so():
    of = profile([200.0, 300.0], slots=4, first_ms=40.0, path_ms=PATH, cpu_ms=CPU_MS)
    given: dict[str, Any] = {"rate_per_s": 50.0, "objective_ms": 400.0, "cores": 4.0, "peak": 3.0}
    whole = plan(of, Wanted(**given))
    steps = whole.result.steps
    short = plan(of, Wanted(**given, most_steps=int(1.5 * steps)))
    assert short.cut_short
    assert not whole.cut_short
    assert sum(each.replicas for each in short.services) > sum(each.replicas for each in whole.services)
    assert short.result.percentile(95) <= 400


def test_long_bursts_are_planned_for_their_peak():
    of = profile([200.0, 300.0, 400.0], slots=2, first_ms=40.0, path_ms=PATH, cpu_ms=CPU_MS)

    def in_bursts(rate_per_s, chance):
        return bursty(rate_per_s, 4.0, 30.0, chance)

    given: dict[str, Any] = {"rate_per_s": 5.0, "objective_ms": 400.0, "cores": 4.0}
    usual = plan(of, Wanted(**given))
    for seed in (1, 2):
        bursts = plan(
            of, Wanted(**given, arrivals=in_bursts, least_s=3 * cycle_s(4.0, 30.0), peak=4.0, seed=seed)
        )
        tts, more = ({each.name: each.replicas for each in of.services}["tts"] for of in (usual, bursts))
        # A turn has 0.3 s of engines, 20 turns a second come for half a minute: 6 slots, 2 in a process.
        assert more > tts


def test_a_device_that_others_slow_down_is_what_there_is_to_be_more_of():
    # Eight at once take four times as long: the first frame waits for no slot, and comes late.
    of = profile(
        [400.0],
        slots=8,
        kind=GPU,
        first_ms=100.0,
        path_ms=PATH,
        slowdown=[1 + place * 0.43 for place in range(8)],
    )
    found = plan(of, Wanted(rate_per_s=6.0, objective_ms=150.0, cores=4.0, utilisation=0.9))
    replicas = {each.name: each.replicas for each in found.services}
    assert replicas.pop("tts") > 3
    assert set(replicas.values()) == {1}
    alone = simulate(of, layout(), [0.0, 0.01], seed=1, end_s=1)
    assert alone.turns[0].waits[ENGINE] > 10


def test_a_profile_tells_what_is_wrong_with_it():
    plain = profile([100.0])
    assert plain.caveats == []
    measured = {
        **plain.measured, "busy": True, "turns": 96, "kept": 24, "alone": {"ttfa_p95_ms": 405.9},
        "machine": {"cpus": 2, "load_1m": 49.71},
    }  # fmt: skip
    busy, fastest = profiles.Profile("x", measured, plain.engine, Kind({}, plain.made.turns)).caveats
    assert "no quiet measurement: the machine had other work (49.71 processes wanted its 2 CPUs)" in busy
    assert "the fastest 24 of 96 turns without load; p95 of all of them was 406 ms" in fastest
