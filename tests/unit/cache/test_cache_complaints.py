"""Warnings that say a thing once in a while."""

from typing import Any

from structlog.testing import capture_logs

from services.cache.complaints import EVERY_S, MOST, Complaints
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.logs import get_logger


def told(clock: ManualClock, *reasons: str) -> list[Any]:
    complaints = Complaints(clock, get_logger("test"))
    with capture_logs() as logs:
        for reason in reasons:
            if reason == "wait":
                clock.advance_ms(EVERY_S * 1000)
            else:
                complaints.warn("refused", reason=reason)
    return [(line["reason"], line.get("times_before", 0)) for line in logs]


def test_a_thing_is_said_once_and_then_with_how_often_it_came() -> None:
    assert told(ManualClock(), "OOM", "OOM", "OOM", "wait", "OOM", "OOM") == [("OOM", 0), ("OOM", 2)]


def test_another_thing_is_said_at_once() -> None:
    assert told(ManualClock(), "OOM", "NOPERM", "OOM") == [("OOM", 0), ("NOPERM", 0)]


def test_what_is_remembered_is_bounded() -> None:
    complaints = Complaints(ManualClock(), get_logger("test"))
    with capture_logs():
        for number in range(10 * MOST):
            complaints.warn("refused", reason=str(number))
    assert len(complaints._since) <= MOST
