"""How long something may stand by at one process while others may be new."""

import math

from gateway.moves import RENEW_S, Moves
from voicemesh.runtime.clock import ManualClock


def test_where_nothing_ever_moved_it_may_stand_by_for_ever() -> None:
    assert Moves(ManualClock()).lasts_s() == math.inf


def test_it_is_renewed_soon_behind_a_move_and_then_ever_more_seldom() -> None:
    clock = ManualClock()
    moves = Moves(clock)
    moves.moved()
    renewed = 0
    while clock.now_ns() < 600e9:
        since_s = clock.now_ns() / 1e9
        lasts_s = moves.lasts_s()
        assert max(RENEW_S, since_s) / 2 <= lasts_s <= max(RENEW_S, since_s)
        clock.advance_ms(lasts_s * 1000)
        renewed += 1
    assert renewed <= 20  # in ten minutes


def test_those_who_are_added_are_told_until_they_are_taken_out() -> None:
    moves = Moves(ManualClock())
    told: list[str] = []

    def one() -> None:
        told.append("one")
        moves.discard(one)  # also while it is told

    def two() -> None:
        told.append("two")

    moves.add(one)
    moves.add(two)
    moves.moved()
    moves.moved()
    assert sorted(told) == ["one", "two", "two"]
