"""The chunks of a pool that wait for a lease, by `voicemesh.lease_queue`; who comes too late is refused."""

from typing import Final

from services.tts.core.job import Job
from voicemesh.lease_queue import LeaseQueue
from voicemesh.runtime.errors import QueueFullError

_ASSUMED_NS: Final = 100_000_000
"""What a lease is taken to last before anything was learned."""


class JobQueue(LeaseQueue[Job]):
    """Jobs in the order of their leases.

    Args:
        voice: Who speaks, for messages.
        max_lateness_ms: See `Limits`.

    """

    def __init__(self, voice: str, max_lateness_ms: int) -> None:
        super().__init__()
        self._voice = voice
        self._max_lateness_ms = max_lateness_ms

    def wait_us(self, slots: int) -> int:
        """Return how long a new chunk would wait behind all others, where all `slots` are taken."""
        return int((len(self) + 1) * (self.lease.ns or _ASSUMED_NS) / max(slots, 1)) // 1000

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
            f"{len(self)} chunks wait for the voice {self._voice!r}",
            retry_after_ms=min(max(late_ms - self._max_lateness_ms, 50), 10_000),
        )
