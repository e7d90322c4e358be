"""What is learned of steps' costs."""

from services.tts.costs import Costs
from services.tts.engines.base import Step

STEP = Step("decode", 54)


def test_nothing_is_known_before_it_ran():
    costs = Costs()
    assert costs.of(STEP, 4) is None
    assert costs.at_most(STEP, 4) is None


def test_a_slow_first_run_is_forgotten_soon_and_a_stray_one_moves_little():
    costs = Costs()
    costs.learn(STEP, 4, 1_000_000)
    for _ in range(12):
        costs.learn(STEP, 4, 1000)
    known = costs.of(STEP, 4)
    assert known is not None
    assert known < 4000
    for _ in range(12):
        costs.learn(STEP, 4, 1000)
    costs.learn(STEP, 4, 10**9)
    stray = costs.of(STEP, 4)
    assert stray is not None
    assert stray < 1500


def test_a_batch_costs_at_most_what_its_parts_would():
    costs = Costs()
    costs.learn(STEP, 2, 100)
    assert costs.at_most(STEP, 8) == 400
    assert costs.at_most(STEP, 2) == 100
    assert costs.at_most(STEP, 1) is None
    assert costs.of(STEP, 8) is None
