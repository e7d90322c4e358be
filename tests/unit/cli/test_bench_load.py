"""The load tool in virtual time: schedules, what closed and open loops see of a stall, bounds, warm-up."""

import asyncio
import itertools
import statistics
from collections import Counter
from dataclasses import replace

import pytest

from tests.support.virtual_time import LoopClock, run_virtual
from voicemesh.cli.bench import AHEAD_S as AHEAD
from voicemesh.cli.bench import Ask, Bench, BenchRun
from voicemesh.cli.bench_options import BenchOptions, Job, due_ns, jobs, warmup_jobs
from voicemesh.cli.stats import percentile
from voicemesh.client import Frame, SpeechOptions, TurnReport
from voicemesh.client.observer import Observer
from voicemesh.client.report import as_observed

CLOCK = LoopClock()
OPTIONS = BenchOptions(
    addr="host:1",
    turns=100,
    concurrency=1,
    rate_per_s=None,
    prompts=("one", "two", "three"),
    seed=1,
    speech=SpeechOptions(),
    reply_cache=True,
    limit_s=None,
)
SERVICE_S = 0.010


class Server:
    """Answers after 10 ms, one after the other in no order; stands still between two moments of the run."""

    def __init__(self, stall_s: tuple[float, float] = (0.0, 0.0)) -> None:
        self.began_s = CLOCK.now_ns() / 1e9
        self.stall_s = stall_s
        self.asked: list[Job] = []

    async def ask(self, job: Job, begun) -> TurnReport:
        """A caller: waits until the turn is due, and observes it as every caller does."""
        if job.due_ns is not None:
            await asyncio.sleep(max(job.due_ns - CLOCK.now_ns(), 0) / 1e9)
        begun()
        self.asked.append(job)
        observer = Observer(CLOCK.now_ns, prompt=job.prompt)
        observer.begin(job.due_ns)
        await asyncio.sleep(SERVICE_S)
        first_s, last_s = self.stall_s
        now_s = CLOCK.now_ns() / 1e9 - self.began_s
        if first_s <= now_s < last_s:
            await asyncio.sleep(last_s - now_s)
        observer.event(Frame("t", 0, 0, 0, 0, b"", samples=1))
        return as_observed(TurnReport(turn_id="t", outcome="completed"), observer.seen())


def run(options: BenchOptions, stall_s: tuple[float, float] = (0.0, 0.0), **more) -> tuple[BenchRun, Server]:
    async def main() -> tuple[BenchRun, Server]:
        server = Server(stall_s)
        ask: Ask = server.ask
        return await Bench(options, ask, lambda _: None, clock=CLOCK.now_ns, **more).run(), server

    return run_virtual(main())


@pytest.mark.parametrize("rate_per_s", [None, 100.0])
def test_a_run_that_is_stopped_tells_what_it_has(rate_per_s: float | None) -> None:
    async def main() -> BenchRun:
        bench = Bench(
            replace(OPTIONS, rate_per_s=rate_per_s), Server().ask, lambda _: None, clock=CLOCK.now_ns
        )
        asyncio.get_running_loop().call_later(AHEAD + 0.5, bench.stop)
        return await bench.run()

    done = run_virtual(main())
    assert done.stopped
    assert done.cut_short
    assert 40 <= len(done.turns) <= 60


def test_a_run_that_is_stopped_while_it_warms_up_begins_no_turn() -> None:
    async def main() -> tuple[BenchRun, Server]:
        server = Server()
        bench = Bench(replace(OPTIONS, warmup=100), server.ask, lambda _: None, clock=CLOCK.now_ns)
        asyncio.get_running_loop().call_later(0.1, bench.stop)
        return await bench.run(), server

    done, server = run_virtual(main())
    assert (done.stopped, done.turns) == (True, [])
    assert len(server.asked) < 20


async def test_a_run_whose_task_is_cancelled_is_no_result() -> None:
    async def forever(job: Job, begun) -> TurnReport:
        await asyncio.Event().wait()
        raise AssertionError(job)

    running = asyncio.create_task(Bench(OPTIONS, forever, lambda _: None).run())
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def ttfa_ms(done: BenchRun) -> list[float]:
    return [report.ttfa_ms for report in done.reports]


def test_a_stall_is_hidden_by_a_closed_loop_and_shown_by_an_open_one():
    """The server answers within 10 ms, and stands still for two of ten seconds."""
    closed, _ = run(replace(OPTIONS, turns=800), (2.0, 4.0))
    open_, _ = run(replace(OPTIONS, turns=800, rate_per_s=80), (2.0, 4.0))
    # The one caller waited once: 1 of 800 turns, and the percentiles know of nothing.
    assert sum(value > 100 for value in ttfa_ms(closed)) == 1
    assert percentile(ttfa_ms(closed), 0.99) == pytest.approx(10, abs=0.1)
    # As many were due in those two seconds as in any other two: 160, the first of which waited all of it.
    waited = [value for value in ttfa_ms(open_) if value > 10.1]
    assert len(waited) == pytest.approx(160, abs=2)
    assert max(waited) == pytest.approx(2000, abs=25)
    assert statistics.mean(waited) == pytest.approx(1000, abs=25)
    assert percentile(ttfa_ms(open_), 0.99) > 1800


