from structlog.testing import capture_logs

from gateway.breaker import Breaker
from voicemesh.runtime.clock import ManualClock


def test_it_opens_on_a_failure_and_lets_one_call_through_when_its_time_is_over() -> None:
    clock = ManualClock()
    breaker = Breaker(clock, 1.0)
    assert breaker.allows()
    breaker.failed()
    breaker.failed()  # of a call that was under way: counts once
    clock.advance_ms(999)
    assert not breaker.allows()
    clock.advance_ms(1)
    assert breaker.allows()
    assert not breaker.allows()
    breaker.succeeded()
    assert breaker.allows()
    assert breaker.allows()


def test_it_waits_longer_each_time_up_to_thirty_times() -> None:
    clock = ManualClock()
    breaker = Breaker(clock, 1.0)
    waits = []
    breaker.failed()
    for _ in range(8):
        waited = 0
        while not breaker.allows():
            clock.advance_ms(1000)
            waited += 1
        waits.append(waited)
        breaker.failed()
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


def test_it_says_where_it_is() -> None:
    clock = ManualClock()
    breaker = Breaker(clock, 1.0)
    states = [breaker.state]
    breaker.failed()
    states.append(breaker.state)
    clock.advance_ms(1000)
    states.append(breaker.state)
    assert breaker.allows()
    states.append(breaker.state)  # nobody knows yet what came of the probe
    breaker.failed()
    states.append(breaker.state)
    clock.advance_ms(2000)
    assert breaker.allows()
    breaker.succeeded()
    states.append(breaker.state)
    assert [state.name for state in states] == ["CLOSED", "OPEN", "HALF_OPEN", "HALF_OPEN", "OPEN", "CLOSED"]


def test_one_line_says_that_it_opened_and_why_and_one_that_it_closed() -> None:
    clock = ManualClock()
    breaker = Breaker(clock, 1.0, "cache", "THE_SETTING")
    with capture_logs() as lines:
        breaker.succeeded()
        for wait_ms in (1000, 2000):
            breaker.failed("it took longer than 20 ms")
            breaker.failed("so did another")
            clock.advance_ms(wait_ms)
            assert breaker.allows()
        breaker.succeeded()
        breaker.succeeded()
    assert breaker.why == "it took longer than 20 ms"
    opened, closed = lines
    assert opened["log_level"] == "warning"
    assert {name: opened[name] for name in ("target", "why", "hold_s", "settings")} == {
        "target": "cache",
        "why": "it took longer than 20 ms",
        "hold_s": 1.0,
        "settings": "THE_SETTING",
    }
    assert (closed["log_level"], closed["target"], closed["after_s"]) == ("info", "cache", 3.0)
