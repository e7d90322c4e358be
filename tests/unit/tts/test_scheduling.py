"""Who takes which step with whom, and when: in virtual time, on an engine whose costs are written down.

`Scripted` looks at every decision of every test: no deadline inversion, never idle with anything to run
but for a wait that is allowed, batches of equal steps within their limits.
"""

import itertools
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from services.tts.engines.base import Step
from services.tts.scheduling import WAIT_NS, Batch, Pause, Scheduler
from tests.unit.tts.scripted_steps import DECODE, MS, TEXT, S, Scripted, Stream
from voicemesh.fairness import EQUAL_NS

FIRST = Step("decode", 80)


def speech(windows: int = 3) -> tuple[Step, ...]:
    return (TEXT, *([DECODE] * windows))


# ---- order ----------------------------------------------------------------------------------------


def test_first_windows_run_before_those_that_have_time():
    long = [Stream(f"long {n}", steps=speech(40)) for n in range(6)]
    late = [Stream(f"new {n}", arrives_ns=(400 + 37 * n) * MS, steps=speech(2)) for n in range(8)]
    world = Scripted([*long, *late]).run()
    for stream in late:
        assert stream.first_ns is not None
        # The batch that runs, a batch of its text, its first window, and one of another new one.
        assert stream.first_ns - stream.arrives_ns <= 4 * 12 * MS
    assert not any(stream.underrun_ns for stream in world.streams)


def test_the_one_that_runs_dry_first_is_first():
    streams = [Stream(f"{n}", in_hand_ns=(200 - 10 * n) * MS, steps=(DECODE,)) for n in range(12)]
    world = Scripted(streams, limit=1).run()
    order = sorted(world.streams, key=lambda stream: stream.ran_ns)
    assert [stream.in_hand_ns for stream in order] == sorted(stream.in_hand_ns for stream in streams)


def test_a_first_window_that_has_time_lets_one_go_first_that_is_about_to_run_dry():
    scheduler = Scheduler(lambda _step: 1)
    dry = scheduler.add("a", DECODE, 0, 0)
    batch = scheduler.next(0)
    assert isinstance(batch, Batch)
    scheduler.ran(batch, 0, MS)
    scheduler.made_audio(dry, 1500 * MS)
    scheduler.ready(dry, DECODE, MS)
    first = scheduler.add("b", DECODE, MS, 5 * S)
    assert chosen(scheduler, MS) == [first]
    scheduler.drop(first, MS)
    first = scheduler.add("b", DECODE, MS, 5 * S)
    assert chosen(scheduler, 1300 * MS) == [dry]


def chosen(scheduler: Scheduler, now_ns: int) -> list[object]:
    batch = scheduler.next(now_ns)
    assert isinstance(batch, Batch)
    return list(batch.works)


# ---- batches --------------------------------------------------------------------------------------


def test_equal_steps_run_together_up_to_the_limit_and_others_do_not():
    streams = [Stream(f"{n}", steps=(TEXT, DECODE)) for n in range(11)]
    world = Scripted(streams, limit=4).run()
    sizes = [(batch.step.stage, len(batch.works)) for _, batch in world.batches]
    assert sorted(sizes) == sorted(
        [("text", 4), ("text", 4), ("text", 3)] + [("decode", 4)] * 2 + [("decode", 3)]
    )


def test_sizes_are_powers_of_two_and_the_limit():
    scheduler = Scheduler(lambda step: step.size)
    assert scheduler.buckets(Step("x", 12)) == [1, 2, 4, 8, 12]
    assert scheduler.buckets(Step("x", 8)) == [1, 2, 4, 8]
    assert scheduler.buckets(Step("x", 1)) == [1]
    assert [scheduler.bucket(Step("x", 12), count) for count in (1, 2, 3, 5, 9, 12)] == [1, 2, 4, 8, 12, 12]


def test_a_leader_in_a_hurry_takes_along_only_what_costs_it_nothing_or_is_in_a_hurry_too():
    def cost(_step: Step, size: int) -> int:
        return 10 * size * MS

    ahead = [Stream(f"ahead {n}", in_hand_ns=8 * S, steps=(DECODE,) * 30) for n in range(7)]
    hurry = Stream("hurry", arrives_ns=2 * S, steps=(DECODE,))
    world = Scripted([*ahead, hurry], limit=8, cost=cost).run()
    mine = next(batch for _, batch in world.batches if hurry.work in batch.works)
    assert len(mine.works) == 1
    crowd = [Stream(f"hurry {n}", arrives_ns=2 * S, steps=(DECODE,)) for n in range(6)]
    world = Scripted([*fresh(ahead), *crowd], limit=8, cost=cost).run()
    mine = next(batch for _, batch in world.batches if crowd[0].work in batch.works)
    assert {stream.work for stream in crowd} <= set(mine.works)


