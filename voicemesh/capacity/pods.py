"""The processes of a simulated mesh: plain ones, and those of the TTS service with their queue and engines.

A TTS process leases by the mesh's own queue (`voicemesh.lease_queue`); each has its own, and knows nothing of
the others'.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from voicemesh.capacity.events import MS, Events, Integral
from voicemesh.capacity.profile import CPU, WORKER, ChunkSample, Engine
from voicemesh.capacity.sharing import Device, Process, Server
from voicemesh.fairness import Account
from voicemesh.lease_queue import LeaseQueue

_PIECE_MS: Final = 100.0
_MOST_PIECES: Final = 4


@dataclass(eq=False)
class Job:
    """A chunk in a simulated TTS process: what `voicemesh.lease_queue` asks for, and what it takes."""

    id: int
    deadline_ns: int
    caller: str
    sample: ChunkSample
    leased: Callable[[], None]
    heard: Callable[[], None]
    ended: Callable[[], None]
    account: Account | None = None
    charged_ns: int = 0
    came_ns: int = 0
    leased_ns: int = 0


@dataclass(eq=False)
class Worker:
    """One replica of the model."""

    server: Server
    own: Process
    """Its process, which has the CPU time beside the engine's."""
    leases: int = 0


@dataclass(frozen=True)
class TtsLimits:
    """What a TTS process refuses; the settings of the same names."""

    max_queued_chunks: int = 256
    max_lateness_ms: int = 5000
    chunks_ahead: int = 2


@dataclass
class TtsPod:
    """A process of the TTS service.

    Args:
        process: Its own.
        engine: What it runs.
        events: Virtual time.
        limits: What it refuses.
        cpu_share: Of a lease, how much is CPU time of the worker, where the engine is one that works.

    """

    process: Process
    engine: Engine
    events: Events
    limits: TtsLimits
    cpu_share: float = 1.0
    workers: list[Worker] = field(init=False)
    queue: LeaseQueue[Job] = field(init=False, default_factory=LeaseQueue)
    leases: Integral = field(init=False)
    waiting: Integral = field(init=False)
    refused: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Start the workers."""
        self.leases, self.waiting = Integral(self.events), Integral(self.events)
        self.workers = []
        for _ in range(self.engine.workers):
            own = Process(WORKER, self.process.node)
            server = own if self.engine.kind == CPU else Device(self.events, self.engine.slowdown)
            self.workers.append(Worker(server, own))

    def submit(self, job: Job, *, admitted: bool) -> bool:
        """Queue a chunk; return False where it is refused."""
        now_ns = self.events.now_ns
        worker = self._free()
        if len(self.queue) >= self.limits.max_queued_chunks or (
            worker is None and not admitted and self.limits.max_lateness_ms and self._too_late(job)
        ):
            self.refused += 1
            return False
        job.came_ns = now_ns
        self.queue.enter(job)
        self.queue.add(job)
        self.waiting.add(1)
        self._dispatch()
        return True

    def _too_late(self, job: Job) -> bool:
        now_ns, slots = self.events.now_ns, self.engine.slots * self.engine.workers
        expected_ns = self.queue.first_frame_ns(job.caller, job.deadline_ns, now_ns, slots)
        return (expected_ns - max(job.deadline_ns, now_ns)) // MS > self.limits.max_lateness_ms

    def _free(self) -> Worker | None:
        least = min(self.workers, key=_leases)
        return least if least.leases < self.engine.slots else None

    def _dispatch(self) -> None:
        while self.queue and (worker := self._free()) is not None:
            self._lease(worker, self.queue.pop(self.events.now_ns))

    def _lease(self, worker: Worker, job: Job) -> None:
        worker.leases += 1
        self.leases.add(1)
        self.waiting.add(-1)
        job.leased_ns = self.events.now_ns
        job.leased()
        sample = job.sample

        def heard() -> None:
            self.queue.first_frame.learn(self.events.now_ns - job.leased_ns)
            job.heard()
            self._work(worker.server, sample.lease_ms - sample.first_ms, ended)

        def ended() -> None:
            worker.leases -= 1
            self.leases.add(-1)
            took_ns = self.events.now_ns - job.leased_ns
            self.queue.spoke(job, took_ns)
            self.queue.lease.learn(took_ns)
            self.queue.leave(job)
            job.ended()
            self._dispatch()

        self._work(worker.server, sample.first_ms, heard)

    def _work(self, server: Server, ms: float, done: Callable[[], None]) -> None:
        """Let the engine go on, at the CPU for as much of it as it is there, else on its own."""
        if self.engine.kind != CPU:
            server.run(ms * MS, done)
            return
        idle_ns = ms * MS * (1 - self.cpu_share)
        server.run(ms * MS * self.cpu_share, lambda: self.events.after(idle_ns, done))


def _leases(worker: Worker) -> int:
    return worker.leases


def pieces_of(lasts_ms: float) -> int:
    """Return in how many pieces the work behind a first frame comes: frames, of which there are many."""
    return max(1, min(_MOST_PIECES, math.ceil(lasts_ms / _PIECE_MS)))
