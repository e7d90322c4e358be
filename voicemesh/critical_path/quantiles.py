"""Percentiles."""

from collections.abc import Sequence


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of the sorted values lie; 0 where there are none.

    Linear between the two closest ranks: rank `share * (n - 1)` (Hyndman and Fan's type 7).
    """
    if not ordered:
        return 0.0
    rank = share * (len(ordered) - 1)
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)
