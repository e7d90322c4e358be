"""`voicemesh bench`: puts turns through a mesh and keeps the account of each.

Closed loop (`--concurrency C`): C callers, each asks again when its turn has ended.
Open loop (`--rate R`): turns are meant to begin at moments that are known before the run, whatever the
mesh does, and their times count from there; a slow mesh cannot hide its waiting by slowing the tool down
(coordinated omission, https://www.scylladb.com/2021/04/22/on-coordinated-omission/).

            due     due     due     due          each turn's time counts from here
    open     |───────|───────|───────|──>
    mesh     ▓▓▓ ....stalls....... ▓▓▓▓▓▓▓▓      all that were due meanwhile have waited
    closed   ▓▓▓|..................▓▓▓|▓▓▓|      one turn has: the others were not begun

With two arms, each prompt is asked of both, one right behind the other, which first being drawn: whatever
else the machine does meets both alike.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voicemesh.cli.bench_options import BenchOptions, Job, jobs, now_ns, warmup_jobs
from voicemesh.client import TurnReport

MOST_IN_FLIGHT: Final = 4096
"""Turns of an open loop that are under way at once; what is due beyond waits, and its time counts on."""
AHEAD_S: Final = 0.05
"""How long before its turn a conversation is opened, as by a caller who is there before he speaks."""
LOOP_LOOKED_AT_S: Final = 0.05
"""How often the tool looks whether its own event loop is late: then its times are of itself."""

Clock = Callable[[], int]
Ask = Callable[[Job, Callable[[], None]], Awaitable[TurnReport]]
"""Runs a job when it is due, and calls what it is given when it asks. Raises nothing that the mesh did."""


@dataclass(frozen=True, kw_only=True)
class TimedTurn:
    """A turn of a run. Times are in seconds since the run began.

    Attributes:
        job: What was to run.
        report: The account of it.
        due_s: When it was meant to begin; None in a closed loop.
        began_s: When it was asked.
        ended_s: When it had ended.

    """

    job: Job
    report: TurnReport
    due_s: float | None
    began_s: float
    ended_s: float

    @property
    def late_ms(self) -> float:
        """How late the tool asked, in milliseconds; 0 in a closed loop."""
        return 0.0 if self.due_s is None else max(1000 * (self.began_s - self.due_s), 0.0)

    def to_json(self, step: int = 0) -> dict[str, Any]:
        """Return the turn as `bench --json` prints it; `step` is which load of a sweep it ran under."""
        run = {
            "step": step,
            "kind": self.job.kind,
            "due_s": None if self.due_s is None else round(self.due_s, 6),
            "began_s": round(self.began_s, 6),
            "ended_s": round(self.ended_s, 6),
            "late_ms": round(self.late_ms, 3),
        }
        return {**self.report.to_json(), "run": run}


@dataclass(frozen=True, kw_only=True)
class BenchRun:
    """What came of a run under one load.

    Attributes:
        turns: Each turn that ended, in the order of their end.
        wall_s: How long it took, in seconds.
        cut_short: True where the time limit, or who runs it, ended the run.
        stopped: True where it was who runs it.
        unfinished: Turns that were due or begun by then and had not ended.
        most_in_flight: Most turns that were due or begun, and had not ended, at one time.
        held_back: Turns of an open loop that waited because `MOST_IN_FLIGHT` were under way.
        warmup_failed: Turns ahead of the run that failed.
        loop_late_ms: How late the tool's own event loop woke what slept, looked at `LOOP_LOOKED_AT_S` apart.

    """

    turns: Sequence[TimedTurn]
    wall_s: float
    cut_short: bool = False
    stopped: bool = False
    unfinished: int = 0
    most_in_flight: int = 0
    held_back: int = 0
    warmup_failed: int = 0
    loop_late_ms: Sequence[float] = ()

    @property
    def reports(self) -> list[TurnReport]:
        """The account of each turn, in the order of their end."""
        return [turn.report for turn in self.turns]

    @property
    def by_job(self) -> Mapping[tuple[int, int], TurnReport]:
        """The same by number of the prompt and of the arm."""
        return {(turn.job.number, turn.job.arm): turn.report for turn in self.turns}


class Bench:
    """Runs turns under one load.

    Args:
        options: What to run.
        ask: Runs one turn.
        done: Told of each turn that ended.
        arms: How many arms there are, `options.turns` turns of each.
        clock: Monotonic nanoseconds, those of the event loop's timers.
        most_in_flight: See `MOST_IN_FLIGHT`.

    """

    def __init__(
        self,
        options: BenchOptions,
        ask: Ask,
        done: Callable[[TurnReport], None],
        *,
        arms: int = 1,
        clock: Clock = now_ns,
        most_in_flight: int = MOST_IN_FLIGHT,
    ) -> None:
        self._options = options
        self._ask = ask
        self._done = done
        self._arms = arms
        self._clock = clock
        self._places = most_in_flight
        self._turns: list[TimedTurn] = []
        self._start_ns = 0
        self._in_flight = 0
        self._held_back = 0
        self._loop_late_ms: list[float] = []
        self._stop = asyncio.Event()
        self._working: asyncio.Task[int | None] | None = None

    def stop(self) -> None:
        """Have the run end now, as if its time were over."""
        self._stop.set()
        if self._working is not None:
            self._working.cancel()

    async def run(self) -> BenchRun:
        """Run it: what warms up first, then what is counted."""
        options = self._options
        warmup_failed = await self._work(self._warm_up()) or 0
        self._start_ns = self._clock() + round(AHEAD_S * 1e9)
        planned = jobs(options, self._arms, self._start_ns)
        cut_short = False
        watching = asyncio.create_task(self._watch_loop(), name="load: is the loop late")
        try:
            async with asyncio.timeout(options.limit_s):
                await self._work(
                    self._closed_loop(planned) if options.rate_per_s is None else self._open_loop(planned)
                )
        except TimeoutError:
            cut_short = True
        finally:
            watching.cancel()
        cut_short |= self._stop.is_set()
        ended_ns = self._clock()
        unfinished = self._in_flight + (self._overdue(planned, ended_ns) if cut_short else 0)
        return BenchRun(
            turns=self._turns,
            wall_s=max(ended_ns - self._start_ns, 0) / 1e9,
            cut_short=cut_short,
            stopped=self._stop.is_set(),
            unfinished=unfinished,
            most_in_flight=max(most_at_once(self._turns), unfinished),
            held_back=self._held_back,
            warmup_failed=warmup_failed,
            loop_late_ms=self._loop_late_ms,
        )

    async def _watch_loop(self) -> None:
        while True:
            asleep_ns = self._clock()
            await asyncio.sleep(LOOP_LOOKED_AT_S)
            late_ns = self._clock() - asleep_ns - round(LOOP_LOOKED_AT_S * 1e9)
            self._loop_late_ms.append(max(late_ns, 0) / 1e6)

    async def _work(self, work: Coroutine[Any, Any, int | None]) -> int | None:
        """Do a part of the run, unless it is stopped; None where it was."""
        if self._stop.is_set():
            work.close()
            return None
        self._working = asyncio.create_task(work, name="load")
        try:
            return await self._working
        except asyncio.CancelledError:
            if not (self._stop.is_set() and self._working.cancelled()):
                raise  # whoever runs the whole of it wants its end
            return None

    async def _warm_up(self) -> int:
        failed = 0
        planned = warmup_jobs(self._options, self._arms)

        async def caller() -> None:
            nonlocal failed
            for job in planned:
                failed += (await self._ask(job, lambda: None)).outcome == "failed"

        async with asyncio.TaskGroup() as callers:
            for _ in range(self._options.concurrency):
                callers.create_task(caller())
        return failed

    async def _closed_loop(self, planned: Iterator[Job]) -> None:
        async def caller() -> None:
            for job in planned:
                self._in_flight += 1
                await self._turn(job)

        async with asyncio.TaskGroup() as callers:
            for _ in range(min(self._options.concurrency, self._options.turns * self._arms)):
                callers.create_task(caller())

    async def _open_loop(self, planned: Iterator[Job]) -> None:
        places = asyncio.Semaphore(self._places)

        async def arrive(job: Job) -> None:
            try:
                await self._turn(job)
            finally:
                places.release()

        full = False
        """True from when there was no place until a turn was in time again."""
        async with asyncio.TaskGroup() as arrivals:
            for job in planned:
                assert job.due_ns is not None
                # The loop's timer is coarse; also give way to arrivals that are already running.
                await asyncio.sleep(max((job.due_ns - self._clock()) / 1e9 - AHEAD_S, 0))
                self._in_flight += 1
                full |= places.locked()
                await places.acquire()
                if self._clock() < job.due_ns:
                    full = False
                self._held_back += full
                arrivals.create_task(arrive(job), name=f"turn {job.number}")

    async def _turn(self, job: Job) -> None:
        began_ns = self._clock()

        def begun() -> None:
            nonlocal began_ns
            began_ns = self._clock()

        report = await self._ask(job, begun)
        self._in_flight -= 1
        turn = TimedTurn(
            job=job,
            report=report,
            due_s=None if job.due_ns is None else self._since(job.due_ns),
            began_s=self._since(began_ns),
            ended_s=self._since(self._clock()),
        )
        self._turns.append(turn)
        self._done(report)

    def _since(self, moment_ns: int) -> float:
        return (moment_ns - self._start_ns) / 1e9

    @staticmethod
    def _overdue(planned: Iterator[Job], now: int) -> int:
        """Return how many turns were due by now and were not even taken up."""
        return sum(
            1 for _ in itertools.takewhile(lambda job: job.due_ns is not None and job.due_ns <= now, planned)
        )


def most_at_once(turns: Sequence[TimedTurn]) -> int:
    """Return how many turns were due or begun, and had not ended, at most at one time."""
    changes = [
        change
        for turn in turns
        for change in ((turn.began_s if turn.due_s is None else turn.due_s, 1), (turn.ended_s, -1))
    ]
    return max(itertools.accumulate(change for _, change in sorted(changes)), default=0)
