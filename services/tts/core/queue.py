"""The chunks that wait for a lease, and when a new one would be heard.

    late   deadline has passed       fair between callers (`services.tts.fairness`), then by deadline
    due    deadline within 10 s      by deadline
    free   later: nobody waits       fair between callers, then by deadline

Callers' accounts are charged with what a chunk is expected to cost when it is leased, and put right at its
end. The same costs predict the first frame of a chunk that is about to be queued.
"""

from bisect import bisect_left, bisect_right, insort
from typing import Final

from services.tts.core.job import Job
from services.tts.fairness import EQUAL_NS, Shares
from voicemesh.runtime.errors import QueueFullError

_DUE_NS: Final = 10_000_000_000
_ASSUMED_NS: Final = 100_000_000
"""What a lease is taken to last before anything was learned."""
_WEIGHT: Final = 0.2
_OUTLIER: Final = 3.0
"""One chunk counts at most as this many usual ones."""


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


class JobQueue:
    """Jobs in the order of their leases. A job is entered once, added once or more, and left once.

    Args:
        voice: Who speaks, for messages.
        max_lateness_ms: See `Limits`.

    """

    def __init__(self, voice: str, max_lateness_ms: int) -> None:
        self._voice = voice
        self._max_lateness_ms = max_lateness_ms
        self.first_frame = Usual()
        """From a lease to its first frame."""
        self.lease = Usual()
        """How long a chunk holds a slot."""
        self._engine = Usual()
        self._shares = Shares()
        self._callers: dict[str, list[tuple[int, int, Job]]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return self._count

    # ---- jobs ---------------------------------------------------------------------------------

    def enter(self, job: Job) -> None:
        """Take note of a new job."""
        job.account = self._shares.open(job.request.caller)
        self._shares.want(job.account)

    def add(self, job: Job) -> None:
        """Queue a job."""
        waiting = self._callers.setdefault(job.request.caller, [])
        insort(waiting, (job.deadline_ns, job.id, job))
        self._count += 1

    def remove(self, job: Job) -> None:
        """Take a job that waits out of the queue."""
        waiting = self._callers[job.request.caller]
        del waiting[bisect_left(waiting, (job.deadline_ns, job.id))]
        if not waiting:
            del self._callers[job.request.caller]
        self._count -= 1

    def pop(self, now_ns: int) -> Job:
        """Take the job that is to be leased now."""
        heads = (waiting[0][2] for waiting in self._callers.values())
        job = min(heads, key=lambda job: self._rank(job, now_ns))
        self.remove(job)
        job.charged_ns = int(self._engine.ns)
        assert job.account is not None
        self._shares.charge([job.account], job.charged_ns)
        return job

    def drain(self) -> list[Job]:
        """Take all that wait."""
        jobs = sorted((job for waiting in self._callers.values() for _, _, job in waiting), key=Job.sort_key)
        self._callers.clear()
        self._count = 0
        return jobs

    def spoke(self, job: Job, engine_ns: int) -> None:
        """Take what the engine did for a job under one lease."""
        assert job.account is not None
        self._shares.correct(job.account, engine_ns - job.charged_ns)
        job.charged_ns = 0
        self._engine.learn(engine_ns)

    def lost(self, job: Job) -> None:
        """Take back what a job was charged with under a lease that broke: no fault of its caller."""
        assert job.account is not None
        self._shares.correct(job.account, -job.charged_ns)
        job.charged_ns = 0

    def leave(self, job: Job) -> None:
        """Take the end of a job."""
        assert job.account is not None
        self._shares.unwant(job.account)
        self._shares.close(job.account)
        job.account = None

    def _rank(self, job: Job, now_ns: int) -> tuple[int, int, int, int]:
        slack_ns = job.deadline_ns - now_ns
        if 0 < slack_ns <= _DUE_NS:
            return (1, 0, job.deadline_ns, job.id)
        assert job.account is not None
        return (0 if slack_ns <= 0 else 2, self._shares.ahead(job.account), job.deadline_ns, job.id)

    # ---- predictions --------------------------------------------------------------------------

    def wait_us(self, slots: int) -> int:
        """Return how long a new chunk would wait behind all others, where all `slots` are taken."""
        return int((self._count + 1) * (self.lease.ns or _ASSUMED_NS) / max(slots, 1)) // 1000

    def first_frame_ns(self, caller: str, deadline_ns: int, now_ns: int, slots: int) -> int:
        """Return when a new job would be heard where all `slots` are taken; `now_ns` where unknown."""
        if not self.first_frame.ns or not self.lease.ns:
            return now_ns
        places = self._before(caller, deadline_ns, now_ns) + 1
        return now_ns + int(places * self.lease.ns / max(slots, 1) + self.first_frame.ns)

    def refuse_late(self, caller: str, deadline_ns: int, now_ns: int, slots: int) -> None:
        """Look at a new job before it is queued, where all `slots` are taken.

        Raises:
            QueueFullError: Its first audio is expected more than the limit after it is due.

        """
        expected_ns = self.first_frame_ns(caller, deadline_ns, now_ns, slots)
        late_ms = (expected_ns - max(deadline_ns, now_ns)) // 1_000_000
        if late_ms <= self._max_lateness_ms:
            return
        raise QueueFullError(
            f"the first audio of this chunk is expected in {(expected_ns - now_ns) / 1e9:.1f} s, which is "
            f"{late_ms / 1000:.1f} s after it is due; the limit is {self._max_lateness_ms / 1000:g} s, and "
            f"{self._count} chunks wait for the voice {self._voice!r}",
            retry_after_ms=min(max(late_ms - self._max_lateness_ms, 50), 10_000),
        )

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


def _deadline(entry: tuple[int, int, Job]) -> int:
    return entry[0]
