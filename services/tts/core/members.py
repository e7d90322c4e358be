"""The places in a pool: each a replica, or the lack of one."""

import asyncio
import enum
from collections.abc import Mapping
from typing import Final, Protocol

from services.tts.core.figures import ReplicaStats
from services.tts.core.job import Job, JobState
from services.tts.core.model import (
    Done,
    Fault,
    Heartbeat,
    Limits,
    Progress,
    Replica,
    ReplicaStartError,
    Together,
    Word,
)
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)

WARM_UP_ID: Final = 0


class MemberState(enum.Enum):
    """Where a place in the pool is.

    STARTING ──warm──> READY ──fault──> RETIRING ──last job ended──┐
      ^  │               ├──died, stalled────────────────────────┐ │
      │  └─does not start┼> WAITING <─it keeps happening─────────┤ │
      │                  │     │                                 v v
      ├──────────────────┼─────┴──────────first time, at once────(new process)
      │                  │
      │                  └─above its mark, or one too many─> LEAVING ──last job ended──> CLOSED
      └───────────────────────(no room for its successor beside it)──┘
    """

    STARTING = enum.auto()
    READY = enum.auto()
    RETIRING = enum.auto()
    WAITING = enum.auto()
    LEAVING = enum.auto()
    CLOSED = enum.auto()


class Cause(enum.Enum):
    """Why a replica was lost. The value is its name in metrics."""

    DIED = "died"
    """Its process ended, or broke the protocol."""
    NO_HEARTBEAT = "no_heartbeat"
    STALLED = "stalled"
    """It owed audio and said nothing."""
    FAILED = "failed"
    """Its engine reported an error, stopped unasked, or sent other samples than were due."""
    SILENT = "silent"
    """It gave no audio for a text with words."""


class MemberListener(Protocol):
    """Who hears the members of a pool."""

    def on_frame(self, member: "Member", job: Job, offset_samples: int, pcm: bytes) -> None:
        """Audio of a job."""
        ...

    def on_words(self, job: Job, words: list[Word]) -> None:
        """Words of a job."""
        ...

    def on_done(self, member: "Member", job: Job, done: Done) -> None:
        """The replica ended a job."""
        ...

    def on_failed(self, member: "Member", job: Job, message: str, fault: Fault) -> None:
        """The replica failed on a job."""
        ...

    def on_lost(self, member: "Member", reason: str) -> None:
        """The replica's process is gone."""
        ...

    def on_batches(self, sizes: Mapping[int, int]) -> None:
        """The replica told of batches that its engine ran since it told last: how many of each size."""
        ...

    def on_health(self) -> None:
        """A replica is ready, or one more is not."""
        ...

    def on_fault(self) -> None:
        """A replica does not start."""
        ...


