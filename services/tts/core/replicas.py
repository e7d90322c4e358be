"""The replicas of one declared voice: their start, their health, and their replacement."""

import asyncio
import enum
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from services.tts.core.job import Job
from services.tts.core.model import (
    Capabilities,
    Done,
    Heartbeat,
    Launcher,
    Limits,
    Progress,
    Replica,
    ReplicaStartError,
    SpeakRequest,
    VoiceSpec,
    Word,
)
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)

_WARM_UP_ID: Final = 0
_WARM_UP_TEXT: Final = "The first sentence warms the voice."
_BACKOFF_FIRST_S: Final = 0.2
_BACKOFF_MOST_S: Final = 10.0


class MemberState(enum.Enum):
    """Where a place in the pool is.

    STARTING ──warm──> READY ──fault──> RETIRING ──last job ended──┐
      ^  │               └──died, stalled────────────────────────┐ │
      │  └─does not start─> WAITING <─it keeps happening─────────┤ │
      │                        │                                 v v
      └────────────────────────┴──────────first time, at once────(new process)
    """

    STARTING = enum.auto()
    READY = enum.auto()
    RETIRING = enum.auto()
    WAITING = enum.auto()
    CLOSED = enum.auto()


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

    def on_failed(self, member: "Member", job: Job, message: str, *, text_at_fault: bool) -> None:
        """The replica failed on a job."""
        ...

    def on_lost(self, member: "Member", reason: str) -> None:
        """The replica's process is gone."""
        ...

    def on_health(self) -> None:
        """A replica is ready, or one more is not."""
        ...


class Member:
    """One place in the pool: a replica, or the lack of one. Hears its replica, with ids for jobs."""

    def __init__(self, name: str, listener: MemberListener) -> None:
        self.name = name
        self.state = MemberState.STARTING
        self.replica: Replica | None = None
        self.jobs: dict[int, Job] = {}
        self.failures = 0
        """Replicas in a row that were lost, or did not start, without a chunk that went well."""
        self.retry_ns = 0
        self.beat: Heartbeat | None = None
        """What its replica told of itself last."""
        self.prepared: Progress | None = None
        """How far the preparation of its replica is; None before it told."""
        self.start_limit: asyncio.Timeout | None = None
        """Ends a start that takes too long; moved by progress."""
        self.start_limit_s = 0.0
        self.warmed: asyncio.Future[None] | None = None
        self._listener = listener

    @property
    def free_slots(self) -> int:
        """Jobs that it can take now."""
        if self.state is not MemberState.READY or self.replica is None:
            return 0
        return self.replica.capabilities.slots - len(self.jobs)

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
        if request_id == _WARM_UP_ID:
            self._warm(None if done.made_samples else ReplicaStartError("its first text gave no audio"))
        elif (job := self.jobs.get(request_id)) is not None:
            self._listener.on_done(self, job, done)

    def failed(self, request_id: int, message: str, *, text_at_fault: bool) -> None:
        """See `ReplicaListener`."""
        if request_id == _WARM_UP_ID:
            self._warm(ReplicaStartError(message))
        elif (job := self.jobs.get(request_id)) is not None:
            self._listener.on_failed(self, job, message, text_at_fault=text_at_fault)

    def heartbeat(self, beat: Heartbeat) -> None:
        """See `ReplicaListener`."""
        self.beat = beat

    def progress(self, progress: Progress) -> None:
        """See `ReplicaListener`."""
        self.prepared = progress
        _log.info("replica prepares", replica=self.name, **progress._asdict())
        if self.start_limit is not None and not self.start_limit.expired():
            self.start_limit.reschedule(asyncio.get_running_loop().time() + self.start_limit_s)

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


