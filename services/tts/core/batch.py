"""Many texts for one voice, spoken a few at a time behind everything that somebody waits for."""

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.tts.core.chunk import Chunk, Observe
from services.tts.core.model import ChunkEvent, ChunkOrder, FailedEvent, Limits
from services.tts.core.seeds import seed_of
from services.tts.core.speaker import Speaker
from services.tts.core.turn import check_text
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import InvalidFieldError, MeshError

MAX_TEXTS: Final = 1000

_DEADLINE_MS: Final = 60_000
"""A batch has time: chunks of turns come first, until its own have waited for so long."""

_NUMBERS: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class BatchEvent:
    """A part of one result."""

    text_indexes: tuple[int, ...]
    """Positions of the texts that it answers."""
    event: ChunkEvent


class Batch:
    """The texts of one request; identical ones are spoken once.

    Results come out by iteration, for one reader, as they are ready: parts of different texts
    alternate, parts of one text are in order. A text that cannot be spoken fails alone.

    Args:
        texts: What to say.
        speaker: The voice.
        speed: 0.25 to 4.
        clock: See `Chunk`.
        limits: See `Limits`.
        observe: Makes the watcher of a text.

    Raises:
        InvalidFieldError: There is no text, or there are more than 1000.

    """

    def __init__(
        self,
        texts: Sequence[str],
        speaker: Speaker,
        speed: float,
        clock: Clock,
        limits: Limits,
        observe: Observe,
    ) -> None:
        if not 1 <= len(texts) <= MAX_TEXTS:
            raise InvalidFieldError("texts", f"{len(texts)} texts; it takes 1 to {MAX_TEXTS}")
        places: dict[str, list[int]] = {}
        for index, text in enumerate(texts):
            places.setdefault(text, []).append(index)
        self._waiting = deque((text, tuple(indexes)) for text, indexes in places.items())
        self._running: deque[tuple[tuple[int, ...], Chunk]] = deque()
        self.speaker = speaker
        self._use = speaker.pool.use()
        self._speed = speed
        self._clock = clock
        self._limits = limits
        self._observe = observe
        self._caller = f"batch {next(_NUMBERS)}"
        self._admitted = False
        self._news = asyncio.Event()

    def abandon(self) -> None:
        """End everything, with nobody to answer."""
        self._waiting.clear()
        running = list(self._running)
        self._running.clear()
        for _, chunk in running:
            chunk.abandon()
        self._use.end()
        self._news.set()

    def __aiter__(self) -> "Batch":
        """Iterate over the results."""
        return self

    async def __anext__(self) -> BatchEvent:
        """Return the next part, waiting for it."""
        while True:
            if self._waiting and len(self._running) < self._limits.batch_concurrency:
                refused = self._begin(*self._waiting.popleft())
                if refused is not None:
                    return refused
                continue
            if not self._running:
                self._use.end()
                raise StopAsyncIteration
            for _ in range(len(self._running)):
                indexes, chunk = self._running.popleft()
                event = chunk.pop()
                if not chunk.answered:
                    self._running.append((indexes, chunk))
                if event is not None:
                    return BatchEvent(indexes, event)
            self._news.clear()
            await self._news.wait()

    def _begin(self, text: str, indexes: tuple[int, ...]) -> BatchEvent | None:
        order = ChunkOrder(indexes[0], text, deadline_ms=_DEADLINE_MS)
        try:
            check_text(text, f"texts[{indexes[0]}]", self._limits)
        except MeshError as error:
            return BatchEvent(indexes, FailedEvent(indexes[0], error, 0))
        seed = seed_of(text, self.speaker.name, self.speaker.model_revision, self._speed)
        chunk = Chunk(
            order,
            self.speaker,
            self._speed,
            seed,
            self._clock,
            self._observe(order, self.speaker),
            self._news.set,
            self._caller,
        )
        self._running.append((indexes, chunk))
        self._admitted = chunk.submit(admitted=self._admitted) or self._admitted
        return None
