"""What the live page keeps: events, figures, audio, and what it says should be looked at."""

import random
import struct
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.local import is_local_name
from gateway.live.api import follow
from gateway.live.audio import KeptAudio, span_of, wav_header
from gateway.live.begun import Begun
from gateway.live.feed import Feed
from gateway.live.lately import Lately
from gateway.live.series import MOST_STACKS, PARTS, STEP_S, STEPS, Series, TurnFigures, evenly, rank, stack_at
from gateway.live.view import without_texts
from gateway.record import REFUSED, TurnBegun, TurnEnded
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.clock import ManualClock
from voicemesh.stages import STAGES

RATE_HZ = 22_050


def turn(ttfa_ms: float = 100.0, outcome: str = "completed", **more: float) -> TurnFigures:
    """Return a turn whose first audio was spent in the last two parts."""
    parts = [0.0] * (len(PARTS) - 2) + [ttfa_ms * 0.75, ttfa_ms * 0.25]
    return TurnFigures(outcome=outcome, parts=parts, total_ms=2 * ttfa_ms, **more)  # type: ignore[arg-type]


# ---------------------------------------------------------------- events


def test_events_are_numbered_and_told_once_they_are_wanted() -> None:
    feed = Feed("e", limit=3)
    told: list[int] = []

    def tell(number: int) -> dict[str, int]:
        told.append(number)
        return {"n": number}

    for number in range(3):
        feed.publish("turn", partial(tell, number))
    assert not told  # nobody has read
    events = feed.after(1)
    assert events is not None
    assert [event.encoded() for event in events] == [
        b'id: e-2\nevent: turn\ndata: {"n":1}\n\n',
        b'id: e-3\nevent: turn\ndata: {"n":2}\n\n',
    ]
    assert [event.encoded() for event in feed.after(1) or ()]
    assert told == [1, 2]  # put into words once, for all readers


def test_who_falls_behind_learns_of_it() -> None:
    feed = Feed("e", limit=3)
    for _ in range(4):
        feed.publish("turn", dict)
    assert feed.after(0) is None
    assert len(feed.after(1) or ()) == 3
    assert feed.after(4) == []


@pytest.mark.parametrize("text", ["", "4", "e-", "e-5", "f-1", "e-1x", "e--1", "e-²", "e-" + "9" * 40])
def test_an_id_of_no_event_here_is_known_as_such(text: str) -> None:
    feed = Feed("e")
    for _ in range(4):
        feed.publish("turn", dict)
    assert feed.number_of(text) is None
    assert feed.number_of("e-4") == 4


@pytest.mark.parametrize("text", ["line\nbreak", "\r\n\r\ndata: x", "\u2028", "</script>"])
def test_no_text_ends_an_event_early(text: str) -> None:
    feed = Feed("e")
    feed.publish("turn", lambda: {"text": text})
    (event,) = feed.after(0) or []
    assert event.encoded().count(b"\n") == 4
    assert b"\r" not in event.encoded()


async def test_a_slow_reader_begins_anew_and_goes_on() -> None:
    feed = Feed("e", limit=3)
    reader = follow(feed, "e-0", beat_s=60, pause_s=0)
    assert (await anext(reader)).startswith(b"retry: ")
    feed.publish("turn", dict)
    assert b"id: e-1\n" in await anext(reader)
    for _ in range(10):
        feed.publish("turn", dict)
    assert b"id: e-11\nevent: reset\n" in await anext(reader)
    feed.publish("turn", dict)
    assert b"id: e-12\nevent: turn\n" in await anext(reader)
    feed.close()
    assert [part async for part in reader] == []


async def test_a_quiet_stream_says_that_it_is_there() -> None:
    feed = Feed("e")
    reader = follow(feed, "e-0", beat_s=0.001, pause_s=0)
    await anext(reader)
    assert (await anext(reader)).startswith(b":")
    feed.close()


# ---------------------------------------------------------------- how turns began


def begins(turn_id: str, voice: str = "v") -> TurnBegun:
    return TurnBegun(
        tenant="t", turn_id=turn_id, session_id="", trace_id="", voice=voice, kind="text", began_unix_us=1
    )


