"""Which rate is tried next, why one was too much, and what a row says."""

import pytest

from benchmarks.replicas import Kept, Steps, missed, row


def tried(first: float, limit: float) -> tuple[list[float], float | None]:
    steps, rates = Steps(first), []
    while (rate := steps.next) is not None:
        rates.append(rate)
        steps.tell(kept=rate <= limit)
    return rates, steps.kept


@pytest.mark.parametrize(("first", "limit"), [(4.0, 1.0), (4.0, 4.0), (4.0, 9.3), (10.0, 2.6)])
def test_rates_close_in_on_what_is_kept(first, limit):
    rates, kept = tried(first, limit)
    assert kept is not None
    assert limit / 1.4 < kept <= limit or kept > limit / 2
    assert len(rates) <= 8


def test_what_keeps_nothing_ends():
    rates, kept = tried(4.0, 0.0)
    assert kept is None
    assert rates == [4.0, 2.0, 1.0, 0.5, 0.25]


def result(ends: list[float], p95: float = 300.0, errors: int = 0) -> dict[str, object]:
    turns = [
        {"outcome": "completed", "run": {"due_s": at / 4, "ended_s": end}} for at, end in enumerate(ends)
    ]
    return {"summary": {"errors": errors, "ttfa_ms": {"p95": p95}}, "turns": turns}


def test_a_rate_is_kept_where_turns_end_as_they_come():
    even = [at / 4 + 6.0 for at in range(20)]  # each takes six seconds: that is no backlog
    assert missed(result(even), 800) == ""
    assert (
        missed(result([at / 2 for at in range(20)]), 800)
        == "turns ended at 50% of the rate at which they came"
    )
    assert missed(result(even, p95=900), 800) == "p95 of 900 ms"
    assert missed(result(even, errors=2), 800) == "2 turns failed"


def test_a_row_says_what_could_not_be_measured():
    columns = ("llm", "gateway")
    assert "not measured: time was up" in row(Kept("one", because="time was up"), columns)
    kept = row(Kept("one", 5.6, 310.0, {"llm": 9.0, "gateway": 30.0}, 34), columns)
    assert "at least" in kept
    assert kept.endswith("9.0      30.0")
