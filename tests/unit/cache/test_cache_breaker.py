"""How long a store that fails is left alone."""

from services.cache.breaker import Breaker
from voicemesh.runtime.clock import ManualClock


def make(random_unit: float = 0.5) -> tuple[Breaker, ManualClock]:
    clock = ManualClock()
    return Breaker(clock, min_ms=1000, max_ms=30_000, random_unit=lambda: random_unit), clock


def test_the_first_failure_opens_it_and_only_that_one() -> None:
    breaker, _ = make()
    assert breaker.failed()
    assert not breaker.failed()
    assert not breaker.closed
    assert breaker.wait_s == 1.0


def test_waits_double_up_to_the_maximum() -> None:
    breaker, _ = make()
    breaker.failed()
    waits = []
    for _ in range(7):
        waits.append(breaker.wait_s)
        breaker.probe_failed()
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_waits_differ_by_a_fifth() -> None:
    for random_unit, wait_s in ((0.0, 0.8), (1.0, 1.2)):
        breaker, _ = make(random_unit)
        breaker.failed()
        assert breaker.wait_s == wait_s


def test_an_answered_probe_closes_it_and_the_waits_begin_anew() -> None:
    breaker, clock = make()
    breaker.failed()
    breaker.probe_failed()
    assert breaker.succeeded()
    assert breaker.closed
    assert not breaker.succeeded()
    clock.advance_ms(60_000)
    breaker.failed()
    assert breaker.wait_s == 1.0


def test_a_store_that_answers_probes_only_is_left_alone_for_longer() -> None:
    breaker, clock = make()
    waits = []
    for _ in range(4):
        breaker.failed()
        waits.append(breaker.wait_s)
        breaker.succeeded()
        clock.advance_ms(10)
    assert waits == [1, 2, 4, 8]