def ends(turn_id: str, outcome: str = "completed") -> TurnEnded:
    return TurnEnded(
        tenant="t",
        turn_id=turn_id,
        sequence=1,
        began_unix_us=1,
        outcome=outcome,
        ttfa_us=0,
        total_us=0,
        trace_id="",
        message=b"",
    )


def test_how_turns_began_is_kept_of_those_that_run_and_of_those_with_a_report() -> None:
    begun = Begun(most_running=10_000, most_ended=3)
    for number in range(100):
        begun.begins(begins(f"{number}"))
        assert begun.ends(ends(f"{number}")) == begins(f"{number}")
    assert len(begun) == 3  # however many may run: none of these does any more
    assert begun.of(("t", "99")) == begins("99")
    assert begun.of(("t", "96")) is None


def test_more_turns_than_may_run_are_such_whose_end_was_lost() -> None:
    begun = Begun(most_running=2, most_ended=3)
    for number in range(5):
        begun.begins(begins(f"{number}"))
    assert len(begun) == 2
    assert begun.ends(ends("0")) is None
    assert begun.ends(ends("4")) == begins("4")


def test_a_refusal_under_the_id_of_a_turn_that_runs_does_not_end_it() -> None:
    begun = Begun(most_running=2, most_ended=3)
    begun.begins(begins("a"))
    assert begun.ends(ends("a", REFUSED)) is None
    assert begun.ends(ends("a")) == begins("a")


def test_an_id_that_comes_again_is_the_last_one_to_be_forgotten() -> None:
    begun = Begun(most_running=2, most_ended=2)
    for turn_id, voice in (("a", "v"), ("b", "v"), ("a", "w"), ("c", "v")):
        begun.begins(begins(turn_id, voice))
        begun.ends(ends(turn_id))
    assert begun.of(("t", "a")) == begins("a", "w")
    assert begun.of(("t", "b")) is None


# ---------------------------------------------------------------- figures


def test_what_many_ask_for_is_worked_out_once_while_it_is_fresh() -> None:
    clock, made = ManualClock(), []
    lately: Lately[int] = Lately(clock, 0.5)

    def make() -> int:
        made.append(0)
        return len(made)

    assert [lately.get("a", make) for _ in range(5)] == [1] * 5
    assert lately.get("b", make) == 2
    clock.advance_ms(500)
    assert lately.get("a", make) == 3


def stacks_of(values: list[float]) -> list[tuple[float, list[float]]]:
    return sorted((sum(turn(ms).parts), list(turn(ms).parts)) for ms in values)


def test_a_stack_adds_up_to_a_time_to_first_audio_that_there_was() -> None:
    stacks = stacks_of([400.0, 100.0, 200.0, 300.0])
    assert sum(stack_at(stacks, 0.5)) == pytest.approx(200)
    assert sum(stack_at(stacks, 0.95)) == pytest.approx(400)
    assert stack_at([], 0.5) == []


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_stack_lies_among_the_turns_around_its_rank(values: list[float], share: float) -> None:
    ordered, width = sorted(values), len(values) // 20
    place = ordered.index(rank(ordered, share) or 0.0)
    total = sum(stack_at(stacks_of(values), share))
    last = ordered[min(len(ordered) - 1, place + ordered.count(ordered[place]) - 1 + width)]
    assert ordered[max(0, place - width)] - 1e-3 <= total <= last + 1e-3


def test_a_burst_counts_in_percentiles_for_as_many_turns_as_it_had() -> None:
    clock = ManualClock(10_000 * 10**9)
    series = Series(clock, random.Random(1))
    for _ in range(40):  # quiet: all of them are kept
        series.add(turn(100.0))
    clock.advance_ms(STEP_S * 1000)
    for _ in range(1_000):  # busy: 64 of them are
        series.add(turn(900.0))
    summary = series.summary(600)
    assert summary.ttfa_ms(0.5) == pytest.approx(900)
    assert summary.total_ms(0.05) == pytest.approx(1_800)
    assert summary.ttfa_ms(0.03) == pytest.approx(100)


