"""The pool of one declared voice: who gets which replica next, and what becomes of lost ones' chunks.

Leases go out in order of deadline, and fair between callers where several are late or nobody waits
(`services.tts.core.queue`). A chunk that would be heard too late is refused at once. A lease is held
for one chunk; it comes back when the worker said that the chunk ended, so that a replica is idle
whenever it is free.

A replica that dies, or owes audio and says nothing, is replaced at once. One that reports an error,
or ends a speakable text without a sample, takes no new chunk and is replaced when its others have
ended. In both cases the chunk goes on elsewhere, at the sample behind the last one that came.

Each of that is a fault, and so is a replica that does not start: a pool with many faults takes no
chunk for a while (`voicemesh.runtime.breaker`), and those that wait are given back.

A chunk whose listener is slow fills its window and stops; when others wait, its lease is taken from
it after a moment, and it goes on at its sample offset once its listener took half of the window, in
its turn by what the listener still has to play.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from services.tts.core.figures import OnBatches, PoolStats, unheard
from services.tts.core.job import Job, JobEnd, JobListener, JobState, Lease
from services.tts.core.model import Done, Fault, Launcher, Limits, SpeakRequest, VoiceSpec, Word
from services.tts.core.queue import JobQueue
from services.tts.core.replicas import Cause, Member, MemberState, Replicas
from services.tts.core.starting import REPLACEMENT, Place
from services.tts.core.uses import Use
from services.tts.text import speakable
from voicemesh.runtime.breaker import Breaker, BreakerState
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import DrainingError, MeshError, NoEngineError, QueueFullError
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)

_SLOW_NS: Final = 100_000_000
"""A full window is a slow listener after 100 ms; before that its answer may be on its way."""


class Pool:
    """Leases of the replicas of one declared voice.

    Args:
        spec: The voice.
        launch: Starts a replica.
        clock: For every time but the limit of a start.
        limits: See `Limits`.
        changed: Called when `healthy` may have changed.
        place: See `Replicas`.
        on_batches: Hears of batches that replicas ran.

    """

    def __init__(
        self,
        spec: VoiceSpec,
        launch: Launcher,
        clock: Clock,
        limits: Limits,
        changed: Callable[[], None],
        place: Place | None = None,
        on_batches: OnBatches = unheard,
    ) -> None:
        self.spec = spec
        self.replicas = Replicas(spec, launch, clock, limits, self, place)
        self.stats = PoolStats(spec.name)
        self.breaker = Breaker(spec.breaker, clock)
        self.users = 0
        """Turns and batches that speak with it."""
        self._clock = clock
        self._limits = limits
        self._changed = changed
        self._on_batches = on_batches
        self._queue = JobQueue(spec.name, limits.max_lateness_ms)
        self._parked: set[Job] = set()
        self._next_id = 1
        self._open_jobs = 0
        self._closed = False

    async def start(self, urgency: int = REPLACEMENT) -> None:
        """Start the replicas; see `Replicas.start`."""
        await self.replicas.start(urgency)

    async def close(self) -> None:
        """End the replicas; jobs that are left end as cancelled."""
        self._closed = True
        jobs = [*self._queue.drain(), *self._parked]
        self._parked.clear()
        for member in self.replicas.members:
            jobs += member.jobs.values()
            member.jobs.clear()
        for job in jobs:
            job.state = JobState.ENDED  # the end of one may lead to the cancel of another
        for job in jobs:
            self._end(job, cancelled=True)
        await self.replicas.close()

    def use(self) -> Use:
        """Begin to speak with it: a pool that drains is there until the last use has ended."""
        return Use(self)

    def adopt(self, spec: VoiceSpec) -> None:
        """Have another number of replicas, other marks or other fallbacks from now on."""
        if spec.breaker != self.spec.breaker:
            self.breaker.adopt(spec.breaker)
        self.spec = spec
        self.replicas.adopt(spec)

    @property
    def idle(self) -> bool:
        """Whether no chunk of it is asked for."""
        return not self._open_jobs

    def tick(self) -> None:
        """Find replicas that stall and those whose next try is due. Called a few times a second."""
        self.replicas.retry()
        for member, reason in self.replicas.look():
            self._replace(member, reason, Cause.NO_HEARTBEAT)
        self._dispatch()
        for member in list(self.replicas.members):
            if limit_s := member.stalled_s(self._limits):
                self.replicas.stalled += 1
                self._replace(member, f"it said nothing for {limit_s:g} s", Cause.STALLED)

    # ---- what listeners ask for ---------------------------------------------------------------

    @property
    def queued(self) -> int:
        """How many chunks wait for a lease."""
        return len(self._queue)

    def spare(self, beside: Job | None = None) -> bool:
        """Return whether a chunk would have a lease at once; `beside` a job, at another replica than that."""
        takes = not (self._closed or self._queue) and self.breaker.state is BreakerState.CLOSED
        return takes and self.replicas.free(self._beside(beside)) is not None

    def _beside(self, job: Job | None) -> Member | None:
        return next((member for member in self.replicas.members if job and job.id in member.jobs), None)

    def submit(
        self,
        request: SpeakRequest,
        deadline_ns: int,
        listener: JobListener,
        beside: Job | None = None,
        *,
        once: bool = False,
        admitted: bool = False,
    ) -> Job:
        """Queue a chunk; it may be leased, and `listener` called, before this returns.

        Args:
            request: What to speak. Its `caller` shares the replicas with others; its `attempt` says how
                many replicas were lost on it before.
            deadline_ns: When its first audio is due.
            listener: Hears the job.
            beside: Another job, at whose replica it is not to be spoken. `spare` says that there is one.
            once: See `Job.once`.
            admitted: True where its caller is being spoken for: the chunk is not refused for being late.

        Raises:
            QueueFullError: Too many chunks wait already, or this one would be heard too late.
            NoEngineError: No replica runs, and none is about to; or the breaker is open.
            DrainingError: The pool is closed.

        """
        if self._closed:
            raise DrainingError(f"the model of the voice {self.spec.name!r} is not loaded any more")
        if not self.replicas.healthy:
            raise self._no_engine()
        if not self.breaker.allows:
            raise self._broken()
        if len(self._queue) >= self._limits.max_queued_chunks:
            raise QueueFullError(
                f"{len(self._queue)} chunks wait for the voice {self.spec.name!r}, which is the limit",
                retry_after_ms=self._wait_ms(),
            )
        if not admitted and self._limits.max_lateness_ms and self.replicas.free() is None:
            self._queue.refuse_late(request.caller, deadline_ns, self._clock.now_ns(), self._slots())
        window = round(self._limits.buffer_s * (request.sample_rate_hz or self._rate_hz()))
        job = Job(self._next_id, request._replace(window_samples=window), deadline_ns, listener)
        self._next_id = self._next_id % 0xFFFFFFFF + 1
        self._open_jobs += 1
        self._queue.enter(job)
        job.once = once
        job.probe = self.breaker.admit()
        if beside is not None and (member := self.replicas.free(self._beside(beside))) is not None:
            self._lease(member, job)
        else:
            self._enqueue(job)
        return job

    def cancel(self, job: Job) -> None:
        """End a job. A queued one ends at once, a running one when its worker has stopped."""
        if job.state in (JobState.QUEUED, JobState.PARKED):
            if job.state is JobState.QUEUED:
                self._queue.remove(job)
            self._parked.discard(job)
            self._end(job, cancelled=True)
        elif job.state is JobState.RUNNING:
            self._stop(job, JobState.CANCELLING)
        elif job.state is JobState.YIELDING:
            job.state = JobState.CANCELLING

    def grant(self, job: Job, samples: int) -> None:
        """Say that the listener took `samples`: so much more may come."""
        if job.credit <= 0:
            job.heard_ns = self._clock.now_ns()  # from now on its replica owes audio again
        job.credit += samples
        if job.state is JobState.RUNNING:
            replica = self._member_of(job).replica
            if replica is not None:
                replica.grant(job.id, samples)
        elif job.state is JobState.PARKED:
            self._unpark(job)

    def _unpark(self, job: Job) -> None:
        window = job.request.window_samples
        if job.credit >= window // 2:
            in_hand_ns = (window - job.credit) * 1_000_000_000 // max(self._rate_hz(job), 1)
            job.deadline_ns = self._clock.now_ns() + in_hand_ns
            self._parked.discard(job)
            if self.replicas.healthy:
                self._enqueue(job)
            else:
                self._end(job, error=self._no_engine())

    def _stop(self, job: Job, state: JobState) -> None:
        job.state = state
        job.heard_ns = self._clock.now_ns()  # from now on its replica owes the acknowledgement
        replica = self._member_of(job).replica
        if replica is not None:
            replica.cancel(job.id)

    def _member_of(self, job: Job) -> Member:
        return next(member for member in self.replicas.members if job.id in member.jobs)

    def _rate_hz(self, job: Job | None = None) -> int:
        if job is not None and job.request.sample_rate_hz:
            return job.request.sample_rate_hz
        return self.replicas.capabilities.sample_rate_hz if self.replicas.capabilities else 0

    def _no_engine(self) -> NoEngineError:
        return NoEngineError(f"no replica of the voice {self.spec.name!r} is running", retry_after_ms=1000)

    def _broken(self) -> NoEngineError:
        """Say that nothing is asked of the engine for now."""
        message = f"the engine of the voice {self.spec.name!r} keeps failing"
        return NoEngineError(message, retry_after_ms=self.breaker.retry_after_ms or 1000)

    def _wait_ms(self) -> int:
        return min(max(self._queue.wait_us(self._slots()) // 1000, 50), 10_000)

    def _slots(self) -> int:
        slots = self.replicas.capabilities.slots if self.replicas.capabilities else 1
        return slots * max(1, self.replicas.count(MemberState.READY))

    # ---- leases -------------------------------------------------------------------------------

    def _enqueue(self, job: Job) -> None:
        job.state = JobState.QUEUED
        self._queue.add(job)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._queue and (member := self.replicas.free()) is not None:
            self._lease(member, self._queue.pop(self._clock.now_ns()))
        if self._queue:
            self._make_room()

    def _lease(self, member: Member, job: Job) -> None:
        assert member.replica is not None
        job.state = JobState.RUNNING
        job.leased_ns = job.heard_ns = self._clock.now_ns()
        member.jobs[job.id] = job
        request = job.next_request()
        self.replicas.is_asked_for(request.sample_rate_hz)
        member.replica.speak(job.id, request)
        job.listener.job_leased(Lease(member.name, job.leased_ns))

    def _make_room(self) -> None:
        """Take the lease of a job whose listener is slow: others wait."""
        now_ns = self._clock.now_ns()
        for member in self.replicas.members:
            if member.replica is None or not member.replica.capabilities.deterministic:
                continue
            for job in member.jobs.values():
                full = job.state is JobState.RUNNING and job.credit <= 0
                if full and now_ns - job.heard_ns >= _SLOW_NS:
                    self._stop(job, JobState.YIELDING)
                    return

    def _end(
        self,
        job: Job,
        *,
        cancelled: bool = False,
        error: MeshError | None = None,
        again: bool = False,
        elsewhere: bool = False,
    ) -> None:
        job.state = JobState.ENDED
        self._open_jobs -= 1
        self._queue.leave(job)
        if error is None and not cancelled:
            self.breaker.succeeded()
        elif job.probe:
            self.breaker.release()
        rate_hz = self._rate_hz(job)
        self.stats.synthesis_us += job.engine_us
        self.stats.audio_us += job.made_samples * 1_000_000 // rate_hz if rate_hz else 0
        job.listener.job_ended(
            JobEnd(
                self._clock.now_ns(),
                cancelled,
                error,
                resumed=job.lost - job.request.attempt,
                lost=job.lost,
                again=again,
                elsewhere=elsewhere,
                made_samples=job.made_samples,
                engine_us=job.engine_us,
            )
        )

    def _replace(self, member: Member, reason: str, cause: Cause) -> None:
        retired = member.state is MemberState.RETIRING  # why it did was counted then
        jobs = self.replicas.replace(member, reason, cause)
        if not retired:
            self.on_fault()
        for job in jobs:
            self._lose(job, member, reason)
        self.on_health()

    def _lose(self, job: Job, member: Member, reason: str) -> None:
        """Put a job that lost its replica back into the queue, or end it where it had its tries."""
        job.take_loss(self._clock.now_ns())
        self._queue.lost(job)
        if job.state is JobState.CANCELLING:
            self._end(job, cancelled=True)
            return
        job.listener.job_lost(member.name, reason)
        if job.lost > self._limits.max_attempts:
            message = f"{job.lost} replicas of the voice {self.spec.name!r} failed on it"
            self._end(job, error=NoEngineError(message))
        elif job.once:
            self._end(job, error=NoEngineError(reason))
        elif not self.replicas.healthy:
            self._end(job, error=self._no_engine())
        elif self.breaker.state is BreakerState.OPEN:
            self._end(job, error=self._broken())
        elif job.next_offset > job.request.start_offset_samples and not self._repeats():
            self._end(job, error=NoEngineError(reason), again=True)
        else:
            job.state = JobState.QUEUED
            self._queue.add(job)

    def _repeats(self) -> bool:
        """Return whether another replica can go on at the very sample."""
        return self.replicas.capabilities is not None and self.replicas.capabilities.deterministic

    def _retire(self, member: Member, job: Job, reason: str, cause: Cause = Cause.FAILED) -> None:
        """Give a member no more work, and replace it when it has none."""
        del member.jobs[job.id]
        self.replicas.retire(member, cause)
        self.on_fault()
        self._lose(job, member, reason)
        self._release(member, reason)

    def _release(self, member: Member, reason: str = "it retired") -> None:
        if member.state is MemberState.RETIRING and not member.jobs:
            self._replace(member, reason, Cause.FAILED)
        else:
            self._dispatch()

    # ---- what members say ---------------------------------------------------------------------

    def on_frame(self, member: Member, job: Job, offset_samples: int, pcm: bytes) -> None:
        """Take a frame of a job."""
        job.heard_ns = self._clock.now_ns()
        if job.state is JobState.CANCELLING:
            return
        if job.first_of_lease:
            self._queue.first_frame.learn(job.heard_ns - job.leased_ns)
        if not job.take_frame(offset_samples, len(pcm) // 2):
            reason = f"it sent sample {offset_samples} where {job.next_offset} was due"
            self._replace(member, reason, Cause.FAILED)
            return
        job.listener.job_frame(offset_samples, pcm)

    def on_words(self, job: Job, words: list[Word]) -> None:
        """Take words of a job."""
        job.heard_ns = self._clock.now_ns()
        if job.state is not JobState.CANCELLING and (fresh := job.take_words(words)):
            job.listener.job_words(fresh)

    def on_done(self, member: Member, job: Job, done: Done) -> None:
        """Take the end of a job: the lease is back."""
        cancelling = job.state is JobState.CANCELLING
        if not (cancelling or done.cancelled or done.made_samples) and speakable(job.request.text):
            self._retire(member, job, "it gave no audio for a text with words", Cause.SILENT)
            return
        if done.cancelled and job.state is JobState.RUNNING:
            self._retire(member, job, "it stopped unasked")
            return
        del member.jobs[job.id]
        job.take_end(done)
        self._queue.spoke(job, done.engine_us * 1000)
        if not done.cancelled:
            self._queue.lease.learn(self._clock.now_ns() - job.leased_ns)
            member.failures = 0
        if job.state is JobState.YIELDING and done.cancelled:
            job.state = JobState.PARKED
            self._parked.add(job)
            self._unpark(job)
        else:
            self._end(job, cancelled=cancelling)
        self._release(member)

    def on_failed(self, member: Member, job: Job, message: str, fault: Fault) -> None:
        """Take the failure of a job."""
        if fault not in (Fault.TEXT, Fault.REQUEST):
            self._retire(member, job, f"the engine failed: {message}")
            return
        del member.jobs[job.id]
        if fault is Fault.TEXT:
            error = NoEngineError(f"the voice {self.spec.name!r} cannot speak this text: {message}")
            self._end(job, error=error)
        else:
            self._fail_request(job, message)
        self._release(member)

    def _fail_request(self, job: Job, message: str) -> None:
        """End a job whose request failed at an engine that is well: that counts, and others may try."""
        self.on_fault()
        job.take_loss(self._clock.now_ns())
        _log.warning("request failed", voice=self.spec.name, reason=message, **job.about)
        if job.state is JobState.CANCELLING:
            self._end(job, cancelled=True)
            return
        error = NoEngineError(f"the voice {self.spec.name!r} failed: {message}", retry_after_ms=1000)
        again = not job.once and job.lost <= self._limits.max_attempts
        self._end(job, error=error, again=again, elsewhere=True)

    def on_lost(self, member: Member, reason: str) -> None:
        """Take the end of a replica's process."""
        self._replace(member, reason, Cause.DIED)

    def on_batches(self, sizes: Mapping[int, int]) -> None:
        """Take what a replica told of its batches."""
        self._on_batches(self.spec.name, sizes)

    def on_fault(self) -> None:
        """Count a fault of the engine; when the breaker opens by it, give back what waits."""
        if self.breaker.failed():
            retry_after_ms = self.breaker.retry_after_ms
            _log.warning("engine left alone", voice=self.spec.name, retry_after_ms=retry_after_ms)
            for job in self._queue.drain():
                self._end(job, error=self._broken())

    def on_health(self) -> None:
        """Give out leases, or end what waits in vain."""
        if not self.replicas.healthy:
            for job in self._queue.drain():
                self._end(job, error=self._no_engine())
        self._dispatch()
        self._changed()

    # ---- figures ------------------------------------------------------------------------------

    def snapshot(self) -> PoolStats:
        """Return the present figures."""
        members = self.replicas.members
        slots = self.replicas.capabilities.slots if self.replicas.capabilities else 0
        ready = self.replicas.count(MemberState.READY)
        return replace(
            self.stats,
            ready_replicas=ready,
            starting_replicas=self.replicas.count(
                MemberState.STARTING, MemberState.WAITING, MemberState.RETIRING
            ),
            active_leases=sum(len(member.jobs) for member in members),
            queued_chunks=len(self._queue),
            replaced_replicas=self.stats.replaced_replicas + self.replicas.losses.total(),
            losses=self.stats.losses + self.replicas.losses,
            stalled_replicas=self.stats.stalled_replicas + self.replicas.stalled,
            recycled_replicas=self.stats.recycled_replicas + self.replicas.recycled,
            worker_pids=self.replicas.pids(),
            slots=slots * ready,
            wait_us=0 if self.replicas.free() is not None else self._queue.wait_us(self._slots()),
            declared_replicas=self.spec.replicas,
            replicas=tuple(member.stats() for member in members),
            breaker=self.breaker.state.value,
            breaker_opened=self.stats.breaker_opened + self.breaker.opened,
        )
