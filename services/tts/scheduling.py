"""Which utterances of a stepped engine take which step together next.

Each utterance that can go on is in one of four classes, by the time until its listener runs dry (its
*due* time: arrival + audio in hand; from its first audio on, that moment + in hand + audio made):

    late    due has passed             fair: callers that had least of the engine lately; then by due
    soon    due within 250 ms          by due; first windows first among equals
    ahead   due within 10 s            first windows first; then by due
    free    later: nobody waits        fair, as above

A work (an utterance's next step) moves up by itself as time passes, and late is where all that waits
arrives. The most urgent one leads a batch; others that need the equal step go along, in the same order:

    all that are there         where the batch ends before its leader is due, and within 20 ms
    else halved, down to       what the soon and the late ones fill, padding included

So a first window among streams that have time runs almost alone, and under load batches are full.
A leader that has time lets partners catch up for at most 2 ms from when it became ready: those of the
step that comes before its own, or arrivals whose rhythm promises one. Else nothing waits while
anything can run.

*Fair* is `voicemesh.fairness`: callers within 10 ms of engine time are equal. A late work of a caller
that is L ahead is led to the engine after at most L + 10 ms for each caller that wants it, of engine time,
and the batches in between.

Sans-I/O: times are passed in, in nanoseconds. Workers import this module: standard library only.
"""

import heapq
import itertools
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from services.tts.costs import Costs
from services.tts.engines.base import Step
from voicemesh.fairness import Account, Shares

WAIT_NS: Final = 2_000_000
SOON_NS: Final = 250_000_000
AHEAD_NS: Final = 10_000_000_000
LONG_NS: Final = 20_000_000
"""Batches of works that have time are no longer: what comes meanwhile waits for their end."""

_LATE, _SOON, _AHEAD, _FREE = range(4)
_RHYTHM_WEIGHT: Final = 0.25
_SLOWEST_GAP_NS: Final = 1_000_000_000


class Work:
    """One utterance as the scheduler sees it. Its fields are the scheduler's."""

    __slots__ = (
        "account",
        "due_ns",
        "engine_ns",
        "first",
        "number",
        "open",
        "queued",
        "queued_ns",
        "ready_ns",
        "step",
    )

    def __init__(self, number: int, account: Account, step: Step, due_ns: int) -> None:
        self.number = number
        self.account = account
        self.step = step
        self.due_ns = due_ns
        """When its listener runs dry."""
        self.first = True
        """True until its first audio."""
        self.queued = False
        self.open = True
        self.ready_ns = 0
        """Since when it could take its step."""
        self.queued_ns = 0
        """How long it was ready and did not run."""
        self.engine_ns = 0
        """Its share of the batches that it was in."""


class Batch(NamedTuple):
    """Works that take one step together."""

    step: Step
    works: tuple[Work, ...]
    size: int
    """The bucket: what the engine pads the batch to."""


class Pause(NamedTuple):
    """Nothing is to run before `until_ns`, or a change."""

    until_ns: int


class Figures(NamedTuple):
    """What a replica's engine did since its start."""

    busy_ns: int
    """Engine time: occupancy is its growth over that of the clock."""
    batches: int
    steps: int
    """Steps of utterances: over `batches`, the mean batch."""
    queued_ns: int
    """How long utterances were ready and did not run, all together."""
    waits: int
    """Pauses for a partner."""
    lowered: int
    """Times that a batch did not fit into memory."""
    sizes: tuple[tuple[int, int], ...]
    """(bucket, batches), smallest first."""


class _Lane:
    """The works that are ready for one step, by due time: (due, number, work)."""

    __slots__ = ("arrived_ns", "first", "gap_ns", "later")

    def __init__(self) -> None:
        self.first: list[tuple[int, int, Work]] = []
        self.later: list[tuple[int, int, Work]] = []
        self.arrived_ns = 0
        self.gap_ns = 0.0

    def of(self, work: Work) -> list[tuple[int, int, Work]]:
        return self.first if work.first else self.later

    def arrival(self, now_ns: int) -> None:
        """Note that a work came that no batch brought."""
        if self.arrived_ns:
            gap = min(now_ns - self.arrived_ns, _SLOWEST_GAP_NS)
            self.gap_ns += _RHYTHM_WEIGHT * (gap - self.gap_ns) if self.gap_ns else gap
        self.arrived_ns = now_ns

    def expected_ns(self, now_ns: int, until_ns: int) -> int:
        """Return how long the rhythm is worth a wait for the next arrival; 0 where none is promised."""
        latest = self.arrived_ns + int(2 * self.gap_ns)
        promised = self.gap_ns and latest > now_ns and self.arrived_ns + self.gap_ns <= until_ns
        return latest if promised else 0


