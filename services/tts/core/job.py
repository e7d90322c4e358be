"""One chunk in the pool: from its place in the queue, over one lease or several, to its end."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.tts.core.model import Done, SpeakRequest, Together, Word
from voicemesh.fairness import Account
from voicemesh.runtime.errors import MeshError
from voicemesh.runtime.logs import concerns


class JobState(enum.Enum):
    """Where a job is.

    QUEUED ──lease──> RUNNING ──> ENDED            (done, failed for good)
      ^ ^               │ │
      │ └─replica lost──┘ ├─cancel──> CANCELLING ──> ENDED     (the worker acknowledged, or is lost)
      │                   │
      └── PARKED <────────┴─yield───> YIELDING                 (window is full, others wait)
    """

    QUEUED = enum.auto()
    RUNNING = enum.auto()
    CANCELLING = enum.auto()
    YIELDING = enum.auto()
    PARKED = enum.auto()
    ENDED = enum.auto()


@dataclass(frozen=True, slots=True)
class Lease:
    """A replica is held for a job."""

    replica: str
    leased_ns: int


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended."""

    ended_ns: int
    cancelled: bool = False
    error: MeshError | None = None
    resumed: int = 0
    """Replicas that were lost on it."""
    lost: int = 0
    """The same, and those of the chunk's jobs at this voice before it."""
    again: bool = False
    """True where the voice may be asked again, though not for the same samples."""
    elsewhere: bool = False
    """True where another voice that is free is the better one to ask."""
    made_samples: int = 0
    """Samples that engines made for it, those made twice counted twice."""
    engine_us: int = 0
    """How long engines were busy with it."""


class JobListener(Protocol):
    """Who hears a job."""

    def job_leased(self, lease: Lease) -> None:
        """A replica is held for it; again after one was lost."""
        ...

    def job_frame(self, offset_samples: int, pcm: bytes) -> None:
        """The next audio: no gap and no overlap, whatever happens to replicas."""
        ...

    def job_words(self, words: list[Word]) -> None:
        """Times of further words, none twice."""
        ...

    def job_lost(self, replica: str, reason: str) -> None:
        """The replica was lost; another will go on."""
        ...

    def job_together(self, together: Together, others: "Sequence[JobListener]") -> None:
        """The engine advanced it together with those of `others`; told to one of them."""
        ...

    def job_ended(self, end: JobEnd) -> None:
        """The end; last of all."""
        ...


class Job:
    """One chunk in the pool. Made by `Pool.submit`; its fields are the pool's."""

    def __init__(self, job_id: int, request: SpeakRequest, deadline_ns: int, listener: JobListener) -> None:
        self.id = job_id
        self.request = request
        self.deadline_ns = deadline_ns
        self.listener = listener
        self.about = concerns()
        """The turn, for lines of the log that are written far from its call."""
        self.state = JobState.QUEUED
        self.lost = request.attempt
        self.probe = False
        """True where it shows whether the engine is well again."""
        self.once = False
        """True while it is not worth another replica: another job does the same."""
        self.next_offset = request.start_offset_samples
        """Where the next frame begins."""
        self.credit = request.window_samples
        """Samples that may still come before the listener took some."""
        self.leased_ns = 0
        self.heard_ns = 0
        """When the replica last said something or began to owe audio."""
        self.made_samples = 0
        self.engine_us = 0
        self.account: Account | None = None
        """Its caller's share of the engines; from `LeaseQueue.enter` to `LeaseQueue.leave`."""
        self.charged_ns = 0
        """What the account was charged with for the present lease."""
        self._words_end = -1
        self._words_at = 0
        self._lease_offset = 0

    @property
    def caller(self) -> str:
        """Whose it is."""
        return self.request.caller

    def next_request(self) -> SpeakRequest:
        """What to ask of the next replica: the text from where the last one stopped."""
        self._lease_offset = self.next_offset
        return self.request._replace(
            attempt=self.lost, start_offset_samples=self.next_offset, window_samples=max(self.credit, 1)
        )

    @property
    def first_of_lease(self) -> bool:
        """True until the present lease brought audio."""
        return self.next_offset == self._lease_offset

    def take_frame(self, offset_samples: int, samples: int) -> bool:
        """Note a frame; return False where it is not the next one."""
        if offset_samples != self.next_offset:
            return False
        self.next_offset += samples
        self.credit -= samples
        return True

    def take_words(self, words: list[Word]) -> list[Word]:
        """Return those of `words` that are new and not before the caller's offset."""
        fresh = []
        for word in words:
            if word.text_offset <= self._words_end:
                continue
            self._words_end = word.text_offset
            # Two replicas may estimate differently; what is told stays in order.
            self._words_at = max(self._words_at, word.offset_samples)
            if word.offset_samples >= self.request.start_offset_samples:
                fresh.append(word._replace(offset_samples=self._words_at))
        return fresh

    def take_end(self, done: Done) -> None:
        """Add up what one lease cost."""
        self.made_samples += done.made_samples
        self.engine_us += done.engine_us

    def take_loss(self, now_ns: int) -> None:
        """Add up what a lease cost that ended without a report: the clock and the frames tell."""
        self.lost += 1
        self.made_samples += self.next_offset - self._lease_offset
        self.engine_us += (now_ns - self.leased_ns) // 1000