def test_an_hour_of_load_is_told_from_a_bounded_choice() -> None:
    clock = ManualClock(100_000 * 10**9)
    series = Series(clock, random.Random(1))
    for number in range(STEPS):
        for _ in range(70):
            series.add(turn(float(number + 1)))
        clock.advance_ms(STEP_S * 1000)
    summary = series.summary(3600)
    assert len(summary.stacks) <= MOST_STACKS
    assert len(summary.totals) <= MOST_STACKS
    assert summary.ttfa_ms(0.5) == pytest.approx(STEPS / 2, rel=0.02)


@given(
    st.lists(st.tuples(st.integers(1, 64), st.integers(0, 500)), max_size=40),
    st.integers(1, 300),
)
def test_a_choice_has_of_each_set_its_share(sets: list[tuple[int, int]], most: int) -> None:
    given_sets = [([number] * kept, kept + more) for number, (kept, more) in enumerate(sets)]
    whole = sum(seen for _, seen in given_sets)
    found = evenly(given_sets, most)
    assert len(found) == min(most, whole)
    for number, (_, seen) in enumerate(given_sets):
        assert abs(found.count(number) - seen * len(found) / whole) <= 1


def test_only_completed_turns_have_the_time_of_a_whole_turn() -> None:
    series = Series(ManualClock(), random.Random(1))
    series.add(turn(100.0))
    series.add(turn(1.0, outcome="failed"))
    series.add(turn(1.0, outcome="interrupted"))
    assert series.summary(600).totals == [200.0]


def test_the_names_of_the_parts_are_those_of_the_stages() -> None:
    assert (*(stage.value for stage in STAGES), "unattributed") == PARTS


def test_turns_fall_into_the_step_of_their_end_and_out_of_the_ring() -> None:
    clock = ManualClock(10_000 * 10**9)
    series = Series(clock, random.Random(1))
    series.add(turn(100))
    clock.advance_ms(STEP_S * 1000)
    series.add(turn(300, outcome="failed"))
    points = series.points(600, STEP_S)
    assert len(points) == 60
    assert [point["turns"] for point in points[-2:]] == [1, 1]
    assert sum(points[-2]["p50"]) == pytest.approx(100)
    assert points[-1]["failed"] == 1
    assert sum(point["turns"] for point in series.points(3600, 60)) == 2
    assert series.summary(STEP_S).counts.turns == 1
    assert series.summary(600).ttfa_ms(0.95) == pytest.approx(300)
    clock.advance_ms(STEPS * STEP_S * 1000)
    assert series.summary(3600).counts.turns == 0
    assert sum(point["turns"] for point in series.points(3600, 60)) == 0


@given(st.integers(0, 5_000), st.integers(1, 400), st.sampled_from([(600, 10), (3600, 60)]))
def test_every_turn_of_the_window_is_in_one_column(
    start_s: int, after_s: int, window: tuple[int, int]
) -> None:
    clock = ManualClock((100_000 + start_s) * 10**9)
    series = Series(clock, random.Random(1))
    series.add(turn())
    clock.advance_ms(after_s * 1000)
    series.add(turn())
    points = series.points(*window)
    assert sum(point["turns"] for point in points) == 2
    ages = [point["age_s"] for point in points]
    assert ages == sorted(ages, reverse=True)
    assert 0 <= ages[-1] <= window[1]


def test_many_turns_take_bounded_memory_and_are_all_counted() -> None:
    series = Series(ManualClock(), random.Random(1))
    for number in range(5_000):
        series.add(turn(float(number)))
    summary = series.summary(600)
    assert summary.counts.turns == 5_000
    assert len({parts[-1] for _, parts in summary.stacks}) == 64
    # A fair choice: the middle of those that are kept is near the middle of all.
    assert 1_500 < (summary.ttfa_ms(0.5) or 0) < 3_500


# ---------------------------------------------------------------- audio


