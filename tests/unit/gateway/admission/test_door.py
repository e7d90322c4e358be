"""The door by itself: priorities, limits of keys, what is given up, and that every place comes back."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.caller import Caller, Priority
from gateway.admission.brownout import Step
from gateway.admission.door import Door, Place
from gateway.admission.limit import AdaptiveLimit
from gateway.admission.probe import Probe
from gateway.admission.rules import Rules
from gateway.core import actions as do
from gateway.core import events as on
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.errors import (
    MeshError,
    OverloadedError,
    QueueFullError,
    RateLimitedError,
    TooManyTurnsError,
)

ALL = (Step.LONGER_CHUNKS, Step.CHEAPER_VOICE, Step.CACHED_ONLY)


class Doorway:
    """A door whose limit stands still, and its clock."""

    def __init__(
        self, turns: int = 10, most: int = 100, steps: Sequence[Step] = (), rules: Any = None
    ) -> None:
        self.clock = ManualClock(10**12)
        limit = AdaptiveLimit(least=turns, start=turns, most=turns, target_ms=100)
        self.door = Door(
            self.clock,
            limit,
            most=most,
            rules=Rules.model_validate(rules or {}),
            steps=steps,
            chance=random.Random(1),
        )

    def fill(self, count: int, tenant: str = "", priority: Priority = Priority.NORMAL) -> list[Place]:
        return [self.door.admit(Caller(tenant), priority) for _ in range(count)]

    def refusal(
        self, tenant: str = "", priority: Priority = Priority.NORMAL, *, draft: bool = False
    ) -> MeshError:
        with pytest.raises(MeshError) as raised:
            self.door.admit(Caller(tenant), priority, draft=draft)
        return raised.value


def test_one_more_than_the_mesh_can_take() -> None:
    own = Doorway(turns=10)
    places = own.fill(10)

    error = own.refusal()
    assert isinstance(error, OverloadedError)
    assert error.limit == "capacity"
    assert "about 10 turns" in error.message

    places[0].release()
    own.fill(1)


def test_a_tenant_that_is_alone_is_told_of_no_others() -> None:
    own = Doorway(turns=10)
    own.fill(10)
    own.refusal()
    own.clock.advance_ms(100)  # what was refused counts as wanted now

    error = own.refusal()
    assert isinstance(error, OverloadedError)
    assert error.limit == "capacity"

    own.fill(1, "other")  # has less than its share
    own.clock.advance_ms(100)
    error = own.refusal()
    assert isinstance(error, OverloadedError)
    assert error.limit == "share"


def test_one_more_than_this_gateway_has_places() -> None:
    own = Doorway(turns=10, most=3)
    own.fill(3, priority=Priority.HIGH)

    error = own.refusal(priority=Priority.HIGH)
    assert isinstance(error, TooManyTurnsError)
    assert error.message == "all 3 places for turns are taken"


def test_low_priority_has_half_and_a_draft_three_quarters() -> None:
    own = Doorway(turns=20)
    own.fill(10, priority=Priority.LOW)
    assert own.refusal(priority=Priority.LOW).reason == "OVERLOADED"

    own.fill(5)
    assert own.refusal(draft=True).reason == "OVERLOADED"
    own.fill(5)


def test_one_turn_of_low_priority_always_may() -> None:
    Doorway(turns=1).fill(1, priority=Priority.LOW)


def test_a_tenth_is_kept_for_high_priority_while_it_comes() -> None:
    own = Doorway(turns=20)
    own.fill(1, priority=Priority.HIGH)
    own.fill(17)
    assert own.refusal().reason == "OVERLOADED"
    own.fill(2, priority=Priority.HIGH)

    own = Doorway(turns=20)
    own.fill(1, priority=Priority.HIGH)
    own.clock.advance_ms(61_000)
    own.fill(19)


def test_nobody_gets_a_higher_priority_than_the_callers() -> None:
    own = Doorway(turns=20, rules={"tenants": {"acme": {"priority": "low"}}})

    assert own.door.admit(Caller("acme"), Priority.HIGH).priority is Priority.LOW
    assert own.door.admit(Caller(priority=Priority.NORMAL), Priority.HIGH).priority is Priority.NORMAL
    assert own.door.admit(Caller(), Priority.LOW).priority is Priority.LOW


def test_limits_of_a_key_go_first_and_cost_no_place() -> None:
    own = Doorway(turns=20, rules={"default": {"requests_per_min": 2}})
    own.fill(2)

    error = own.refusal()
    assert isinstance(error, RateLimitedError)
    assert (error.limit, len(own.door)) == ("requests", 2)
    assert error.message.startswith("this tenant may begin 2 turns a minute")
    assert error.retry_after_ms is not None
    assert 30_000 <= error.retry_after_ms <= 45_000

    own.clock.advance_ms(error.retry_after_ms)
    own.fill(1)


def test_a_refused_turn_takes_nothing_of_its_key() -> None:
    own = Doorway(turns=1, rules={"default": {"requests_per_min": 2}})
    (place,) = own.fill(1)
    for _ in range(10):
        assert own.refusal().reason == "OVERLOADED"
    place.release()

    own.fill(1)


def test_those_who_are_refused_together_do_not_come_together() -> None:
    own = Doorway(turns=1)
    own.fill(1)
    waits = [own.refusal().retry_after_ms for _ in range(50)]

    assert len(set(waits)) > 25
    assert all(wait is not None and 500 <= wait <= 15_000 for wait in waits)


def test_the_more_are_refused_the_later_they_are_to_come() -> None:
    own = Doorway(turns=1)
    own.fill(1)
    few = own.refusal().retry_after_ms
    many = [own.refusal().retry_after_ms for _ in range(200)][-1]

    assert few is not None
    assert many is not None
    assert many > 3 * few


def test_what_would_be_refused_is_looked_up_where_that_is_a_step() -> None:
    own = Doorway(turns=20, steps=ALL)
    places = own.fill(20)
    for _ in range(30):
        own.clock.advance_ms(100)
        places.pop(0).release()
        places += own.fill(1)
    assert own.door.brownout.steps == ALL

    place = own.door.admit(Caller(), Priority.NORMAL)
    assert place.cached_only
    assert own.door.running == pytest.approx(20.1)
    # Who matters most is not put off with what is cached, nor is who can wait.
    assert own.refusal(priority=Priority.LOW).reason == "OVERLOADED"
    assert own.refusal(draft=True).reason == "OVERLOADED"


def test_a_place_is_given_back_once() -> None:
    own = Doorway()
    (place,) = own.fill(1)
    place.release()
    place.release()
    place.weigh(1.0)

    assert (len(own.door), own.door.running) == (0, 0)


def test_a_place_that_no_turn_took_comes_back() -> None:
    own = Doorway()

    class WrongError(Exception):
        pass

    def fail() -> None:
        with own.door.admit(Caller()) as place:
            place.keep()
            raise WrongError

    with pytest.raises(WrongError):
        fail()
    with own.door.admit(Caller()):
        pass
    assert len(own.door) == 0

    with own.door.admit(Caller()) as place:
        place.keep()
    assert len(own.door) == 1


EVENTS: dict[str, on.Event | do.StartLlm | do.Synthesize] = {
    "asks the model": do.StartLlm(()),
    "found": on.AudioFound(0, b"", (), "memory", 0),
    "followed": on.AudioFollowing(0, b"", ()),
    "asks for 0": do.Synthesize(0, "text", 0),
    "asks for 1": do.Synthesize(1, "text", 500),
    "begun 0": on.FrameMade(0, 0, b"", 1000, 1000, first=True),
    "begun 1": on.FrameMade(1, 0, b"", 1000, 1000, first=True),
    "more": on.FrameMade(1, 10, b""),
    "lost": on.ChunkUnspeakable(0, "lost"),
    "full": on.ChunkUnspeakable(1, "full", QueueFullError("full")),
    "broken": on.SpeechFailed(),
}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "a", "b"]),
            st.sampled_from(list(Priority)),
            st.booleans(),
            st.lists(st.sampled_from(sorted(EVENTS)), max_size=8),
            st.integers(0, 400),
        ),
        max_size=40,
    )
)
def test_every_place_comes_back_however_turns_go(
    turns: list[tuple[str, Priority, bool, list[str], int]],
) -> None:
    own = Doorway(turns=8, steps=ALL, rules={"default": {"turns": 6}})
    running: list[Probe] = []
    for tenant, priority, draft, events, then_ms in turns:
        try:
            place = own.door.admit(Caller(tenant), priority, draft=draft)
        except MeshError:
            pass
        else:
            place.keep()
            probe = Probe(own.door, place, "voice", own.clock)
            running.append(probe)
            for name in events:
                event = EVENTS[name]
                if isinstance(event, (do.StartLlm, do.Synthesize)):
                    probe.act(event)
                else:
                    probe.take(event)
        own.clock.advance_ms(then_ms)
        assert own.door.running <= 8 * 1.5 + 1
        if then_ms > 200 and running:
            running.pop(then_ms % len(running)).end()
    for probe in running:
        probe.end()
        probe.end()

    assert len(own.door) == 0
    assert own.door.running == pytest.approx(0)
    assert len(own.door.waiting) == 0
    for tenant in ("", "a", "b"):
        own.fill(1, tenant)[0].release()


def test_a_turn_from_the_cache_counts_a_tenth_until_it_asks_an_engine() -> None:
    own = Doorway()
    (place,) = own.fill(1)
    probe = Probe(own.door, place, "voice", own.clock)

    probe.take(on.AudioFound(0, b"", (), "memory", 0))
    assert own.door.running == pytest.approx(0.1)
    probe.act(do.Synthesize(1, "text", 0))
    assert own.door.running == pytest.approx(1)


def test_a_turn_whose_model_writes_counts_whole_though_its_opener_was_cached() -> None:
    own = Doorway()
    (place,) = own.fill(1)
    probe = Probe(own.door, place, "voice", own.clock)
    probe.act(do.StartLlm(()))

    probe.take(on.AudioFound(0, b"", (), "memory", 0))

    assert own.door.running == 1
