"""The simulation behind the table of `benchmarks.scheduler`."""

import math

from benchmarks.scheduler import MS, S, Simulation, percentile


def test_streams_are_the_same_every_time_and_hear_everything():
    results = [Simulation(20, lambda size: (2 + size) * MS, 8).run(15 * S) for _ in range(2)]
    assert results[0] == results[1]
    assert len(results[0].first_ms) == 20
    assert results[0].chunks > 20
    assert results[0].underruns == 0
    assert min(results[0].first_ms) >= 6


def test_an_engine_that_is_too_slow_has_underruns():
    got = Simulation(50, lambda size: 30 * size * MS, 8).run(20 * S)
    assert got.underruns > 0
    assert got.busy > 0.9


def test_percentiles_are_values_that_were_seen():
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([3, 1, 2], 0.99) == 3
    assert math.isnan(percentile([], 0.5))
