"""When a new pod has its share, and what a row says of pods that never had one."""

import pytest

from benchmarks.cold_pod import Cold, Pod, fair_from_s, judged, row, spread


def in_turn(pods: int, from_s: float, until_s: float, every_s: float = 0.1) -> list[list[float]]:
    """Return when calls begin at pods that are asked in turn."""
    calls = [from_s + at * every_s for at in range(round((until_s - from_s) / every_s))]
    return [calls[place::pods] for place in range(pods)]


def test_a_share_begins_with_a_call_of_the_pod_itself():
    before = in_turn(2, 0.0, 3.05)
    new, *others = in_turn(3, 3.05, 12.0)
    both = [[*early, *late] for early, late in zip(before, others, strict=True)]
    assert fair_from_s(new, both, 1.0) == pytest.approx(3.05)


def test_single_calls_are_no_share():
    new, *others = in_turn(3, 6.0, 12.0)
    others = [[*early, *late] for early, late in zip(in_turn(2, 0.0, 6.0), others, strict=True)]
    assert fair_from_s([2.0, *new], others, 1.0) == pytest.approx(6.0)
    assert fair_from_s([2.0], in_turn(2, 0.0, 12.0), 1.0) is None
    # Too few calls to tell.
    few, *others = in_turn(3, 0.0, 2.5)
    assert fair_from_s(few, others, 0.0) is None


def test_a_pod_is_judged_from_when_it_serves():
    new, *others = in_turn(3, 4.0, 14.0)
    others = [[*early, *late] for early, late in zip(in_turn(2, 0.0, 4.0), others, strict=True)]
    found = judged([1.0, *new], others, 2.0, 9.0)  # the call at 1.0 was no turn's: it did not serve
    assert found.first_call_s == pytest.approx(2.0)
    assert found.fair_share_s == pytest.approx(2.0)
    assert found.share == pytest.approx(1.0, abs=0.1)
    assert found.calls_per_s == pytest.approx(10.0, abs=0.4)
    assert judged([], others, 2.0, 9.0).first_call_s is None


def test_what_never_came_is_longer_than_any_time():
    assert spread([0.5, 3.0, 1.0]) == "1.00 s, 3.00 s"
    assert spread([0.5, None, 1.0]) == "1.00 s, never"
    assert spread([None, None, 1.0]) == "never, never"
    assert spread([]) == "-"


def test_a_service_is_good_where_each_pod_had_its_share_in_time_and_nothing_was_lost():
    soon, late = Pod(1.0, 2.0, 1.0, 20.0), Pod(1.0, 5.5, 0.9, 20.0)
    good = Cold("llm", (soon, soon), 9.0, (0, 0), 400, 0)
    assert good.good
    assert not Cold("llm", (soon, late), 9.0, (0, 0), 400, 0).good
    assert not Cold("llm", (soon,), 9.0, (0, 0), 400, 1).good
    assert not Cold("llm", (soon,), 9.0, (0, -9), 400, 0).good
    assert " ".join(row(good).split()) == "llm 1.00 s, 1.00 s 2.00 s, 2.00 s 100% 20.0 9.0 s 400 0"