class Listener:
    """Who a turn is spoken to."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, event: str, message: object, on_sent: object = None) -> None:
        self.sent.append(event)

    def drop(self) -> None:
        self.sent.append("drop")

    async def room(self) -> None:
        pass

    def full(self) -> bool:
        return False

    async def eased(self) -> None:
        pass


def spoken(kept: KeptAudio, turn_id: str, audio: bytes, tenant: str = "") -> None:
    caller = kept.listen(Listener(), tenant, turn_id, RATE_HZ)
    for first in range(0, len(audio), 10):
        caller.send("frame", common_pb2.Frame(audio=audio[first : first + 10]))
    kept.ended(tenant, turn_id)


def test_audio_is_kept_by_tenant_and_the_caller_hears_all_of_it() -> None:
    kept = KeptAudio(ManualClock(), 1_000, 60)
    listener = Listener()
    caller = kept.listen(listener, "a", "t", RATE_HZ)
    caller.send("frame", common_pb2.Frame(audio=b"\1\2"))
    assert kept.find("a", "t") is None  # it is being spoken still
    caller.drop()
    caller.send("turn_completed", common_pb2.Frame())
    kept.ended("a", "t")
    assert listener.sent == ["frame", "drop", "turn_completed"]
    found = kept.find("a", "t")
    assert found is not None
    assert found.samples() == b"\1\2"
    assert kept.find("b", "t") is None


def test_audio_is_bounded_by_bytes_and_the_oldest_goes_first() -> None:
    kept = KeptAudio(ManualClock(), 400, 60)
    for number in range(20):
        spoken(kept, f"t{number}", bytes([number]) * 100)
        assert kept.size <= 400
    assert [number for number in range(20) if kept.find("", f"t{number}")] == [16, 17, 18, 19]
    spoken(kept, "long", b"x" * 1_000)
    long = kept.find("", "long")
    assert long is not None
    assert (len(long.samples()), long.cut) == (100, True)


def test_audio_is_bounded_by_age_and_an_id_that_comes_again_counts_anew() -> None:
    clock = ManualClock()
    kept = KeptAudio(clock, 1_000, 60)
    spoken(kept, "t", b"a" * 50)
    spoken(kept, "t", b"b" * 20)
    assert kept.size == 20
    clock.advance_ms(59_000)
    assert kept.find("", "t")
    clock.advance_ms(2_000)
    assert kept.find("", "t") is None
    assert kept.size == 0
    spoken(kept, "silent", b"")
    assert kept.find("", "silent") is None


def test_nothing_is_kept_where_nothing_may_be() -> None:
    kept, listener = KeptAudio(ManualClock(), 0, 60), Listener()
    assert kept.listen(listener, "", "t", RATE_HZ) is listener


@given(st.text(max_size=30), st.integers(45, 10_000))
def test_no_range_reaches_beyond_the_file(header: str, size: int) -> None:
    try:
        span = span_of(f"bytes={header}", size)
    except ValueError:
        return
    if span is not None:
        assert 0 <= span[0] < span[1] <= size


def test_an_empty_suffix_is_behind_the_end() -> None:
    with pytest.raises(ValueError, match="there are 100"):
        span_of("bytes=-0", 100)


def test_the_header_has_the_sizes() -> None:
    header = wav_header(RATE_HZ, 882)
    assert len(header) == 44
    assert struct.unpack("<I", header[4:8]) == (36 + 882,)
    assert struct.unpack("<I", header[40:]) == (882,)


# ---------------------------------------------------------------- who may look


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True), ("localhost:8080", True), ("LOCALHOST.", True), ("127.0.0.1:80", True),
        ("127.8.9.1", True), ("[::1]:8080", True), ("[::ffff:127.0.0.1]", True), ("", False), (":80", False),
        ("example.org", False), ("localhost.example.org", False), ("127.0.0.1.example.org", False),
        ("192.168.1.2", False), ("[fe80::1]", False), ("0.0.0.0", False), ("localhost:8080:1", False),
        ("user@localhost", False), ("::1", False), ("localhost:", False), ("2130706433", False),
    ],
)  # fmt: skip
def test_only_names_of_this_machine_are_local(host: str, local: bool) -> None:
    assert is_local_name(host) is local


def test_texts_are_left_out_at_any_depth() -> None:
    told = {"text": "a", "turn_id": "t", "chunks": [{"text": "b", "more": {"prompt": "c", "n": 1}}]}
    assert without_texts(told) == {
        "text": None, "turn_id": "t", "chunks": [{"text": None, "more": {"prompt": None, "n": 1}}],
    }  # fmt: skip
