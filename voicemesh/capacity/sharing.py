"""What many share: the cores of a node between processes, a process between turns, a device between leases.

All of it is processor sharing: who is there at the same time gets an equal part. A process is an event loop
and has one core at most, so of n processes that want to run on a node of c cores each gets min(1, c/n).

    node, 2 cores     gateway   2/3 of a core ── 3 turns: 2/9 each
                      tts       2/3           ── 1 turn:  2/3
                      worker    2/3           ── 1 chunk: 2/3

Each server keeps a virtual time that runs as fast as one of its jobs is served, so that a job that begins
knows once and for all at which virtual time it ends.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from voicemesh.capacity.events import Events

Done = Callable[[], None]
_PER_STEP = 8
"""So many processes of a node that go on take as long as one thing that happens."""
_NEVER = 1 << 62
_SLACK_NS = 0.5
"""Of rounding to whole nanoseconds: what is due within it is done."""


class Server(Protocol):
    """Who does work."""

    def run(self, work_ns: float, done: Done) -> None:
        """Do `work_ns` of work, as it takes alone, then call `done`."""
        ...


class Process:
    """A process on a node. Its work is CPU time.

    Attributes:
        name: What it is, for figures.
        worked_ns: CPU time that it was asked for.

    """

    def __init__(self, name: str, node: "Node") -> None:
        self.name = name
        self.node = node
        self.worked_ns = 0.0
        self.virtual = 0.0
        self.jobs: list[tuple[float, int, Done]] = []

    def run(self, work_ns: float, done: Done) -> None:
        """See `Server`."""
        if work_ns <= 0:
            done()
            return
        self.worked_ns += work_ns
        self.node.begin(self, work_ns, done)


class Node:
    """Cores that processes share.

    Args:
        events: Virtual time.
        cores: How many; a part of one is what a limit leaves.

    """

    def __init__(self, events: Events, cores: float) -> None:
        self.cores = cores
        self.worked_ns = 0.0
        self._events = events
        self._active: list[Process] = []
        self._at_ns = 0
        self._count = 0
        self._next_ns = _NEVER
        """When something may end next: never later than it does."""
        self._settling = False

    def begin(self, process: Process, work_ns: float, done: Done) -> None:
        """Take work of a process; for `Process`."""
        self._advance()
        self.worked_ns += work_ns
        if not process.jobs:
            process.virtual = 0.0
            self._active.append(process)
        self._count += 1
        heapq.heappush(process.jobs, (process.virtual + work_ns, self._count, done))
        self._schedule()

    # Half of the time of a simulation is spent below: loops, no generators, and no more events than it takes.

    def _advance(self) -> None:
        events, active = self._events, self._active
        elapsed_ns = events.now_ns - self._at_ns
        self._at_ns = events.now_ns
        if elapsed_ns and active:
            count = len(active)
            events.happened += count // _PER_STEP
            served = elapsed_ns if count <= self.cores else elapsed_ns * self.cores / count
            for process in active:
                process.virtual += served / len(process.jobs)

    def _schedule(self) -> None:
        """Look again when the first job ends as things are. What begins meanwhile mostly makes it later."""
        active = self._active
        if not active or self._settling:
            return
        left = math.inf
        for process in active:
            jobs = process.jobs
            of_process = (jobs[0][0] - process.virtual) * len(jobs)
            if of_process < left:  # noqa: PLR1730 - min() takes three times as long
                left = of_process
        count = len(active)
        if count > self.cores:
            left *= count / self.cores
        when_ns = self._events.now_ns + max(0, math.ceil(left))
        if when_ns < self._next_ns:
            self._next_ns = when_ns
            self._events.at(when_ns, self._due)

    def _due(self) -> None:
        if self._events.now_ns != self._next_ns:  # one that is earlier was put in front of this one
            return
        self._next_ns = _NEVER
        self._advance()
        ended: list[Done] = []
        left = False
        for process in self._active:
            jobs, upto = process.jobs, process.virtual + _SLACK_NS
            while jobs and jobs[0][0] <= upto:
                ended.append(heapq.heappop(jobs)[2])
            left |= not jobs
        if left:
            self._active = [process for process in self._active if process.jobs]
        self._settling = True
        for done in ended:
            done()
        self._settling = False
        self._schedule()


class Device:
    """An engine that is no CPU of the node: a GPU, a machine elsewhere, or timers that stand for one.

    Args:
        events: Virtual time.
        slowdown: How many times longer a lease takes where 1, 2, … run at once; what is beyond takes as the
            last says. Empty: always as long as alone.

    """

    def __init__(self, events: Events, slowdown: Sequence[float] = ()) -> None:
        self.worked_ns = 0.0
        self._events = events
        self._slowdown = tuple(slowdown) if any(factor != 1.0 for factor in slowdown) else ()
        self._jobs: list[tuple[float, int, Done]] = []
        self._virtual = 0.0
        self._at_ns = 0
        self._count = 0
        self._plan = 0

    def run(self, work_ns: float, done: Done) -> None:
        """See `Server`."""
        self.worked_ns += work_ns
        if not self._slowdown:
            self._events.after(work_ns, done)
            return
        self._advance()
        self._count += 1
        heapq.heappush(self._jobs, (self._virtual + work_ns, self._count, done))
        self._schedule()

    def _factor(self) -> float:
        return self._slowdown[min(len(self._jobs), len(self._slowdown)) - 1]

    def _advance(self) -> None:
        if self._jobs:
            self._virtual += (self._events.now_ns - self._at_ns) / self._factor()
        self._at_ns = self._events.now_ns

    def _schedule(self) -> None:
        self._plan += 1
        if self._jobs:
            plan = self._plan
            left = (self._jobs[0][0] - self._virtual) * self._factor()
            self._events.at(self._events.now_ns + max(0, math.ceil(left)), lambda: self._due(plan))

    def _due(self, plan: int) -> None:
        if plan != self._plan:
            return
        self._advance()
        ended: list[Done] = []
        while self._jobs and self._jobs[0][0] <= self._virtual + _SLACK_NS:
            ended.append(heapq.heappop(self._jobs)[2])
        for done in ended:
            done()
        self._schedule()