class Replicas:
    """The members of one pool.

    Args:
        spec: The voice.
        launch: Starts a replica.
        clock: For backoff.
        limits: See `Limits`.
        listener: Hears them.

    """

    def __init__(
        self, spec: VoiceSpec, launch: Launcher, clock: Clock, limits: Limits, listener: MemberListener
    ) -> None:
        self.members = [Member(f"{spec.name}-{index}", listener) for index in range(spec.replicas)]
        self.capabilities: Capabilities | None = None
        """Of the replicas; None until the first was ready."""
        self.replaced = 0
        self._spec = spec
        self._launch = launch
        self._clock = clock
        self._limits = limits
        self._listener = listener
        self._starting: set[asyncio.Task[Any]] = set()
        self._ending: set[asyncio.Task[Any]] = set()

    @property
    def healthy(self) -> bool:
        """Whether chunks can be spoken now, or by a first replacement that is on its way."""
        return any(
            member.state is MemberState.READY
            or (
                member.state in (MemberState.STARTING, MemberState.RETIRING)
                and self.capabilities is not None
                and member.failures <= 1
            )
            for member in self.members
        )

    def count(self, *states: MemberState) -> int:
        """Return how many members are in one of `states`."""
        return sum(member.state in states for member in self.members)

    def pids(self) -> tuple[int, ...]:
        """Return the process ids of the replicas."""
        return tuple(member.replica.pid for member in self.members if member.replica is not None)

    def free(self) -> Member | None:
        """Return the least busy member with a free slot."""
        return min(
            (member for member in self.members if member.free_slots > 0),
            key=lambda member: len(member.jobs),
            default=None,
        )

    async def start(self) -> None:
        """Start every replica, at the same time, and wait until each is warm or failed.

        Raises:
            ReplicaStartError: The declaration of the voice is wrong.

        """
        for error in await asyncio.gather(*(self._bring_up(member) for member in self.members)):
            if error is not None and error.declaration_at_fault:
                raise error

    async def _bring_up(self, member: Member) -> ReplicaStartError | None:
        """Start a replica and have it speak; the member is READY or WAITING afterwards."""
        member.state = MemberState.STARTING
        began_ns = self._clock.now_ns()
        replica: Replica | None = None
        try:
            member.start_limit_s = self._limits.warmup_timeout_s
            async with asyncio.timeout(member.start_limit_s) as member.start_limit:
                replica = await self._launch(self._spec, member)
                member.warmed = asyncio.get_running_loop().create_future()
                variant = replica.capabilities.default_variant
                replica.speak(_WARM_UP_ID, SpeakRequest(_WARM_UP_TEXT, variant, warm_up=True))
                await member.warmed
        except (ReplicaStartError, TimeoutError) as error:
            late = f"not warm after {self._limits.warmup_timeout_s:g} s"
            failure = error if isinstance(error, ReplicaStartError) else ReplicaStartError(late)
            _log.warning("replica does not start", replica=member.name, error=str(failure))
            self._discard(replica)
            member.failures += 1
            self._wait(member)
            return failure
        except asyncio.CancelledError:
            self._discard(replica)
            raise
        member.replica, member.state = replica, MemberState.READY
        self.capabilities = replica.capabilities
        took_ms = (self._clock.now_ns() - began_ns) // 1_000_000
        _log.info("replica ready", replica=member.name, pid=replica.pid, took_ms=took_ms)
        self._listener.on_health()
        return None

    def _wait(self, member: Member) -> None:
        wait_s = min(_BACKOFF_FIRST_S * 2 ** min(member.failures - 1, 16), _BACKOFF_MOST_S)
        member.state = MemberState.WAITING
        member.retry_ns = self._clock.now_ns() + round(wait_s * 1e9)
        self._listener.on_health()

    def replace(self, member: Member, reason: str) -> list[Job]:
        """Give up the member's replica, start another; return the jobs that it had."""
        replica, member.replica = member.replica, None
        jobs = list(member.jobs.values())
        member.jobs.clear()
        if replica is None:
            return jobs
        _log.warning("replica lost", replica=member.name, pid=replica.pid, reason=reason)
        self._discard(replica)
        self.replaced += 1
        member.failures += 1
        if member.failures == 1:  # only a replica that keeps failing has to wait
            self._restart(member)
        else:
            self._wait(member)
        return jobs

    def retry(self) -> None:
        """Start the members whose wait is over."""
        for member in self.members:
            if member.state is MemberState.WAITING and self._clock.now_ns() >= member.retry_ns:
                self._restart(member)

    def _restart(self, member: Member) -> None:
        member.state = MemberState.STARTING
        _spawn(self._bring_up(member), self._starting)

    def _discard(self, replica: Replica | None) -> None:
        if replica is not None:
            replica.kill()
            _spawn(replica.close(), self._ending)

    async def close(self) -> None:
        """End every replica and wait until each process is gone."""
        replicas = [member.replica for member in self.members if member.replica is not None]
        for member in self.members:
            member.state, member.replica = MemberState.CLOSED, None
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(replica.close() for replica in replicas), *self._ending)


def _spawn(work: Coroutine[Any, Any, Any], tasks: set[asyncio.Task[Any]]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
