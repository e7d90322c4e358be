import pytest

from gateway.access.caller import Limits
from gateway.admission import rates
from gateway.admission.rates import Rates

KEY = "acme", "key-1"
SECOND_NS = 1_000_000_000


def begin(own: Rates, limits: Limits, now_s: float, name: tuple[str, str] = KEY) -> str:
    """Begin a turn; return which limit forbids it."""
    now_ns = round(now_s * SECOND_NS)
    refusal = own.refusal(name, limits, now_ns)
    if refusal is not None:
        return refusal.limit
    own.begin(name, limits, now_ns)
    return ""


def test_a_minutes_worth_at_once_and_then_evenly() -> None:
    own, limits = Rates(), Limits(requests_per_min=60)
    assert [begin(own, limits, 0) for _ in range(61)] == [""] * 60 + ["requests"]
    assert begin(own, limits, 0.9) == "requests"
    assert begin(own, limits, 1.1) == ""


def test_it_says_when_to_come_again() -> None:
    own, limits = Rates(), Limits(requests_per_min=6)
    for _ in range(6):
        begin(own, limits, 0)

    refusal = own.refusal(KEY, limits, 4 * SECOND_NS)

    assert refusal is not None
    assert (refusal.most, refusal.wait_ms) == (6, 6000)


def test_a_text_longer_than_the_bucket_is_spoken_and_then_paid() -> None:
    own, limits = Rates(), Limits(characters_per_min=600)
    assert begin(own, limits, 0) == ""
    own.spend(KEY, 1200, 0)

    assert begin(own, limits, 59) == "characters"
    assert begin(own, limits, 61) == ""


def test_turns_at_once() -> None:
    own, limits = Rates(), Limits(turns=2)
    assert [begin(own, limits, 0) for _ in range(3)] == ["", "", "turns"]
    own.end(KEY)
    assert begin(own, limits, 0) == ""


def test_each_key_has_its_own() -> None:
    own, limits = Rates(), Limits(turns=1)
    assert begin(own, limits, 0) == ""
    assert begin(own, limits, 0, ("acme", "key-2")) == ""
    assert begin(own, limits, 0, ("other", "key-1")) == ""
    assert begin(own, limits, 0) == "turns"


def test_without_limits_nothing_is_remembered() -> None:
    own = Rates()
    begin(own, Limits(), 0)
    assert len(own) == 0


def test_new_limits_hold_at_once_and_turns_are_not_forgotten() -> None:
    own = Rates()
    begin(own, Limits(turns=5), 0)
    assert begin(own, Limits(turns=1), 0) == "turns"


def test_idle_keys_are_forgotten_and_busy_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST_KEYS", 3)
    own, limits = Rates(), Limits(turns=1)
    begin(own, limits, 0, ("busy", ""))
    for number in range(10):
        begin(own, limits, 0, (f"idle-{number}", ""))
        own.end((f"idle-{number}", ""))

    assert len(own) == 3
    assert begin(own, limits, 0, ("busy", "")) == "turns"
