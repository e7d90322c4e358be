"""Percentiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemesh.cli.stats import percentile, percentiles


def test_between_the_closest_ranks():
    assert percentile([4, 1, 3, 2], 0.5) == 2.5
    assert percentile([10], 0.99) == 10
    assert percentile([], 0.5) == 0
    assert percentiles(list(range(101))) == {"p50": 50, "p95": 95, "p99": 99}


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_lie_within_the_values_and_grow(values, share):
    value = percentile(values, share)
    assert min(values) <= value <= max(values) or value == pytest.approx(min(values))
    assert value <= percentile(values, 1) or value == pytest.approx(max(values))
