"""A pool of scripted replicas, and who hears its jobs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.tts.core.job import Job, JobEnd, JobListener, JobState, Lease
from services.tts.core.model import SpeakRequest, Together, Word
from services.tts.core.pool import Pool
from tests.unit.tts.scripted import CAPABILITIES, LIMITS, SPEC, Changes, ScriptedLauncher, ScriptedReplica
from voicemesh.runtime.clock import ManualClock


@dataclass
class Ear:
    """A `JobListener` that keeps what it hears."""

    leases: list[Lease] = field(default_factory=list)
    samples: int = 0
    offsets: list[int] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    end: JobEnd | None = None
    together: list[tuple[Together, int]] = field(default_factory=list)

    def goes_on(self) -> bool:
        return self.end is None

    def job_leased(self, lease: Lease) -> None:
        self.leases.append(lease)

    def job_frame(self, offset_samples: int, pcm: bytes) -> None:
        assert self.end is None
        self.offsets.append(offset_samples)
        self.samples += len(pcm) // 2

    def job_words(self, words: list[Word]) -> None:
        self.words += words

    def job_lost(self, replica: str, reason: str) -> None:
        self.lost.append(replica)

    def job_together(self, together: Together, others: Sequence[JobListener]) -> None:
        self.together.append((together, len(others)))

    def job_ended(self, end: JobEnd) -> None:
        assert self.end is None
        self.end = end


def state_of(job: Job) -> JobState:
    return job.state


class World:
    def __init__(self, replicas: int = 1, slots: int = 1, **limits: Any) -> None:
        self.clock = ManualClock(1_000_000_000)
        self.launcher = ScriptedLauncher(CAPABILITIES._replace(slots=slots))
        self.changes = Changes()
        spec = replace(SPEC, replicas=replicas)
        self.pool = Pool(spec, self.launcher, self.clock, replace(LIMITS, **limits), self.changes)

    async def start(self) -> "World":
        await self.pool.start()
        return self

    def submit(self, text: str = "text", deadline_ms: int = 0, start: int = 0) -> tuple[Job, Ear]:
        ear = Ear()
        request = SpeakRequest(text, "en-us", start_offset_samples=start)
        return self.pool.submit(request, self.clock.now_ns() + deadline_ms * 1_000_000, ear), ear

    def replica(self, index: int = -1) -> ScriptedReplica:
        return self.launcher.replicas[index]

    def pass_ms(self, ms: int) -> None:
        """Let time pass as it does: with heartbeats, and a tick of the service's timer now and then."""
        for begin in range(0, ms, 500):
            self.clock.advance_ms(min(500, ms - begin))
            for replica in self.launcher.replicas:
                replica.beat()
            self.pool.tick()

    def healthy(self) -> bool:
        return self.pool.replicas.healthy

    async def replicas_ready(self, count: int) -> None:
        await self.changes.until(lambda: self.pool.snapshot().ready_replicas == count)
