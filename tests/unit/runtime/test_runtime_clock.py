"""Clocks."""

import pytest

from voicemesh.runtime.clock import ManualClock, SystemClock


def test_the_system_clock_does_not_go_back() -> None:
    clock = SystemClock()
    times = [clock.now_ns() for _ in range(100)]
    assert times == sorted(times)


def test_a_manual_clock_moves_when_told() -> None:
    clock = ManualClock(5)
    clock.advance_ms(1.5)
    assert clock.now_ns() == 1_500_005
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance_ms(-1)
