"""The chunks that wait for a lease, and when a new one would be heard.

    late   deadline has passed       fair between callers (`voicemesh.fairness`), then by deadline
    due    deadline within 10 s      by deadline
    free   later: nobody waits       fair between callers, then by deadline

Callers' accounts are charged with what a chunk is expected to cost when it is leased, and put right at its
end. The same costs predict the first frame of a chunk that is about to be queued.

The pools of the TTS service lease by it, and so does the simulation of `voicemesh.capacity`: standard library
only, and times are passed in.
"""

from bisect import bisect_left, bisect_right, insort
from typing import Final, Generic, Protocol, TypeVar

from voicemesh.fairness import EQUAL_NS, Account, Shares

_DUE_NS: Final = 10_000_000_000
_WEIGHT: Final = 0.2
_OUTLIER: Final = 3.0
"""One chunk counts at most as this many usual ones."""


class Leasable(Protocol):
    """What waits: a chunk, in whichever form."""

    id: int
    """In order of arrival."""
    deadline_ns: int
    """When its listener runs dry."""
    account: Account | None
    """Its caller's share of the engines; from `LeaseQueue.enter` to `LeaseQueue.leave`."""
    charged_ns: int
    """What the account was charged with for the present lease."""

    @property
    def caller(self) -> str:
        """Whose it is."""
        ...


JobT = TypeVar("JobT", bound=Leasable)


class Usual:
    """A duration as it mostly is: a mean that forgets, and that one outlier does not move far."""

    def __init__(self) -> None:
        self.ns = 0.0
        """0 before anything was learned."""

    def learn(self, ns: int) -> None:
        """Take one duration."""
        if not self.ns:
            self.ns = float(ns)
        self.ns += _WEIGHT * (min(ns, _OUTLIER * self.ns) - self.ns)


class LeaseQueue(Generic[JobT]):
    """Jobs in the order of their leases. A job is entered once, added once or more, and left once."""

    def __init__(self) -> None:
        self.first_frame = Usual()
        """From a lease to its first frame."""
        self.lease = Usual()
        """How long a chunk holds a slot."""
        self._engine = Usual()
        self._shares = Shares()
        self._callers: dict[str, list[tuple[int, int, JobT]]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return self._count

    # ---- jobs ---------------------------------------------------------------------------------

    def enter(self, job: JobT) -> None:
        """Take note of a new job."""
        job.account = self._shares.open(job.caller)
        self._shares.want(job.account)

    def add(self, job: JobT) -> None:
        """Queue a job."""
        waiting = self._callers.setdefault(job.caller, [])
        insort(waiting, (job.deadline_ns, job.id, job))
        self._count += 1

    def remove(self, job: JobT) -> None:
        """Take a job that waits out of the queue."""
        waiting = self._callers[job.caller]
        del waiting[bisect_left(waiting, (job.deadline_ns, job.id))]
        if not waiting:
            del self._callers[job.caller]
        self._count -= 1

    def pop(self, now_ns: int) -> JobT:
        """Take the job that is to be leased now."""
        heads = (waiting[0][2] for waiting in self._callers.values())
        job = min(heads, key=lambda job: self._rank(job, now_ns))
        self.remove(job)
        job.charged_ns = int(self._engine.ns)
        assert job.account is not None
        self._shares.charge([job.account], job.charged_ns)
        return job

    def drain(self) -> list[JobT]:
        """Take all that wait, by deadline."""
        jobs = sorted(
            (job for waiting in self._callers.values() for _, _, job in waiting),
            key=lambda job: (job.deadline_ns, job.id),
        )
        self._callers.clear()
        self._count = 0
        return jobs

    def spoke(self, job: JobT, engine_ns: int) -> None:
        """Take what the engine did for a job under one lease."""
        assert job.account is not None
        self._shares.correct(job.account, engine_ns - job.charged_ns)
        job.charged_ns = 0
        self._engine.learn(engine_ns)

    def lost(self, job: JobT) -> None:
        """Take back what a job was charged with under a lease that broke: no fault of its caller."""
        assert job.account is not None
        self._shares.correct(job.account, -job.charged_ns)
        job.charged_ns = 0

    def leave(self, job: JobT) -> None:
        """Take the end of a job."""
        assert job.account is not None
        self._shares.unwant(job.account)
        self._shares.close(job.account)
        job.account = None

    def _rank(self, job: JobT, now_ns: int) -> tuple[int, int, int, int]:
        slack_ns = job.deadline_ns - now_ns
        if 0 < slack_ns <= _DUE_NS:
            return (1, 0, job.deadline_ns, job.id)
        assert job.account is not None
        return (0 if slack_ns <= 0 else 2, self._shares.ahead(job.account), job.deadline_ns, job.id)

    # ---- predictions --------------------------------------------------------------------------

    def first_frame_ns(self, caller: str, deadline_ns: int, now_ns: int, slots: int) -> int:
        """Return when a new job would be heard where all `slots` are taken; `now_ns` where unknown."""
        if not self.first_frame.ns or not self.lease.ns:
            return now_ns
        places = self._before(caller, deadline_ns, now_ns) + 1
        return now_ns + int(places * self.lease.ns / max(slots, 1) + self.first_frame.ns)

    def _before(self, caller: str, deadline_ns: int, now_ns: int) -> int:
        """Return how many of those that wait would be leased before a new job."""
        counts = {
            name: bisect_right(waiting, deadline_ns, key=_deadline) for name, waiting in self._callers.items()
        }
        if deadline_ns > now_ns:
            return sum(counts.values())
        # Late: callers take turns, and who had more than the others lets them go first.
        own = counts.pop(caller, 0)
        ahead = self._shares.ahead_of(caller)
        cost = max(self._engine.ns, 1)
        return own + sum(
            min(count, own + 1 + int(max(0, ahead - self._shares.ahead_of(name)) * EQUAL_NS / cost))
            for name, count in counts.items()
            if own or self._shares.ahead_of(name) <= ahead
        )


def _deadline(entry: tuple[int, int, object]) -> int:
    return entry[0]