def test_what_is_held_back_is_counted_from_when_it_was_due_and_told():
    options = replace(OPTIONS, turns=50, rate_per_s=100)
    done, _ = run(options, (0.0, 2.0), most_in_flight=10)
    assert done.held_back == 40
    assert done.most_in_flight == 50
    assert max(turn.late_ms for turn in done.turns) > 1000
    for turn in done.turns:
        assert turn.due_s is not None
        assert turn.report.ttfa_ms >= turn.late_ms
        assert turn.report.ttfa_ms == pytest.approx(1000 * (turn.ended_s - turn.due_s), abs=0.01)


def test_a_run_that_is_cut_short_tells_what_it_leaves():
    options = replace(OPTIONS, turns=100, rate_per_s=100, limit_s=0.5)
    done, _ = run(options, (0.2, 60.0))
    assert done.cut_short
    due = sum(0.01 * number <= 0.5 - AHEAD for number in range(100))
    assert len(done.turns) + done.unfinished == pytest.approx(due, abs=6)
    assert done.unfinished > 20
    held, _ = run(options, (0.2, 60.0), most_in_flight=5)
    assert held.cut_short
    assert held.unfinished == pytest.approx(done.unfinished, abs=6)


def test_callers_of_a_closed_loop_ask_again_when_answered():
    done, server = run(replace(OPTIONS, turns=40, concurrency=4))
    assert (len(done.turns), done.most_in_flight, done.held_back) == (40, 4, 0)
    assert done.wall_s == pytest.approx(0.1 - AHEAD, abs=0.02)
    assert [job.prompt for job in server.asked[:4]] == ["one", "two", "three", "one"]
    assert all(turn.due_s is None and turn.late_ms == 0 for turn in done.turns)


def test_what_warms_up_does_not_count():
    options = replace(OPTIONS, turns=5, warmup=7, mix={"cached": 0.5})
    done, server = run(options)
    # Every prompt that is to be found is asked once, then the warm-up, then what counts.
    assert [job.kind for job in server.asked[:10]] == ["cached"] * 3 + ["plain"] * 7
    assert (len(server.asked), len(done.turns)) == (15, 5)
    assert min(turn.began_s for turn in done.turns) >= -AHEAD


def test_uniform_arrivals_are_as_far_apart_as_any_other():
    moments = due_ns(replace(OPTIONS, rate_per_s=50), 7)
    assert [next(moments) for _ in range(3)] == [7, 7 + 20_000_000, 7 + 40_000_000]


def test_poisson_arrivals_have_the_rate_and_the_same_seed_the_same_moments():
    options = replace(OPTIONS, rate_per_s=50, arrivals="poisson")
    first, again = due_ns(options, 0), due_ns(options, 0)
    moments = [next(first) for _ in range(5000)]
    assert moments == [next(again) for _ in range(5000)]
    assert moments != [
        moment for moment, _ in zip(due_ns(replace(options, seed=2), 0), moments, strict=False)
    ]
    gaps_s = [(b - a) / 1e9 for a, b in itertools.pairwise(moments)]
    # Of exponential gaps mean and deviation are the same: 1 / rate.
    assert statistics.mean(gaps_s) == pytest.approx(0.02, rel=0.05)
    assert statistics.stdev(gaps_s) == pytest.approx(0.02, rel=0.08)


def test_shares_of_a_mixture_are_kept_and_only_interrupted_turns_have_a_moment():
    mix = {"cached": 0.3, "interrupted": 0.1, "own_words": 0.2}
    made = list(jobs(replace(OPTIONS, turns=4000, mix=mix), 1, 0))
    shares = {kind: count / 4000 for kind, count in Counter(job.kind for job in made).items()}
    for kind, share in {**mix, "plain": 0.4}.items():
        assert shares[kind] == pytest.approx(share, abs=0.03)
    assert all((job.interrupt_at is not None) == (job.kind == "interrupted") for job in made)


def test_two_arms_are_asked_the_same_in_drawn_order():
    made = list(jobs(replace(OPTIONS, turns=50), 2, 0))
    assert [job.prompt for job in made[::2]] == [job.prompt for job in made[1::2]]
    assert {tuple(job.arm for job in made[place : place + 2]) for place in range(0, 100, 2)} == {
        (0, 1),
        (1, 0),
    }
    assert len(list(warmup_jobs(replace(OPTIONS, warmup=3), 2))) == 6
