"""How often is asked again, by whom, and when: the rules that keep retries from multiplying."""

import random

import pytest
from google.rpc import code_pb2, error_details_pb2

from voicemesh.runtime import status
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.errors import (
    DrainingError,
    LlmUnavailableError,
    MeshError,
    QueueFullError,
    ServiceUnavailableError,
)
from voicemesh.runtime.retry_budget import (
    ATTEMPT_METADATA,
    Retries,
    RetryBudget,
    attempt_metadata,
    attempt_of,
)


def test_a_budget_is_a_tenth_at_any_time() -> None:
    budget = RetryBudget(10)
    more = 0
    for asked in range(1, 1001):
        budget.earn()
        while budget.spend():
            more += 1
        assert more <= max(10, asked / 10)
    assert more == 100
    assert not RetryBudget(0).spend()


def test_a_quiet_process_saves_no_more_than_its_reserve() -> None:
    budget = RetryBudget(10)
    for _ in range(10_000):
        budget.earn()
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
    assert (budget.spent, budget.refused) == (10, 1)


def test_a_floor_comes_in_with_time_and_is_saved_up_to_the_reserve() -> None:
    clock = ManualClock()
    budget = RetryBudget(10, 10, floor_per_s=2, clock=clock)
    while budget.spend():
        pass
    clock.advance_ms(499)
    assert not budget.spend()
    clock.advance_ms(1)
    assert budget.spend()
    assert not budget.spend()
    clock.advance_ms(3_600_000)
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]


def test_a_floor_needs_a_clock_and_none_at_all_is_none() -> None:
    with pytest.raises(ValueError, match="needs a clock"):
        RetryBudget(10, floor_per_s=1)
    clock = ManualClock()
    nothing = RetryBudget(0, floor_per_s=10, clock=clock)
    clock.advance_ms(60_000)
    assert not nothing.spend()


@pytest.mark.parametrize("seed", range(5))
def test_an_outage_never_makes_more_calls_than_the_budget(seed: int) -> None:
    """Every call fails, for a minute: what is asked is at most its share, its floor and its reserve more."""
    draws, clock = random.Random(seed), ManualClock()
    retries = Retries(["tts"], clock, turns=40, percent=20, floor_per_s=10)
    calls = again = 0
    lost = ServiceUnavailableError("gone")
    for _ in range(6000):
        clock.advance_ms(draws.expovariate(1) * 10)
        retries.called("tts")
        calls += 1
        attempt = 0
        while retries.wait_s("tts", lost, attempt, None) is not None:
            attempt += 1
            again += 1
            retries.called("tts", attempt)
        assert attempt <= 2
    assert again <= 40 + 0.2 * calls + 10 * clock.now_ns() / 1e9
    assert again >= 0.2 * calls


def _retries() -> Retries:
    return Retries(["llm", "tts"], ManualClock(), turns=4)


def test_every_turn_may_move_at_once_when_a_replica_dies() -> None:
    retries = Retries(["tts"], ManualClock(), turns=256)
    lost = ServiceUnavailableError("gone")
    assert all(retries.wait_s("tts", lost, 0, None) == 0 for _ in range(256))
    assert retries.wait_s("tts", lost, 0, None) is None


def test_services_have_a_budget_each() -> None:
    retries = _retries()
    lost = ServiceUnavailableError("gone")
    while retries.wait_s("tts", lost, 0, None) is not None:
        pass
    assert retries.wait_s("llm", lost, 0, None) == 0.0


@pytest.mark.parametrize(
    ("error", "wait_s"),
    [
        (None, 0.0),
        (ServiceUnavailableError("gone", retry_after_ms=1000), 0.0),  # another replica answers at once
        (DrainingError("going", retry_after_ms=0), 0.0),
        (QueueFullError("full", retry_after_ms=250), 0.25),
        (QueueFullError("full"), None),
        (LlmUnavailableError("broken"), None),
        (MeshError("a fault"), None),
    ],
)
def test_pushback_says_when_and_what_nobody_lost_is_not_asked_again(
    error: MeshError | None, wait_s: float | None
) -> None:
    retries = _retries()
    assert retries.wait_s("tts", error, 0, 5.0) == wait_s
    assert retries.budgets["tts"].spent == (wait_s is not None)


def test_no_wait_begins_that_ends_behind_the_deadline_and_costs_nothing() -> None:
    retries = _retries()
    full = QueueFullError("full", retry_after_ms=250)
    assert retries.wait_s("tts", full, 0, 0.25) is None
    assert retries.wait_s("tts", None, 0, 0.0) is None
    assert retries.budgets["tts"].spent == 0


def test_a_call_is_made_again_twice_at_most() -> None:
    retries = _retries()
    lost = ServiceUnavailableError("gone")
    assert [retries.wait_s("tts", lost, attempt, None) for attempt in range(3)] == [0.0, 0.0, None]


def test_what_was_retried_below_is_not_retried_above_also_across_a_call() -> None:
    lost = ServiceUnavailableError("gone", retry_after_ms=1000)
    lost.retried_by = "gateway"
    assert _retries().wait_s("llm", lost, 0, None) is None
    told = status.RemoteError(status.to_status(lost))
    assert (told.reason, told.retried_by, told.retry_after_ms) == ("SERVICE_UNAVAILABLE", "gateway", 1000)
    assert _retries().wait_s("llm", told, 0, None) is None


def test_a_failure_that_is_passed_on_can_be_marked_and_keeps_all_else() -> None:
    found = status.to_status(ServiceUnavailableError("gone", retry_after_ms=70), trace_id="ab" * 16)
    marked = status.given_up(status.RemoteError(found), "gateway")
    assert (marked.retried_by, marked.reason, marked.message) == ("gateway", "SERVICE_UNAVAILABLE", "gone")
    assert marked.retry_after_ms == 70
    assert marked.status.code == code_pb2.UNAVAILABLE
    assert len(marked.status.details) == 2
    info = error_details_pb2.ErrorInfo()
    assert marked.status.details[0].Unpack(info)
    assert dict(info.metadata) == {"trace_id": "ab" * 16, "retried_by": "gateway"}
    assert not status.RemoteError(found).retried_by


def test_a_further_call_pays_nothing_in() -> None:
    retries = Retries(["tts"], ManualClock(), turns=0, percent=100)
    lost = ServiceUnavailableError("gone")
    while retries.wait_s("tts", lost, 0, None) is not None:
        pass
    for _ in range(100):
        retries.called("tts", attempt=1)
    assert retries.wait_s("tts", lost, 0, None) is None
    for _ in range(11):  # ten of them pay the reserve back
        retries.called("tts")
    assert retries.wait_s("tts", lost, 0, None) == 0.0


def test_an_attempt_is_told_in_metadata_and_nonsense_is_none() -> None:
    assert attempt_metadata(0) == ()
    assert attempt_of(attempt_metadata(2)) == 2
    assert attempt_of(None) == 0
    assert attempt_of([("other", "7")]) == 0
    for nonsense in ("", "-1", "1e9", "12345", "²", b"\x01"):
        assert attempt_of([(ATTEMPT_METADATA, nonsense)]) == 0
