"""When an engine is left alone, and when it is tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemesh.runtime.breaker import Breaker, BreakerSpec, BreakerState
from voicemesh.runtime.clock import ManualClock

SPEC = BreakerSpec(failures=3, window_s=10, open_s=2)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(7_000_000_000)


@pytest.fixture
def breaker(clock: ManualClock) -> Breaker:
    return Breaker(SPEC, clock)


def test_it_opens_after_so_many_failures_and_half_opens_after_its_time(clock, breaker):
    assert [breaker.failed() for _ in range(3)] == [False, False, True]
    assert (breaker.state, breaker.allows, breaker.opened) == (BreakerState.OPEN, False, 1)
    assert breaker.retry_after_ms == 2000
    clock.advance_ms(1999)
    assert not breaker.allows
    clock.advance_ms(1)
    assert (breaker.state, breaker.allows, breaker.retry_after_ms) == (BreakerState.HALF_OPEN, True, 0)


def test_one_probe_at_a_time_closes_it(clock, breaker):
    opened(breaker)
    clock.advance_ms(2000)
    assert breaker.admit()
    assert not breaker.allows
    breaker.release()  # its caller cancelled it: that says nothing
    assert breaker.allows
    assert breaker.admit()
    breaker.succeeded()
    assert (breaker.state, breaker.admit()) == (BreakerState.CLOSED, False)
    assert [breaker.failed() for _ in range(2)] == [False, False]  # it begins anew


def test_a_probe_that_fails_doubles_the_time_up_to_eight_times(clock, breaker):
    opened(breaker)
    held = []
    for _ in range(5):
        clock.advance_ms(breaker.retry_after_ms)
        assert breaker.admit()
        assert breaker.failed()
        held.append(breaker.retry_after_ms)
    assert held == [4000, 8000, 16000, 16000, 16000]
    clock.advance_ms(16000)
    breaker.admit()
    breaker.succeeded()
    opened(breaker)
    assert breaker.retry_after_ms == 2000


def test_failures_outside_the_window_do_not_count(clock, breaker):
    for _ in range(10):
        assert not breaker.failed()
        clock.advance_ms(5001)
    assert breaker.state is BreakerState.CLOSED


def test_a_few_failures_among_many_chunks_that_went_well_are_no_broken_engine(clock, breaker):
    for _ in range(200):
        for _ in range(3):
            breaker.succeeded()
        assert not breaker.failed()
        clock.advance_ms(30)
    assert breaker.opened == 0


def test_what_began_before_it_opened_does_not_close_it(breaker):
    opened(breaker)
    breaker.succeeded()
    assert not breaker.failed()
    assert (breaker.state, breaker.opened) == (BreakerState.OPEN, 1)


@given(st.lists(st.sampled_from(["ok", "bad", "ask", "drop", "later"]), max_size=200))
def test_while_it_is_open_nothing_is_allowed_and_half_open_one_thing_is(steps):
    clock = ManualClock()
    breaker = Breaker(SPEC, clock)
    for step in steps:
        before = breaker.state
        if step == "ok":
            breaker.succeeded()
        elif step == "bad":
            breaker.failed()
        elif step == "drop":
            breaker.release()
        elif step == "later":
            clock.advance_ms(700)
        elif breaker.allows:
            probe = breaker.admit()
            assert probe == (before is BreakerState.HALF_OPEN)
            assert not (probe and breaker.allows)
        assert not (breaker.state is BreakerState.OPEN and breaker.allows)
        assert breaker.state is not BreakerState.CLOSED or breaker.allows


def opened(breaker: Breaker) -> None:
    for _ in range(SPEC.failures):
        breaker.failed()
    assert breaker.state is BreakerState.OPEN
