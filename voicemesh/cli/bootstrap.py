"""Confidence intervals by resampling: how far a difference could be off, without a guess at its distribution.

The percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13):
draw as many values again as there are, with replacement, and take the statistic of each draw; the interval
holds the middle 95% of those. Where values come in pairs, pairs are drawn, so that what both have in common
(the prompt, the moment) does not widen the interval. Draws are seeded: the same values give the same
interval.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from voicemesh.cli.stats import percentile

LEVEL: Final = 0.95
"""How much of the draws an interval holds."""
_MOST_DRAWS: Final = 2_000
_FEWEST_DRAWS: Final = 400
_MOST_VALUES: Final = 4_000_000
"""Values that are drawn in sum, at most, where that leaves enough draws."""

Statistic = Callable[[Sequence[float]], float]
STATISTICS: Final[Mapping[str, Statistic]] = {
    "median": lambda values: percentile(values, 0.5),
    "p95": lambda values: percentile(values, 0.95),
    "p99": lambda values: percentile(values, 0.99),
    "mean": lambda values: sum(values) / len(values),
}


PAIRS: Final = "pairs"
"""The median of the pairs' own differences and ratios: what prompts differ by cancels out in each."""


@dataclass(frozen=True)
class Estimate:
    """A value, and the interval in which the true one lies with 95% confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """What B has against A in one statistic.

    Attributes:
        a: The statistic of A.
        b: That of B.
        difference: B - A, or the median of it in pairs.
        ratio: B / A, likewise; None where A, or A in some draw, is 0.

    """

    a: float
    b: float
    difference: Estimate
    ratio: Estimate | None

    @property
    def shown(self) -> bool:
        """True where the interval leaves no difference out."""
        return self.difference.low > 0 or self.difference.high < 0


def compare(
    a: Sequence[float],
    b: Sequence[float],
    names: Sequence[str],
    *,
    paired: bool,
    seed: int,
    draws: int = 0,
    most_values: int = _MOST_VALUES,
) -> dict[str, Comparison]:
    """Compare two sets of values, each of at least one.

    Args:
        a: Values of A.
        b: Values of B; where they are paired, in the same order.
        names: Which of STATISTICS; and PAIRS, which is left out where they are not paired.
        paired: True where `a[i]` and `b[i]` belong together.
        seed: Of the draws.
        draws: How many; 0 for 2,000, or fewer where there are many values.
        most_values: From how many values in sum on there are fewer draws; 400 are always made.

    """
    if paired and len(a) != len(b):
        raise ValueError(f"a, b: paired values must be as many, not {len(a)} and {len(b)}")
    draws = draws or max(_FEWEST_DRAWS, min(_MOST_DRAWS, most_values // max(len(a), len(b))))
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    sets = list(zip(a, b, strict=True)) if paired else []
    places_a, places_b = range(len(a)), range(len(b))
    drawn: dict[str, list[tuple[float, float]]] = {name: [] for name in names if paired or name != PAIRS}
    for _ in range(draws):
        some_places = chance.choices(places_a, k=len(a))
        other_places = some_places if paired else chance.choices(places_b, k=len(b))
        # Sorted once: sorting what is sorted costs next to nothing.
        some_a, some_b = sorted(a[place] for place in some_places), sorted(b[place] for place in other_places)
        for name, found in drawn.items():
            if name == PAIRS:
                found.append(_within([sets[place] for place in some_places]))
            else:
                found.append(_between(STATISTICS[name](some_a), STATISTICS[name](some_b)))
    results = {}
    for name, found in drawn.items():
        statistic = STATISTICS["median" if name == PAIRS else name]
        of_a, of_b = statistic(a), statistic(b)
        difference, ratio = _within(sets) if name == PAIRS else _between(of_a, of_b)
        ratios = [each for _, each in found]
        whole = not any(math.isnan(each) for each in (ratio, *ratios))
        results[name] = Comparison(
            of_a,
            of_b,
            _estimate(difference, [each for each, _ in found]),
            _estimate(ratio, ratios) if whole else None,
        )
    return results


def _between(of_a: float, of_b: float) -> tuple[float, float]:
    """Return difference and ratio, which is nan to nothing."""
    return of_b - of_a, of_b / of_a if of_a else math.nan


def _within(sets: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the medians of the pairs' differences and ratios."""
    difference = percentile([b - a for a, b in sets], 0.5)
    if not all(a for a, _ in sets):
        return difference, math.nan
    return difference, percentile([b / a for a, b in sets], 0.5)


def _estimate(value: float, drawn: Sequence[float]) -> Estimate:
    tail = (1 - LEVEL) / 2
    return Estimate(value, percentile(drawn, tail), percentile(drawn, 1 - tail))
