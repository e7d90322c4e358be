"""How long a store that fails is left alone."""

from services.cache.breaker import TRUSTED_AFTER, Breaker


def make(random_unit: float = 0.5) -> Breaker:
    return Breaker(min_ms=1000, max_ms=30_000, random_unit=lambda: random_unit)


def test_the_first_failure_opens_it_and_only_that_one() -> None:
    breaker = make()
    assert breaker.failed()
    assert not breaker.failed()
    assert not breaker.closed


def test_the_first_probe_comes_at_once_then_waits_double_up_to_the_maximum() -> None:
    breaker = make()
    breaker.failed()
    waits = []
    for _ in range(8):
        waits.append(breaker.wait_s)
        breaker.probe_failed()
    assert waits == [0, 1, 2, 4, 8, 16, 30, 30]


def test_waits_differ_by_a_fifth() -> None:
    for random_unit, wait_s in ((0.0, 0.8), (1.0, 1.2)):
        breaker = make(random_unit)
        breaker.failed()
        breaker.probe_failed()
        assert breaker.wait_s == wait_s


def test_an_answered_probe_closes_it() -> None:
    breaker = make()
    breaker.failed()
    assert breaker.succeeded()
    assert breaker.closed
    assert not breaker.succeeded()


def test_a_store_that_works_between_failures_is_never_left_alone() -> None:
    breaker = make()
    for _ in range(5):
        breaker.failed()
        assert breaker.wait_s == 0
        breaker.succeeded()
        for _ in range(TRUSTED_AFTER):
            breaker.answered()


def test_a_store_that_answers_little_but_probes_is_left_alone_for_longer() -> None:
    breaker = make()
    waits = []
    for _ in range(4):
        breaker.failed()
        waits.append(breaker.wait_s)
        breaker.succeeded()
        breaker.answered()
    assert waits == [0, 1, 2, 4]