class Scheduler:
    """Orders the steps of one engine. See the module.

    Args:
        limit: How many utterances may take a step together, at most; see `SteppedEngine.batch_limit`.

    """

    def __init__(self, limit: Callable[[Step], int]) -> None:
        self._limit = limit
        self._lowered: dict[Step, int] = {}
        self._costs = Costs()
        self._lanes: dict[Step, _Lane] = {}
        self._before: dict[Step, Step] = {}  # what an utterance took before this step, the last time
        self._shares = Shares()
        self._numbers = itertools.count()
        self._busy_ns = self._batches = self._steps = self._queued_ns = self._waits = self._shrunk = 0
        self._sizes: dict[int, int] = {}

    # ---- works --------------------------------------------------------------------------------

    def add(self, caller: str, step: Step, now_ns: int, in_hand_ns: int) -> Work:
        """Take a new utterance; it is ready."""
        work = Work(next(self._numbers), self._shares.open(caller), step, now_ns + in_hand_ns)
        self.ready(work, step, now_ns, came=True)
        return work

    def ready(self, work: Work, step: Step, now_ns: int, *, came: bool = False) -> None:
        """Say that a work can take `step` now. `came` where no batch led to that: its window opened."""
        assert work.open
        assert not work.queued
        if work.step != step:
            self._before[step] = work.step
            work.step = step
        lane = self._lanes.get(step)
        if lane is None:
            lane = self._lanes[step] = _Lane()
        if came:
            lane.arrival(now_ns)
        work.ready_ns = now_ns
        work.queued = True
        self._shares.want(work.account)
        insort(lane.of(work), (work.due_ns, work.number, work))

    def made_audio(self, work: Work, due_ns: int) -> None:
        """Set when its listener runs dry, after audio left. Not while it is ready."""
        assert not work.queued
        work.first = False
        work.due_ns = due_ns

    def drop(self, work: Work, now_ns: int) -> None:
        """End a work, ready or not."""
        if not work.open:
            return
        if work.queued:
            works = self._lanes[work.step].of(work)
            del works[bisect_left(works, (work.due_ns, work.number))]
            self._leaves(work, now_ns)
        work.open = False
        self._shares.close(work.account)

    def _leaves(self, work: Work, now_ns: int) -> None:
        work.queued = False
        self._shares.unwant(work.account)
        waited = now_ns - work.ready_ns
        work.queued_ns += waited
        self._queued_ns += waited

    # ---- decisions ----------------------------------------------------------------------------

    def next(self, now_ns: int) -> Batch | Pause | None:
        """Return what is to run now, until when to wait, or None where nothing is ready.

        Works of a batch leave the queue: after it `ran`, each is made `ready` again, or dropped.
        """
        heads = sorted(
            (self._head(lane, now_ns), step) for step, lane in self._lanes.items() if lane.first or lane.later
        )
        if not heads:
            return None
        step = heads[0][1]
        works = self._take(step, now_ns)
        if (until_ns := self._may_wait(step, works)) > now_ns:
            if len(heads) > 1:
                ahead = heads[1][1]
                if self._before.get(step) == ahead:
                    partners = self._take(ahead, now_ns)
                    took = self._costs.of(ahead, self.bucket(ahead, len(partners)))
                    if took is not None and now_ns + took <= until_ns:
                        step, works = ahead, partners
            elif expected_ns := self._lanes[step].expected_ns(now_ns, until_ns):
                self._waits += 1
                return Pause(min(until_ns, expected_ns))
        lane = self._lanes[step]
        for work in works:
            of = lane.of(work)
            del of[bisect_left(of, (work.due_ns, work.number))]
            self._leaves(work, now_ns)
        return Batch(step, tuple(works), self.bucket(step, len(works)))

    def _head(self, lane: _Lane, now_ns: int) -> tuple[int, int, int, int]:
        """Return the rank of the most urgent work of a lane; the lowest is first."""
        work = next(self._ordered(lane, now_ns, 1))
        kind = self._class(work, now_ns)
        if kind == _SOON:
            return (kind, work.due_ns, not work.first, work.number)
        if kind == _AHEAD:
            return (kind, not work.first, work.due_ns, work.number)
        return (kind, *self._fairly(work))

    @staticmethod
    def _class(work: Work, now_ns: int) -> int:
        slack = work.due_ns - now_ns
        return _LATE if slack <= 0 else _SOON if slack <= SOON_NS else _AHEAD if slack <= AHEAD_NS else _FREE

    def _fairly(self, work: Work) -> tuple[int, int, int]:
        return (self._shares.ahead(work.account), work.due_ns, work.number)

    def _ordered(self, lane: _Lane, now_ns: int, count: int) -> Iterator[Work]:
        """Yield at most `count` works of each class, most urgent first."""
        first, later = lane.first, lane.later
        cuts = [0, 0]
        for kind, until_ns in (
            (_LATE, now_ns),
            (_SOON, now_ns + SOON_NS),
            (_AHEAD, now_ns + AHEAD_NS),
            (_FREE, 0),
        ):
            if kind == _FREE:
                ends = [len(first), len(later)]
            else:
                ends = [bisect_left(first, (until_ns + 1,)), bisect_left(later, (until_ns + 1,))]
            some, others = first[cuts[0] : ends[0]], later[cuts[1] : ends[1]]
            cuts = ends
            if not some and not others:
                continue
            if kind == _AHEAD:
                yield from (entry[2] for entry in itertools.islice(itertools.chain(some, others), count))
            elif kind == _SOON:
                merged = heapq.merge(some, others, key=_by_due)
                yield from (entry[2] for entry in itertools.islice(merged, count))
            else:
                works = (entry[2] for entry in itertools.chain(some, others))
                yield from heapq.nsmallest(count, works, key=self._fairly)

    def _take(self, step: Step, now_ns: int) -> list[Work]:
        """Return the works that `step` is to be taken with."""
        limit = self.limit(step)
        works = list(itertools.islice(self._ordered(self._lanes[step], now_ns, limit), limit))
        leader = works[0]
        pressed = self._class(leader, now_ns) <= _SOON
        pressing = sum(work.due_ns <= now_ns + SOON_NS for work in works)
        while len(works) > 1:
            size = self.bucket(step, len(works))
            cost = self._costs.of(step, size)
            if cost is None:
                break  # it is learned by doing
            if pressed and (now_ns + cost <= leader.due_ns or 2 * pressing > size):
                break
            if not pressed and cost <= LONG_NS:
                break
            del works[size // 2 :]
        return works

    def _may_wait(self, step: Step, works: list[Work]) -> int:
        """Return until when `works` may wait for partners: nobody's deadline suffers. 0 for not at all."""
        limit = self.limit(step)
        if len(works) >= limit:
            return 0
        until_ns = min(work.ready_ns for work in works) + WAIT_NS
        cost = self._costs.at_most(step, self.bucket(step, len(works) + 1))
        if cost is None or min(work.due_ns for work in works) < until_ns + cost:
            return 0
        return until_ns

    # ---- sizes --------------------------------------------------------------------------------

    def limit(self, step: Step) -> int:
        """Return how many may take `step` together, as far as memory has shown."""
        limit = max(1, self._limit(step))
        return min(limit, self._lowered.get(step, limit))

    def bucket(self, step: Step, count: int) -> int:
        """Return the size that a batch of `count` is padded to: a power of two, or the limit."""
        return min(1 << max(0, count - 1).bit_length(), max(count, self.limit(step)))

    def buckets(self, step: Step) -> list[int]:
        """Return every size that a batch of `step` may have, smallest first."""
        limit = self.limit(step)
        return [*itertools.takewhile(lambda size: size < limit, (1 << n for n in itertools.count())), limit]

    def lower(self, step: Step, size: int) -> None:
        """Never form a batch of `size` again: it does not fit into memory."""
        self._shrunk += 1
        self._lowered[step] = max(1, (1 << (size - 1).bit_length()) // 2)

    # ---- what became of a batch ---------------------------------------------------------------

    def ran(self, batch: Batch, began_ns: int, ended_ns: int) -> None:
        """Take what a batch cost, well or not."""
        took = ended_ns - began_ns
        self._shares.charge([work.account for work in batch.works], took)
        for work in batch.works:
            work.engine_ns += took // len(batch.works)
        self._busy_ns += took
        self._batches += 1
        self._steps += len(batch.works)
        self._sizes[batch.size] = self._sizes.get(batch.size, 0) + 1
        self._costs.learn(batch.step, batch.size, took)

    def did_not_fit(self, batch: Batch, now_ns: int) -> Work | None:
        """Put back a batch that did not fit into memory: halves are next. Return a work that fails alone."""
        self.lower(batch.step, batch.size)
        if len(batch.works) == 1 and batch.size == 1:
            return batch.works[0]
        for work in batch.works:
            self.ready(work, work.step, now_ns)
        return None

    def figures(self) -> Figures:
        """Return the present figures; from any thread."""
        return Figures(
            self._busy_ns,
            self._batches,
            self._steps,
            self._queued_ns,
            self._waits,
            self._shrunk,
            tuple(sorted(self._sizes.copy().items())),
        )


def _by_due(entry: tuple[int, int, Work]) -> tuple[int, bool, int]:
    return (entry[0], not entry[2].first, entry[1])