class Member:
    """One place in the pool: a replica, or the lack of one. Hears its replica, with ids for jobs."""

    def __init__(self, name: str, listener: MemberListener, clock: Clock) -> None:
        self.name = name
        self.state = MemberState.STARTING
        self.replica: Replica | None = None
        self.jobs: dict[int, Job] = {}
        self.failures = 0
        """Replicas in a row that were lost, or did not start, without a chunk that went well."""
        self.at_fault: Cause | None = None
        """Why it retires."""
        self.retry_ns = 0
        self.ready_ns = 0
        """When its replica was warm."""
        self.beat: Heartbeat | None = None
        """What its replica told of itself last."""
        self.beat_ns = 0
        self.heir_of: Member | None = None
        """The member that leaves once this one is ready."""
        self.comes_back = False
        """Whether it starts anew once it has left."""
        self.starting: asyncio.Task[ReplicaStartError | None] | None = None
        self.prepared: Progress | None = None
        """How far the preparation of its replica is; None before it told."""
        self.loads_ns = -1
        """When it began last to load something that was needed for the first time."""
        self.worked_ns = -1
        """When an engine that takes steps last told of further ones, for whomever; -1 where it never did."""
        self.warmed: asyncio.Future[None] | None = None
        self._start_limit: asyncio.Timeout | None = None
        self._start_limit_s = 0.0
        self._listener = listener
        self._clock = clock

    @property
    def free_slots(self) -> int:
        """Jobs that it can take now."""
        if self.state is not MemberState.READY or self.replica is None:
            return 0
        return self.replica.capabilities.slots - len(self.jobs)

    def stalled_s(self, limits: Limits) -> float:
        """Return the limit, in seconds, that its silence about one of its jobs has passed; 0 where none."""
        return next(filter(None, (self._stalled_s(job, limits) for job in self.jobs.values())), 0)

    def _stalled_s(self, job: Job, limits: Limits) -> float:
        # With a full window a replica owes nothing, except to acknowledge that it was told to stop.
        if job.credit <= 0 and job.state is JobState.RUNNING:
            return 0
        # One thread advances all requests of an engine that takes steps: a chunk that is not urgent waits its
        # turn, for as long as others are spoken.
        since_ns, limit_s = max(job.heard_ns, self.worked_ns), limits.stall_timeout_s
        if self.loads_ns >= since_ns:  # it loads what the job needs, which may take as long as a start
            since_ns, limit_s = self.loads_ns, limits.warmup_timeout_s
        return limit_s if self._clock.now_ns() - since_ns > limit_s * 1e9 else 0

    def start_within(self, seconds: float) -> asyncio.Timeout:
        """Return what ends a start that takes so long, counted anew from each progress."""
        self._start_limit_s = seconds
        self._start_limit = asyncio.timeout(seconds)
        return self._start_limit

    def stats(self) -> ReplicaStats:
        """Return its present figures."""
        beat = self.beat or Heartbeat(0, 0, {})
        return ReplicaStats(
            name=self.name,
            pid=self.replica.pid if self.replica is not None else 0,
            state=self.state.name,
            active_leases=len(self.jobs),
            slots=self.replica.capabilities.slots if self.replica is not None else 0,
            resident_bytes=beat.resident_bytes,
            device_bytes=beat.device_bytes,
            # It may be put off into the future: see `Replicas.look`.
            heartbeat_age_ms=max(0, self._clock.now_ns() - self.beat_ns) // 1_000_000 if self.beat else 0,
            steps_done=self.prepared.done if self.prepared else 0,
            steps_total=self.prepared.total if self.prepared else 0,
            figures=beat.figures,
        )

    def frame(self, request_id: int, offset_samples: int, pcm: bytes) -> None:
        """See `ReplicaListener`."""
        job = self.jobs.get(request_id)
        if job is not None:
            self._listener.on_frame(self, job, offset_samples, pcm)

    def words(self, request_id: int, words: list[Word]) -> None:
        """See `ReplicaListener`."""
        job = self.jobs.get(request_id)
        if job is not None:
            self._listener.on_words(job, words)

    def done(self, request_id: int, done: Done) -> None:
        """See `ReplicaListener`."""
        if request_id == WARM_UP_ID:
            self._warm(None if done.made_samples else ReplicaStartError("its first text gave no audio"))
        elif (job := self.jobs.get(request_id)) is not None:
            self._listener.on_done(self, job, done)

    def failed(self, request_id: int, message: str, fault: Fault) -> None:
        """See `ReplicaListener`."""
        if request_id == WARM_UP_ID:
            self._warm(ReplicaStartError(message))
        elif (job := self.jobs.get(request_id)) is not None:
            self._listener.on_failed(self, job, message, fault)

    def together(self, together: Together) -> None:
        """See `ReplicaListener`."""
        listeners = [job.listener for job in map(self.jobs.get, together.ids) if job is not None]
        if listeners:
            listeners[0].job_together(together, listeners[1:])

    def heartbeat(self, beat: Heartbeat) -> None:
        """See `ReplicaListener`."""
        before = self.beat.figures if self.beat is not None else {}
        batches = beat.figures.get("batches", 0)
        if batches and batches != before.get("batches", 0):
            self.worked_ns = self._clock.now_ns()
            told = dict(before.get("sizes", ()))
            sizes = {size: count - told.get(size, 0) for size, count in beat.figures.get("sizes", ())}
            self._listener.on_batches(sizes)
        self.beat = beat
        self.beat_ns = self._clock.now_ns()

    def progress(self, progress: Progress) -> None:
        """See `ReplicaListener`."""
        if self.state is not MemberState.STARTING:
            self.loads_ns = self._clock.now_ns()
            _log.info("replica loads what it needs now", replica=self.name, what=progress.what)
            return
        self.prepared = progress
        _log.info("replica prepares", replica=self.name, **progress._asdict())
        if self._start_limit is not None and not self._start_limit.expired():
            self._start_limit.reschedule(asyncio.get_running_loop().time() + self._start_limit_s)

    def lost(self, reason: str) -> None:
        """See `ReplicaListener`."""
        if not self._warm(ReplicaStartError(reason)):
            self._listener.on_lost(self, reason)

    def _warm(self, error: ReplicaStartError | None) -> bool:
        if self.warmed is None or self.warmed.done():
            return False
        if error is None:
            self.warmed.set_result(None)
        else:
            self.warmed.set_exception(error)
        return True
