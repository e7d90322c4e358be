"""The model of the autoscaler, against what the documentation of Kubernetes says of it."""

from tests.support.autoscaler import Autoscaler, Policy, Rules

AT_ONCE = (Policy("Percent", 100, 15), Policy("Pods", 4, 15))
ALL = (Policy("Percent", 100, 15),)


def scaler(down_s: int = 0, up: tuple[Policy, ...] = AT_ONCE, down: tuple[Policy, ...] = ALL) -> Autoscaler:
    return Autoscaler(1, 100, Rules(0, up), Rules(down_s, down))


def test_the_metric_that_asks_for_most_decides() -> None:
    assert scaler().decide(0, 4, [(500, 100), (1.2, 0.2), (2, 1)]) == 6


def test_within_a_tenth_nothing_changes() -> None:
    assert scaler().decide(0, 10, [(1099, 100)]) == 10
    assert scaler().decide(0, 10, [(1101, 100)]) == 12
    assert scaler().decide(0, 10, [(901, 100)]) == 10
    assert scaler().decide(0, 10, [(899, 100)]) == 9


def test_policies_bound_each_period_and_the_one_that_allows_most_counts() -> None:
    fast = scaler()
    pods = [2]
    for step in range(5):
        pods.append(fast.decide(15 * step, pods[-1], [(10_000, 100)]))
    assert pods == [2, 6, 12, 24, 48, 96]
    slow = scaler(down=(Policy("Pods", 1, 60),))
    pods = [5]
    for step in range(9):
        pods.append(slow.decide(15 * step, pods[-1], [(0, 100)]))
    assert pods == [5, 4, 4, 4, 4, 3, 3, 3, 3, 2]


def test_a_lull_that_is_shorter_than_the_window_ends_no_pod() -> None:
    steady = scaler(down_s=60)
    asked = [800, 800, 300, 300, 300, 800, 300, 300, 300]
    pods = [8]
    for step, value in enumerate(asked):
        pods.append(steady.decide(15 * step, pods[-1], [(value, 100)]))
    assert pods == [8] * 10
    assert steady.decide(15 * 9, 8, [(300, 100)]) == 3
