"""The replicas of one declared voice: their start, their health, and their replacement."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final

from services.tts import loudness
from services.tts.core.job import Job
from services.tts.core.marks import Marks
from services.tts.core.members import WARM_UP_ID, Cause, Member, MemberListener, MemberState
from services.tts.core.model import (
    Capabilities,
    Launcher,
    Limits,
    Replica,
    ReplicaStartError,
    SpeakRequest,
    VoiceSpec,
)
from services.tts.core.starting import BACKGROUND, REPLACEMENT, Place
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.logs import get_logger

__all__ = ["Cause", "Member", "MemberListener", "MemberState", "Replicas"]

_log = get_logger(__name__)

_BACKOFF_FIRST_S: Final = 0.2
_BACKOFF_MOST_S: Final = 10.0
_LATE_NS: Final = 1_000_000_000
"""Looks are some 100 ms apart. When one is later than this, this process or the machine was held up."""


class Replicas:
    """The members of one pool.

    Args:
        spec: The voice.
        launch: Starts a replica.
        clock: For backoff and heartbeats.
        limits: See `Limits`.
        listener: Hears them.
        place: Gives what a start needs; None where starts need not share anything.

    """

    def __init__(
        self,
        spec: VoiceSpec,
        launch: Launcher,
        clock: Clock,
        limits: Limits,
        listener: MemberListener,
        place: Place | None = None,
    ) -> None:
        self.members: list[Member] = []
        self.capabilities: Capabilities | None = None
        """Of the replicas; None until the first was ready."""
        self.losses: Counter[str] = Counter()
        """Replicas that were lost, by the value of their `Cause`."""
        self.stalled = 0
        self.recycled = 0
        self._spec = spec
        self._launch = launch
        self._clock = clock
        self._limits = limits
        self._listener = listener
        self._place = place or Place(spec.name)
        self._marks = Marks(spec, clock)
        self._looked_ns = clock.now_ns()
        self._ending: set[asyncio.Task[Any]] = set()
        self._other_hz = 0
        for _ in range(spec.replicas):
            self._add()

    def is_asked_for(self, sample_rate_hz: int) -> None:
        """Note the rate of a request: where it is not the voice's own, replicas to come are warmed at it.

        What resamples takes 0.1 s and 17 MB to load. So no caller waits for it twice, and none that are
        asked for no other rate hold it.
        """
        if self.capabilities is not None and sample_rate_hz not in (0, self.capabilities.sample_rate_hz):
            self._other_hz = sample_rate_hz

    @property
    def healthy(self) -> bool:
        """Whether chunks can be spoken now, or by a first replacement that is on its way."""
        return any(
            member.state is MemberState.READY
            or (
                (
                    member.state in (MemberState.STARTING, MemberState.RETIRING)
                    or (member.state is MemberState.LEAVING and member.comes_back)
                )
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

    def free(self, but: Member | None = None) -> Member | None:
        """Return the least busy member with a free slot, other than `but`."""
        return min(
            (member for member in self.members if member.free_slots > 0 and member is not but),
            key=lambda member: len(member.jobs),
            default=None,
        )

    # ---- starting -----------------------------------------------------------------------------

    async def start(self, urgency: int = REPLACEMENT) -> None:
        """Start every replica, and wait until each is warm or failed.

        Args:
            urgency: Whose turn it is where starts wait for each other; see `StartGate`.

        Raises:
            ReplicaStartError: The declaration of the voice is wrong.

        """
        starts = [self._start(member, urgency) for member in self.members]
        for error in await asyncio.gather(*starts):
            if error is not None and error.declaration_at_fault:
                raise error

    def _add(self) -> Member:
        member = Member(self._place.take(self._spec), self._listener, self._clock)
        self.members.append(member)
        return member

    def _start(self, member: Member, urgency: int | None = None) -> asyncio.Task[ReplicaStartError | None]:
        if urgency is None:  # a voice that does not start lets others go first
            urgency = BACKGROUND if self.capabilities is None else REPLACEMENT
        member.state, member.beat, member.prepared = MemberState.STARTING, None, None
        member.starting = asyncio.get_running_loop().create_task(self._bring_up(member, urgency))
        return member.starting

    async def _bring_up(self, member: Member, urgency: int) -> ReplicaStartError | None:
        """Start a replica and have it speak; the member is READY or WAITING afterwards."""
        replica: Replica | None = None
        try:
            async with self._place.gate.turn(urgency):
                began_ns = self._clock.now_ns()
                async with member.start_within(self._limits.warmup_timeout_s):
                    replica = await self._launch(self._spec, member)
                    member.warmed = asyncio.get_running_loop().create_future()
                    variant = replica.capabilities.default_variant
                    warm_up = SpeakRequest(
                        loudness.TEXT, variant, warm_up=True, sample_rate_hz=self._other_hz
                    )
                    replica.speak(WARM_UP_ID, warm_up)
                    await member.warmed
        except (ReplicaStartError, TimeoutError) as error:
            late = f"not warm after {self._limits.warmup_timeout_s:g} s"
            failure = error if isinstance(error, ReplicaStartError) else ReplicaStartError(late)
            _log.warning("replica does not start", replica=member.name, error=str(failure))
            self._discard(replica)
            self._not_started(member)
            return failure
        except asyncio.CancelledError:
            self._discard(replica)
            raise
        self._ready(member, replica)
        took_ms = (self._clock.now_ns() - began_ns) // 1_000_000
        _log.info("replica ready", replica=member.name, pid=replica.pid, took_ms=took_ms)
        self._listener.on_health()
        return None

    def _ready(self, member: Member, replica: Replica) -> None:
        member.replica, member.state = replica, MemberState.READY
        member.ready_ns = member.beat_ns = self._clock.now_ns()
        self.capabilities = replica.capabilities
        old, member.heir_of = member.heir_of, None
        if old is not None:
            self._leave(old)

    def _not_started(self, member: Member) -> None:
        if member.heir_of is not None:  # the old one goes on meanwhile
            self._marks.put_off()
            self._remove(member)
            return
        member.failures += 1
        self._listener.on_fault()
        self._wait(member)

    def _wait(self, member: Member) -> None:
        wait_s = min(_BACKOFF_FIRST_S * 2 ** min(member.failures - 1, 16), _BACKOFF_MOST_S)
        member.state = MemberState.WAITING
        member.retry_ns = self._clock.now_ns() + round(wait_s * 1e9)
        self._listener.on_health()

    def retry(self) -> None:
        """Start the members whose wait is over."""
        for member in self.members:
            if member.state is MemberState.WAITING and self._clock.now_ns() >= member.retry_ns:
                self._start(member)

    # ---- looking after them -------------------------------------------------------------------

    def look(self) -> list[tuple[Member, str]]:
        """Recycle what is above its mark, let go what has left; return who gives no sign of life, and why."""
        now_ns = self._clock.now_ns()
        held_up_ns = max(0, now_ns - self._looked_ns - _LATE_NS)
        self._looked_ns = now_ns
        limit_ns = round(self._limits.heartbeat_timeout_s * 1e9)
        lost = []
        for member in list(self.members):
            member.beat_ns += held_up_ns  # what it said meanwhile was not heard
            for job in member.jobs.values():
                job.heard_ns = min(now_ns, job.heard_ns + held_up_ns)
            if member.replica is not None and now_ns - member.beat_ns > limit_ns:
                self.stalled += 1
                lost.append((member, f"no heartbeat for {self._limits.heartbeat_timeout_s:g} s"))
            elif member.state is MemberState.READY and (reason := self._marks.above(member)):
                self._recycle(member, reason)
            elif member.state is MemberState.LEAVING and not member.jobs:
                self._let_go(member)
        return lost

    def _recycle(self, member: Member, reason: str) -> None:
        """Have a successor first, where the device has room for both; one member at a time."""
        if any(other.heir_of is not None or other.comes_back for other in self.members):
            return
        self._marks.recycling(member)
        self.recycled += 1
        _log.warning("replica is recycled", replica=member.name, reason=reason)
        if self._place.fits(self._spec):
            heir = self._add()
            heir.heir_of = member
            self._start(heir)
        else:
            member.comes_back = True
            self._leave(member)

    def _leave(self, member: Member) -> None:
        """Give it no more work; it is ended when its jobs have."""
        member.state = MemberState.LEAVING
        if not member.jobs:
            self._let_go(member)

    def _let_go(self, member: Member) -> None:
        replica, member.replica = member.replica, None
        self._discard(replica)
        if member.comes_back:
            member.comes_back = False
            self._start(member)
        else:
            self._remove(member)
        self._listener.on_health()

    def _remove(self, member: Member) -> None:
        member.state = MemberState.CLOSED
        self.members.remove(member)
        self._place.give_back(self._spec, member.name)

    def retire(self, member: Member, cause: Cause) -> None:
        """Give it no more work: it is at fault. It is to be replaced when its jobs have ended."""
        member.at_fault = member.at_fault or cause
        if member.state is not MemberState.LEAVING:
            member.state = MemberState.RETIRING

    def replace(self, member: Member, reason: str, cause: Cause) -> list[Job]:
        """Give up the member's replica, start another; return the jobs that it had."""
        replica, member.replica = member.replica, None
        cause, member.at_fault = member.at_fault or cause, None
        jobs = list(member.jobs.values())
        member.jobs.clear()
        if replica is None:
            return jobs
        _log.warning("replica lost", replica=member.name, pid=replica.pid, reason=reason)
        self._discard(replica)
        self.losses[cause.value] += 1
        heir = next((other for other in self.members if other.heir_of is member), None)
        if heir is not None or (member.state is MemberState.LEAVING and not member.comes_back):
            if heir is not None:
                heir.heir_of = None
            self._remove(member)
            return jobs
        member.comes_back = False
        member.failures += 1
        if member.failures == 1:  # only a replica that keeps failing has to wait
            self._start(member)
        else:
            self._wait(member)
        return jobs

    # ---- more and fewer -----------------------------------------------------------------------

    def adopt(self, spec: VoiceSpec) -> None:
        """Take another number of replicas and other marks; the rest of `spec` is as it was."""
        self._spec = spec
        self._marks.adopt(spec)
        self.resize(spec.replicas)

    def resize(self, replicas: int) -> None:
        """Have so many: start more, or let the ones that matter least finish their work and go."""
        staying = [
            member
            for member in self.members
            if member.heir_of is None and (member.state is not MemberState.LEAVING or member.comes_back)
        ]
        for _ in range(replicas - len(staying)):
            self._start(self._add())
        staying.sort(key=lambda member: (member.state is MemberState.READY, len(member.jobs)))
        for member in staying[: max(0, len(staying) - replicas)]:
            self._dismiss(member)

    def _dismiss(self, member: Member) -> None:
        member.comes_back = False
        for heir in [other for other in self.members if other.heir_of is member]:
            self._dismiss(heir)
        if member.replica is not None:
            self._leave(member)
            return
        self._give_up(member)
        self._remove(member)

    def _give_up(self, member: Member) -> None:
        if member.starting is not None and not member.starting.done():
            member.starting.cancel()
            self._ending.add(member.starting)
            member.starting.add_done_callback(self._ending.discard)

    def _discard(self, replica: Replica | None) -> None:
        if replica is not None:
            replica.kill()
            _spawn(replica.close(), self._ending)

    async def close(self) -> None:
        """End every replica and wait until each process is gone; after a cancelled call once more."""
        members, self.members = self.members, []
        for member in members:
            replica, member.state, member.replica = member.replica, MemberState.CLOSED, None
            if replica is not None:
                _spawn(replica.close(), self._ending)
            self._give_up(member)
        while self._ending:  # a start that is given up has a replica to end, too
            await asyncio.wait(self._ending)
        for member in members:
            self._place.give_back(self._spec, member.name)


def _spawn(work: Coroutine[Any, Any, Any], tasks: set[asyncio.Task[Any]]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
