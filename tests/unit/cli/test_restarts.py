"""When a child is started again, and when it counts as hung: in virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemesh.cli.restarts import Answer, Pulse, RestartPolicy, Restarts

POLICY = RestartPolicy(
    restarts=4, calm_s=60.0, first_s=0.1, longest_s=0.5, jitter=0.5, check_s=1.0, hung_after_s=5.0
)


def test_pauses_double_up_to_the_longest_and_then_it_is_over():
    restarts = Restarts(POLICY, lambda: 0.0)
    pauses = [restarts.died(float(second)) for second in range(5)]
    assert pauses == [pytest.approx(0.1), pytest.approx(0.2), pytest.approx(0.4), pytest.approx(0.5), None]


@given(st.floats(0, 1), st.integers(1, 4))
def test_a_pause_is_drawn_from_its_upper_half(chance, deaths):
    restarts, longest = Restarts(POLICY, lambda: chance), Restarts(POLICY, lambda: 0.0)
    for _ in range(deaths):
        drawn, most = restarts.died(0.0), longest.died(0.0)
    assert drawn is not None
    assert most is not None
    assert most / 2 <= drawn <= most


def test_deaths_are_forgotten_after_it_has_served_for_a_while():
    restarts = Restarts(POLICY, lambda: 0.0)
    for began_s in range(0, 1000, 100):
        restarts.serves(float(began_s))
        assert restarts.died(began_s + 60.0) == pytest.approx(0.1)
        assert restarts.deaths == 1


def test_one_that_loads_for_long_and_dies_before_it_serves_comes_to_an_end():
    restarts = Restarts(POLICY, lambda: 0.0)
    assert [restarts.died(at_s) is None for at_s in (300.0, 600.0, 900.0, 1200.0, 1500.0)] == [False] * 4 + [
        True
    ]


def test_serving_counts_from_its_beginning():
    restarts = Restarts(POLICY, lambda: 0.0)
    restarts.died(0.0)
    for at_s in range(10, 71):
        restarts.serves(float(at_s))
    restarts.died(70.0)
    assert restarts.deaths == 1


def test_a_thousand_deaths_are_no_overflow():
    restarts = Restarts(RestartPolicy(restarts=5000), lambda: 0.0)
    assert [restarts.died(0.0) for _ in range(5000)][-1] == RestartPolicy.longest_s


def noted(pulse: Pulse, *answers: Answer) -> list[str]:
    return [pulse.note(answer) for answer in answers]


def test_so_many_seconds_without_an_answer_are_a_hang():
    pulse = Pulse(POLICY)
    assert noted(pulse, *[Answer.SILENT] * 5) == ["", "", "", "", "did not answer for 5 s"]


def test_an_answer_in_between_begins_the_count_anew():
    pulse = Pulse(POLICY)
    for answer in (Answer.SERVING, Answer.WAITING, Answer.CLOSED):
        assert not any(noted(pulse, *[Answer.SILENT] * 4, answer))


def test_one_that_takes_no_connection_has_longer_because_it_may_be_draining_or_loading():
    pulse = Pulse(POLICY)
    assert not any(noted(pulse, *[Answer.CLOSED] * 59))
    assert pulse.note(Answer.CLOSED) == "took no connection for 60 s"


def test_nobody_is_killed_where_that_is_switched_off():
    pulse = Pulse(RestartPolicy(hung_after_s=0.0))
    assert not any(noted(pulse, *[Answer.SILENT] * 500, *[Answer.CLOSED] * 500))
