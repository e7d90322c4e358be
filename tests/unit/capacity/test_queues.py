"""The simulation beside what is known of queues: closed forms, Little's law, and nothing lost."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.capacity.queues import (
    erlang_c,
    exponential,
    layout,
    m_d_c_wait,
    m_m_c_wait,
    mean_and_error,
    profile,
    run,
)
from voicemesh.capacity.arrivals import poisson
from voicemesh.capacity.pods import TtsLimits
from voicemesh.capacity.profile import CPU, SERVICES
from voicemesh.capacity.simulation import Result, simulate
from voicemesh.capacity.turns import QUEUE

MEAN_MS = 100.0


def waits_of(result: Result) -> list[float]:
    return [turn.waits[QUEUE] for turn in result.turns]


def agrees(values: list[float], expected: float, *, most_error: float = 0.1) -> None:
    """Within four standard errors, which are small beside it: a test that knows how much it knows."""
    mean, error = mean_and_error(values)
    assert error < most_error * expected, (mean, error, expected)
    assert abs(mean - expected) < 4 * error + 0.005 * expected, (mean, error, expected)


def test_erlang_c_is_what_tables_say():
    # M/M/1 waits with the chance that its server is busy; 10 Erlang on 12 servers: 0.4494.
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(12, 10 / 12) == pytest.approx(0.4494, abs=1e-4)
    # M/D/1 waits half as long as M/M/1 (Pollaczek and Khinchin).
    assert m_d_c_wait(1, 0.8, 1.0) == pytest.approx(m_m_c_wait(1, 0.8, 1.0) / 2, rel=1e-4)


@pytest.mark.parametrize(("slots", "workers", "busy"), [(1, 1, 0.7), (4, 1, 0.8), (2, 4, 0.85)])
def test_exponential_leases_wait_as_in_m_m_c(slots, workers, busy):
    result = run(profile(exponential(MEAN_MS), slots=slots, workers=workers), busy)
    servers = slots * workers
    agrees(waits_of(result), m_m_c_wait(servers, busy, MEAN_MS))
    agrees([float(ms > 0) for ms in waits_of(result)], erlang_c(servers, busy))
    assert result.busy["worker"] == pytest.approx(busy, rel=0.03)


@pytest.mark.parametrize(("slots", "busy"), [(1, 0.8), (4, 0.85)])
def test_equal_leases_wait_as_in_m_d_c(slots, busy):
    result = run(profile([MEAN_MS], slots=slots), busy)
    agrees(waits_of(result), m_d_c_wait(slots, busy, MEAN_MS))


def test_work_on_one_core_is_shared_as_in_m_g_1_ps():
    # Processor sharing does not care how work is distributed: mean time is mean work / (1 - busy).
    works_ms = exponential(20.0, 4000)
    of = profile([0.0], path_ms={}, cpu_ms={})
    turns = [type(turn)(0.0, 0.0, {"gateway": ms}, turn.chunks) for ms in works_ms for turn in of.made.turns]
    of = type(of)(of.name, of.measured, of.engine, type(of.made)({}, turns))
    rate_per_s = 0.7 / 0.02
    result = simulate(
        of, layout(cores=1.0), poisson(rate_per_s, random.Random(3)), seed=3, end_s=20_000 / rate_per_s
    )
    agrees([turn.ttfa_ms for turn in result.turns], 20.0 / 0.3)


def test_processes_share_the_cores_of_a_node():
    # Three processes that always want to run, on one core: each takes three times as long as alone.
    of = profile([90.0] * 2, kind=CPU, slots=1, workers=3, path_ms={}, cpu_ms={"worker": 90.0})
    alone = simulate(of, layout(cores=4.0), [0.0, 0.0, 0.0], seed=1, end_s=1)
    crowd = simulate(of, layout(cores=1.0), [0.0, 0.0, 0.0], seed=1, end_s=1)
    assert alone.run_s == pytest.approx(0.09, rel=1e-6)
    assert crowd.run_s == pytest.approx(0.27, rel=1e-6)
    assert crowd.nodes_busy == pytest.approx(0.27, rel=1e-6)


def test_a_device_is_slower_with_more_at_once():
    of = profile([100.0], slots=3, slowdown=[1.0, 1.5, 2.0])
    for count, run_s in ((1, 0.1), (2, 0.15), (3, 0.2)):
        result = simulate(of, layout(), [0.0] * count, seed=1, end_s=1)
        assert result.run_s == pytest.approx(run_s, rel=1e-6)
    # The second begins half-way: the first has 50 ms left at 2/3 of the speed, then it is alone again.
    result = simulate(of, layout(), [0.0, 0.05], seed=1, end_s=1)
    assert result.run_s == pytest.approx(0.05 + 0.075 + 0.05, rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    busy=st.floats(0.1, 1.3),
    slots=st.integers(1, 5),
    replicas=st.integers(1, 4),
    cores=st.floats(0.5, 8),
    kind=st.sampled_from(["cpu", "timers"]),
)
def test_nothing_is_lost_and_littles_law_holds(seed, busy, slots, replicas, cores, kind):
    of = profile(
        exponential(50.0, 50),
        slots=slots,
        kind=kind,
        first_ms=10.0,
        llm_ms=5.0,
        path_ms={"gateway": 2.0, "llm": 1.0, "chunker": 0.5, "cache": 0.3, "tts": 1.0, "caller": 1.0},
        cpu_ms={"gateway": 5.0, "llm": 2.0, "chunker": 1.0, "tts": 3.0, "worker": 30.0, "caller": 2.0},
    )
    rate_per_s = busy * slots * replicas / of.made.lease_s
    given_layout = layout(replicas=dict.fromkeys(SERVICES, replicas), nodes=replicas, cores=cores)
    result = simulate(
        of, given_layout, poisson(rate_per_s, random.Random(seed)), seed=seed, end_s=200 / rate_per_s
    )
    assert result.ended == len(result.turns) > 0  # all that began have ended, the queues are empty
    assert result.refused == 0
    # Little: the mean number within is the rate of those that passed, times how long each was within.
    assert result.at_once == pytest.approx(result.ended / result.run_s * result.sojourn_ms / 1000, rel=1e-6)
    floor_ms = min(turn.alone_ms for turn in of.made.turns)
    assert all(turn.ttfa_ms >= floor_ms - 1e-3 for turn in result.turns)
    # The same again is the same again.
    again = simulate(
        of, given_layout, poisson(rate_per_s, random.Random(seed)), seed=seed, end_s=200 / rate_per_s
    )
    assert [turn.ttfa_ms for turn in again.turns] == [turn.ttfa_ms for turn in result.turns]


@pytest.mark.parametrize("seed", [1, 2])
def test_more_replicas_are_never_slower_for_the_same_turns(seed):
    of = profile(exponential(80.0, 500), slots=2)
    rate_per_s = 0.9 * 2 / of.made.lease_s
    found = []
    for replicas in (1, 2, 3, 5):
        given_layout = layout(replicas={**dict.fromkeys(SERVICES, 1), "tts": replicas})
        arrivals = poisson(rate_per_s, random.Random(seed))
        result = simulate(of, given_layout, arrivals, seed=seed, end_s=5000 / rate_per_s)
        found.append((result.percentile(95), sum(waits_of(result))))
    assert found == sorted(found, reverse=True)
    assert found[-1][1] < found[0][1] / 10


def test_first_chunks_go_before_those_whose_listener_has_audio():
    # The queue is the mesh's own: a turn's second chunk, asked for early, lets others' first ones go first.
    of = profile([100.0])
    (turn,) = of.made.turns
    (chunk,) = turn.chunks
    two = type(turn)(0.0, 0.0, {}, (chunk, chunk, chunk))
    of = type(of)(of.name, of.measured, of.engine, type(of.made)({}, [two]))
    result = simulate(of, layout(), [0.0, 0.01], seed=1, end_s=1)
    assert result.turns[1].waits[QUEUE] == pytest.approx(90.0)


def test_a_gateway_without_places_and_a_queue_that_is_too_long_refuse():
    of = profile([1000.0])
    full = simulate(of, layout(max_turns=2), [0.0, 0.1, 0.2], seed=1, end_s=1)
    assert [turn.refused for turn in full.turns] == [False, False, True]
    learned = profile([1000.0], first_ms=10.0)  # nothing is predicted before a lease was seen
    strict = layout(tts=TtsLimits(max_lateness_ms=1500))
    late = simulate(learned, strict, [place / 10 for place in range(40)], seed=1, end_s=10)
    assert 0 < late.refused < 1
    assert late.ttfa_ms[-1] < 13_000