def test_what_has_time_keeps_the_engine_for_20_ms_at_most_once_that_is_known():
    streams = [Stream(f"{n}", in_hand_ns=9 * S, steps=(DECODE,) * 40) for n in range(16)]
    world = Scripted(streams, limit=16, cost=lambda _step, size: 4 * size * MS).run()
    sizes = [batch.size for _, batch in world.batches]
    assert sizes[0] == 16
    assert set(sizes[1:]) <= {8, 4, 2, 1}
    assert max(4 * size for size in sizes[2:]) <= 20


# ---- waiting --------------------------------------------------------------------------------------


def test_with_a_limit_of_one_nothing_ever_waits():
    streams = [Stream(f"{n}", arrives_ns=n * MS, in_hand_ns=5 * S) for n in range(40)]
    world = Scripted(streams, limit=1, cost=lambda _step, _size: MS // 10).run()
    assert not world.pauses


def test_arrivals_in_a_rhythm_are_waited_for_and_for_2_ms_at_most():
    streams = [Stream(f"{n}", arrives_ns=n * MS, in_hand_ns=5 * S, steps=(TEXT,)) for n in range(200)]
    world = Scripted(streams, cost=lambda _step, _size: MS // 10).run()
    assert world.pauses
    assert max(len(batch.works) for _, batch in world.batches) >= 2
    assert all(stream.ran_ns[0] - stream.arrives_ns <= WAIT_NS + MS for stream in streams)
    seldom = [replace(stream, arrives_ns=20 * stream.arrives_ns) for stream in fresh(streams)]
    assert not Scripted(seldom, cost=lambda _step, _size: MS // 10).run().pauses


def fresh(streams: list[Stream]) -> list[Stream]:
    return [Stream(s.caller, s.arrives_ns, s.in_hand_ns, s.steps, s.audio_ns, s.cancel_ns) for s in streams]


def test_nobody_waits_whose_listener_has_nothing_in_hand():
    streams = [Stream(f"{n}", arrives_ns=n * MS, steps=(TEXT,)) for n in range(200)]
    assert not Scripted(streams, cost=lambda _step, _size: MS // 10).run().pauses


def test_partners_in_the_step_before_catch_up_first():
    """Two that have time, one step apart, go on together."""

    def cost(_step: Step, _size: int) -> int:
        return MS

    warm = [Stream("warm", steps=speech(4)), Stream("warm", steps=speech(4))]
    pair = [
        Stream("a", arrives_ns=S, in_hand_ns=5 * S, steps=speech(6)),
        Stream("b", arrives_ns=S + MS // 2, in_hand_ns=5 * S, steps=speech(6)),
    ]
    world = Scripted([*warm, *pair], limit=2, cost=cost).run()
    together = [len(batch.works) for at, batch in world.batches if at >= S and batch.step == DECODE]
    assert together == [2] * 6


# ---- fairness -------------------------------------------------------------------------------------


def test_a_thousand_texts_of_one_caller_do_not_keep_another_waiting():
    many = [Stream("many", steps=(DECODE,)) for _ in range(1000)]
    few = [Stream("few", arrives_ns=500 * MS, steps=(DECODE,)) for _ in range(4)]
    world = Scripted([*many, *few], limit=1, cost=lambda _step, _size: 5 * MS).run()
    for stream in few:
        assert stream.ended_ns is not None
        # Its share is a half; it needs four steps of 5 ms.
        assert stream.ended_ns - stream.arrives_ns <= 2 * 4 * 5 * MS + 2 * EQUAL_NS
    assert world.idle_ns == 0


def test_a_batch_without_listeners_is_shared_with_another():
    many = [Stream("many", in_hand_ns=60 * S, steps=(DECODE,)) for _ in range(400)]
    few = [Stream("few", arrives_ns=300 * MS, in_hand_ns=60 * S, steps=(DECODE,)) for _ in range(10)]
    Scripted([*many, *few], limit=1, cost=lambda _step, _size: 5 * MS).run()
    last = max(stream.ended_ns or 0 for stream in few)
    assert last - 300 * MS <= 2 * 10 * 5 * MS + 2 * EQUAL_NS


def test_one_long_text_leaves_the_engine_to_others():
    long = Stream("long", steps=speech(2000))
    others = [Stream(f"{n}", arrives_ns=n * 500 * MS, steps=speech(3)) for n in range(20)]
    Scripted([long, *others], limit=1, cost=lambda _step, _size: 20 * MS).run()
    assert max((s.first_ns or 0) - s.arrives_ns for s in others) <= 4 * 20 * MS
    assert long.underrun_ns == 0


def test_nobody_starves_where_new_callers_never_stop_coming():
    """One that is ahead waits for at most (ahead + 10 ms) for each caller that wants it, and a batch."""
    step_ns = 5 * MS
    greedy = [Stream("greedy", steps=(DECODE,) * 20, audio_ns=MS) for _ in range(10)]
    flood = [Stream(f"new {n}", arrives_ns=n * 6 * MS, steps=(DECODE,)) for n in range(2000)]
    world = Scripted([*greedy, *flood], limit=1, cost=lambda _step, _size: step_ns).run()
    runs = sorted(at for stream in greedy for at in stream.ran_ns)
    gaps = [later - before for before, later in itertools.pairwise(runs)]
    # While the flood lasts: each step of the greedy one puts it 5 ms ahead, less what all have.
    wanting = max(
        sum(s.arrives_ns <= at < (s.ended_ns or 0) for s in world.streams if s.caller != "greedy") + 1
        for at in runs[:: max(1, len(runs) // 20)]
    )
    assert max(gaps) <= (step_ns + EQUAL_NS) * wanting + step_ns
    assert runs[-1] < flood[-1].arrives_ns


# ---- memory ---------------------------------------------------------------------------------------


def test_a_batch_that_does_not_fit_comes_in_halves_and_never_as_large_again():
    streams = [Stream(f"{n}") for n in range(16)]
    world = Scripted(streams, limit=8, memory=3).run()
    assert not any(stream.failed for stream in streams)
    assert max(batch.size for _, batch in world.batches) == 2
    assert world.scheduler.limit(DECODE) == 2
    assert world.scheduler.limit(TEXT) == 2
    assert 2 <= world.scheduler.figures().lowered <= 4  # from 8 or 4, for each of two steps


def test_what_does_not_fit_alone_fails_alone():
    huge = Step("text", 1024)
    scheduler = Scheduler(lambda _step: 2)
    works = [scheduler.add("a", huge, 0, 0) for _ in range(2)]
    batch = scheduler.next(0)
    assert isinstance(batch, Batch)
    assert scheduler.did_not_fit(batch, 0) is None
    batch = scheduler.next(0)
    assert isinstance(batch, Batch)
    assert scheduler.did_not_fit(batch, 0) is works[0]
    assert scheduler.limit(TEXT) == 2


# ---- figures --------------------------------------------------------------------------------------


def test_figures_add_up():
    streams = [Stream(f"{n}", arrives_ns=n * 7 * MS, steps=speech(4)) for n in range(30)]
    world = Scripted(streams).run()
    figures = world.scheduler.figures()
    assert figures.busy_ns == world.now_ns - world.idle_ns
    assert figures.batches == len(world.batches) == sum(count for _, count in figures.sizes)
    assert figures.steps == 30 * 5
    works = [stream.work for stream in streams if stream.work is not None]
    assert abs(sum(work.engine_ns for work in works) - figures.busy_ns) <= figures.batches * 8
    assert figures.queued_ns == sum(work.queued_ns for work in works)


# ---- anything -------------------------------------------------------------------------------------

STREAMS = st.builds(
    Stream,
    caller=st.sampled_from("abcd"),
    arrives_ns=st.integers(0, 400).map(lambda n: n * MS // 2),
    in_hand_ns=st.sampled_from([0, 0, 50 * MS, 300 * MS, 3 * S, 60 * S]),
    steps=st.integers(1, 6).map(lambda n: (TEXT, FIRST, *[DECODE] * (n - 1))),
    audio_ns=st.sampled_from([20 * MS, 300 * MS, 4 * S]),
    cancel_ns=st.one_of(st.none(), st.integers(0, 600).map(lambda n: n * MS)),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(STREAMS, min_size=1, max_size=24),
    st.sampled_from([1, 2, 3, 8]),
    st.lists(st.integers(1, 40), min_size=3, max_size=3),
    st.sampled_from([1, 2, 5, 1024]),
)
def test_whatever_comes_everything_ends_in_order(streams, limit, costs, memory):
    def cost(step: Step, size: int) -> int:
        each = costs[(TEXT, FIRST, DECODE).index(step)] * MS // 10
        return int(each * (8 + size) // 9)

    world = Scripted(streams, limit, cost, memory).run()
    for stream in streams:
        if stream.cancel_ns is None:
            assert stream.at == len(stream.steps)
        assert not stream.failed
    figures = world.scheduler.figures()
    assert figures.busy_ns == sum(cost(batch.step, batch.size) for _, batch in world.batches)
    assert isinstance(world.scheduler.next(world.now_ns), Pause | None)
