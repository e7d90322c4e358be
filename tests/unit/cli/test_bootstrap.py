"""Intervals hold what they promise: measured on values whose true difference is known."""

import random
from typing import Final

import pytest

from voicemesh.cli.bootstrap import PAIRS, compare
from voicemesh.cli.stats import percentile

TRIALS: Final = 200
VALUES: Final = 40
DRAWS: Final = 300


def times(chance: random.Random, faster_ms: float) -> tuple[list[float], list[float]]:
    """Return times of A and B to the same prompts: what a prompt takes, noise of both, and a difference."""
    prompts = [chance.lognormvariate(5, 0.5) for _ in range(VALUES)]
    return (
        [prompt + chance.expovariate(1 / 20) for prompt in prompts],
        [prompt + chance.expovariate(1 / 20) - faster_ms for prompt in prompts],
    )


@pytest.mark.parametrize("faster_ms", [0.0, 35.0])
@pytest.mark.parametrize("name", [PAIRS, "median"])
def test_an_interval_of_95_percent_holds_the_true_difference_about_as_often(faster_ms: float, name: str):
    chance = random.Random(20)
    held = shown = 0
    widths = []
    for trial in range(TRIALS):
        a, b = times(chance, faster_ms)
        found = compare(a, b, [name], paired=True, seed=trial, draws=DRAWS)[name].difference
        held += found.low <= -faster_ms <= found.high
        shown += found.low > 0 or found.high < 0
        widths.append(found.high - found.low)
    # 95% of 200 is 190; three standard deviations of chance are 10. That more are held is no fault.
    assert held >= 190 - 10
    if name == PAIRS:
        # The prompts' own differences cancel out: 35 ms are found in nearly every trial.
        assert shown >= 0.9 * TRIALS if faster_ms else shown <= TRIALS - held
        assert percentile(widths, 0.5) < 35


def test_the_same_values_and_seed_give_the_same_interval():
    a, b = times(random.Random(1), 10)
    assert compare(a, b, ["median", "p95"], paired=True, seed=3) == compare(
        a, b, ["median", "p95"], paired=True, seed=3
    )
    assert compare(a, b, ["median"], paired=True, seed=3) != compare(a, b, ["median"], paired=True, seed=4)


def test_values_and_ratio_are_those_of_the_values():
    found = compare(
        [100.0, 200.0, 300.0], [50.0, 100.0, 150.0], ["median", "p95", "mean"], paired=True, seed=1
    )
    assert (found["median"].a, found["median"].b, found["median"].difference.value) == (200, 100, -100)
    assert found["mean"].difference.value == -100
    assert found["p95"].a == pytest.approx(290)
    for comparison in found.values():
        assert comparison.ratio is not None
        # Each B is half of its A, in every draw of pairs.
        ratio = comparison.ratio
        assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.5, 0.5, 0.5))


def test_pairs_cancel_what_their_prompts_differ_by():
    a = [100.0, 1000.0, 5000.0]
    b = [value - 35 for value in a]
    both = compare(a, b, [PAIRS, "median"], paired=True, seed=1)
    assert (both[PAIRS].difference.low, both[PAIRS].difference.high) == (-35, -35)
    assert both[PAIRS].ratio is not None
    assert both[PAIRS].ratio.value == pytest.approx(965 / 1000)
    # Not paired, the prompts' own differences are all that is seen.
    apart = compare(a, b, [PAIRS, "median"], paired=False, seed=1)
    assert set(apart) == {"median"}
    assert not apart["median"].shown


def test_there_is_no_ratio_to_nothing():
    found = compare([0.0, 0.0, 1.0], [1.0, 1.0, 1.0], ["mean"], paired=True, seed=1)["mean"]
    assert found.ratio is None
    assert found.difference.value == pytest.approx(2 / 3)


def test_pairs_must_be_pairs():
    with pytest.raises(ValueError, match="not 2 and 1"):
        compare([1.0, 2.0], [1.0], ["mean"], paired=True, seed=1)
