"""Percentiles."""

from collections.abc import Sequence
from typing import Final

QUANTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of `values` lie; 0 where there are none.

    Linear between the two closest ranks: rank `share * (n - 1)` of the sorted values (Hyndman and
    Fan's type 7, the default of numpy).
    """
    if not values:
        return 0.0
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99, to a thousandth."""
    return {name: round(percentile(values, share), 3) for name, share in QUANTILES.items()}
