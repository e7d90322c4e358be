"""How well the difference of two p95 is known: the interval that `benchmarks.capacity check` prints."""

import random

import pytest

from benchmarks.capacity.checking import interval


def pairs(count: int, factor: float, *, waits: bool) -> list[tuple[float, float]]:
    """Two alike times for each turn, the second `factor` times the first; waits last for many turns."""
    chance = random.Random(5)
    found, wait = [], 0.0
    for _ in range(count):
        wait = 0.97 * wait + chance.expovariate(0.1) if waits else chance.expovariate(0.003)
        measured = 100 + wait + chance.gauss(0, 3)
        found.append((measured, factor * (100 + wait + chance.gauss(0, 3))))
    return found


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.4])
def test_the_interval_holds_the_difference(factor):
    low, high = interval(pairs(600, factor, waits=True), seed=1)
    assert low < factor - 1 + 0.02
    assert high > factor - 1 - 0.02
    assert low < high


def test_fewer_turns_are_known_less_well_and_a_seed_gives_the_same():
    chance = random.Random(3)
    apart = [(chance.lognormvariate(5, 1), chance.lognormvariate(5, 1)) for _ in range(1600)]
    few, many = (interval(apart[:count], seed=1) for count in (60, 1600))
    assert few[1] - few[0] > many[1] - many[0]
    assert few == interval(apart[:60], seed=1)
