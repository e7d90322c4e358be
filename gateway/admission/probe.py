"""What one turn shows of the load, told to the door as it happens. Nothing is asked for it."""

from typing import Final

from gateway.admission.door import LIGHT, Door, Place
from gateway.core import actions as do
from gateway.core import events as on
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import MeshError

_REFUSED_MS: Final = 10_000.0
"""A chunk that the TTS service refused for its queue is as late as this."""


class Probe:
    """Watches one turn.

    Args:
        door: Learns from it.
        place: The turn's; it counts less while the turn is given from the cache.
        voice: Who speaks.
        clock: Stamps everything.

    """

    def __init__(self, door: Door, place: Place, voice: str, clock: Clock) -> None:
        self._door = door
        self._place = place
        self._voice = voice
        self._clock = clock
        self._asked: dict[int, tuple[int, int]] = {}
        self._waits = 0
        self._heard = False
        self._asks_llm = False

    def take(self, event: on.Event) -> None:
        """Look at an event of the turn, before the turn does."""
        if isinstance(event, on.FrameMade):
            if event.first:
                self._began(event)
        elif isinstance(event, (on.AudioFound, on.AudioFollowing)):
            if not self._heard and not self._asks_llm and not self._asked:
                self._place.weigh(LIGHT)
            self._heard = True
        elif isinstance(event, on.ChunkUnspeakable):
            self._lost(event.index, event.refusal)
        elif isinstance(event, on.SpeechFailed):
            for index in tuple(self._asked) if event.indexes is None else event.indexes:
                self._lost(index, event.refusal)

    def act(self, action: do.StartLlm | do.Synthesize) -> None:
        """Look at what the turn asks for."""
        self._place.weigh(1.0)
        if isinstance(action, do.StartLlm):
            self._asks_llm = True
            return
        now_ns = self._clock.now_ns()
        due_ns = now_ns + action.deadline_ms * 1_000_000
        self._asked[action.index] = now_ns, due_ns
        if not self._heard and not self._waits:
            self._waits = self._door.waiting.begin(self._place.epoch, self._voice, due_ns)

    def end(self) -> None:
        """Take the end of the turn, however it came."""
        self._door.waiting.end(self._waits)
        self._place.release()

    def _began(self, event: on.FrameMade) -> None:
        asked = self._asked.pop(event.index, None)
        if asked is None:
            return
        now_ns = self._clock.now_ns()
        asked_ns, due_ns = asked
        synthesis_ms, queue_ms = event.synthesis_us / 1000, event.queue_us / 1000
        way_ms = max(0.0, (now_ns - asked_ns) / 1e6 - synthesis_ms - queue_ms)
        late_ms = queue_ms + self._door.waiting.way.beyond(way_ms) - (due_ns - asked_ns) / 1e6
        self._door.waiting.answered(self._voice, synthesis_ms)
        self._tell(late_ms, now_ns)

    def _lost(self, index: int, refusal: Exception | None) -> None:
        if self._asked.pop(index, None) is None:
            return
        if isinstance(refusal, MeshError) and refusal.reason == "QUEUE_FULL":
            self._tell(_REFUSED_MS, self._clock.now_ns())
        else:
            # An engine that is lost says nothing of the load.
            self._door.waiting.end(self._waits)

    def _tell(self, late_ms: float, now_ns: int) -> None:
        first, self._heard = not self._heard, True
        self._door.waiting.end(self._waits)
        self._door.limit.sample(self._place.epoch, late_ms, self._door.running, now_ns, first=first)
