"""What one voice does for a chunk, and who hears of it: the parts of `services.tts.core.relay`."""

from typing import TYPE_CHECKING, Protocol

from services.tts.core.job import Job, JobEnd, Lease
from services.tts.core.model import SpeakRequest, Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.tts.core.job import JobListener
    from services.tts.core.model import Together
    from services.tts.core.relay import Relay
    from services.tts.core.speaker import Speaker


class LeaseObserver(Protocol):
    """Who watches one lease of a chunk, for traces. Calls must not raise."""

    def together(self, together: "Together", others: "Sequence[LeaseObserver]") -> None:
        """The engine advanced it together with others, which are told nothing."""
        ...

    def end(self, lost: str = "", end: JobEnd | None = None) -> None:
        """It is over: `lost` says why the replica was; `end` is that of the voice's part in the chunk."""
        ...


class RelayListener(Protocol):
    """Who hears a relay. Samples and text are those of the chunk."""

    def leased(self, lease: Lease) -> None:
        """A replica speaks it; again after one was lost."""
        ...

    def frame(self, leg: "Leg", offset_samples: int, pcm: bytes) -> None:
        """The next audio: no gap and no overlap."""
        ...

    def words(self, words: list[Word]) -> None:
        """Times of further words."""
        ...

    def lost(self, replica: str, reason: str) -> None:
        """A replica was lost."""
        ...

    def moved(self, speaker: "Speaker", reason: str) -> None:
        """Another voice goes on, or the same one at a whole word."""
        ...

    def hedged(self, replica: str) -> None:
        """A second replica was asked, because the first is late."""
        ...

    def watch(self, leg: "Leg", replica: str) -> "LeaseObserver":
        """Return who watches a lease of a leg."""
        ...

    def ended(self, end: JobEnd) -> None:
        """The end; last of all. The figures of `end` are those of the last leg."""
        ...


class Leg:
    """What one voice does for a chunk. Hears its job; its fields are the relay's."""

    def __init__(self, relay: "Relay", place: int, speaker: "Speaker", request: SpeakRequest) -> None:
        self.place = place
        """Where in the order its voice stands."""
        self.speaker = speaker
        self.request = request
        self.text_offset = 0
        """Code points of the chunk before its text."""
        self.base_samples = 0
        """Samples of the chunk before its first."""
        self.told: list[Word] = []
        """Its words, as it told them."""
        self.lease: Lease | None = None
        self.job: Job | None = None
        self.heard = False
        """True once a frame came."""
        self.end: JobEnd | None = None
        self.reserved_us: int | None = None
        """For the second one of a hedge: what was set aside for it."""
        self.watch: LeaseObserver | None = None
        """Watches its present lease."""
        self._relay = relay

    @property
    def begun_at(self) -> int:
        """The sample of the chunk at which its audio begins."""
        return self.base_samples + self.request.start_offset_samples

    def job_leased(self, lease: Lease) -> None:
        """See `JobListener`."""
        self.lease = lease
        if self.watch is not None:
            self.watch.end()  # it was taken from it while its listener was slow
        self.watch = self._relay.watch(self, lease)
        self._relay.leg_leased(self, lease)

    def job_frame(self, offset_samples: int, pcm: bytes) -> None:
        """See `JobListener`."""
        self._relay.leg_frame(self, offset_samples, pcm)

    def job_words(self, words: list[Word]) -> None:
        """See `JobListener`."""
        self.told += words
        self._relay.leg_words(self, words)

    def job_lost(self, replica: str, reason: str) -> None:
        """See `JobListener`."""
        self._unwatch(lost=reason)
        self._relay.leg_lost(self, replica, reason)

    def job_together(self, together: "Together", others: "Sequence[JobListener]") -> None:
        """See `JobListener`."""
        watches = [leg.watch for leg in others if isinstance(leg, Leg) and leg.watch is not None]
        if self.watch is not None and watches:
            self.watch.together(together, watches)

    def _unwatch(self, *, lost: str = "", end: JobEnd | None = None) -> None:
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.end(lost, end)

    def job_ended(self, end: JobEnd) -> None:
        """See `JobListener`."""
        self.end = end
        self.job = None
        self._unwatch(end=end)
        self._relay.leg_ended(self, end)
