"""Replies to similar prompts: asked for where the exact one is missing, told as what they are.

    get ── exact ── hit
             └ miss ── anything of this context, and the server answers ── embedding, under a budget
                        └ no: miss                                          ├ near, and the guard allows: hit
                                                                            └ else, or late: miss
    put ── stored ── queue, bounded ── embedding, behind the turn ── index

A context is everything that makes a reply but the last message of the user: only prompts of the same are
compared. What is found is what memory has: a vector goes with its entry.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from services.cache.answers import Hit, SimilarCounts
from services.cache.durable import RoundTrips
from services.cache.guard import Guard, guard_of
from services.cache.keys import SimilarPrompt, StoredKey
from services.cache.memory import MemoryTier
from voicemesh.runtime.breaker import Breaker, BreakerState
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.logs import get_logger

WORKERS: Final = 4
"""Embeddings of stored prompts that are asked for at once."""
MOST_ASKED: Final = 16
"""Embeddings that turns wait for at once; further turns do without."""
MOST_QUEUED: Final = 256
MOST_KEPT: Final = 64
"""Embeddings of prompts that were missing: their replies are likely to be stored soon."""
STORED_TIMEOUT_S: Final = 5.0
"""Longest wait for an embedding that nobody waits for."""
_LEAST_BUDGET_S: Final = 0.001
_WARM_UP: Final = "What is rain?"

_log = get_logger(__name__)


class EmbeddingError(Exception):
    """There is no embedding; `late` where the server did not answer in time."""

    def __init__(self, message: str, *, late: bool = False) -> None:
        super().__init__(message)
        self.late = late


class Embedder(Protocol):
    """Gives embeddings."""

    async def embed(self, text: str, timeout_s: float) -> Sequence[float]:
        """Return the embedding of a text; raises `EmbeddingError`, after `timeout_s` at the latest."""
        ...


class Found(Protocol):
    """As `services.cache.similar_index.Found`."""

    @property
    def key(self) -> StoredKey | None:
        """The nearest that is allowed."""
        ...

    @property
    def guarded(self) -> int:
        """Nearer ones that the guard forbade."""
        ...


class Index(Protocol):
    """As `services.cache.similar_index.SimilarIndex`, which needs numpy and is imported where it is used."""

    bytes: int

    def __len__(self) -> int:
        """Return the number of prompts."""
        ...

    def __contains__(self, key: StoredKey) -> bool:
        """Return whether there is a vector for the prompt of this key."""
        ...

    def vector(self, numbers: Sequence[float]) -> Any:
        """Return a unit vector; raises `ValueError`."""
        ...

    def known(self, context: str) -> bool:
        """Return whether there is anything to compare with."""
        ...

    def find(self, context: str, vector: Any, guard: Guard, threshold: float) -> Found:
        """Return the nearest."""
        ...

    def add(self, context: str, key: StoredKey, vector: Any, guard: Guard) -> None:
        """Keep a vector."""
        ...

    def remove(self, key: StoredKey) -> None:
        """Forget a prompt."""
        ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A stored reply whose prompt has no vector yet."""

    key: StoredKey
    prompt: SimilarPrompt
    guard: Guard


class SimilarPrompts:
    """Finds replies to similar prompts among those that memory has.

    Args:
        clock: Measures what is left of a budget.
        memory: Has the replies; tells when one goes.
        index: Has the vectors.
        embedder: Makes them.
        breaker: Holds off a server that does not answer within the budget.
        model: The server's model, for spans.
        threshold: Least cosine of what is similar.
        timeout_ms: Longest that a request may be held for an embedding, from its arrival.

    """

    def __init__(
        self,
        *,
        clock: Clock,
        memory: MemoryTier,
        index: Index,
        embedder: Embedder,
        breaker: Breaker,
        model: str,
        threshold: float,
        timeout_ms: int,
    ) -> None:
        self._clock = clock
        self._memory = memory
        self._index = index
        self._embedder = embedder
        self.breaker = breaker
        self._model = model
        self._threshold = threshold
        self._timeout_ms = timeout_ms
        self._asked = 0
        self._kept: OrderedDict[str, Any] = OrderedDict()
        self._queue: OrderedDict[str, _Waiting] = OrderedDict()
        self._work = asyncio.Event()
        self._counts = SimilarCounts()
        memory.on_gone = self._gone

    @property
    def counts(self) -> SimilarCounts:
        """Counts since the start, and sizes now."""
        self._counts.entries, self._counts.bytes = len(self._index), self._index.bytes
        return self._counts

    def may_find(self, key: StoredKey, prompt: SimilarPrompt | None) -> bool:
        """Return whether a reply that is not in memory may have a similar prompt there."""
        return (
            prompt is not None
            and key not in self._memory
            and self._asked < MOST_ASKED
            and self._index.known(prompt.context)
            and self.breaker.allows
        )

    async def find(
        self, key: StoredKey, prompt: SimilarPrompt, arrived_ns: int, wait_ms: int, trips: RoundTrips
    ) -> Hit | None:
        """Return the reply to a similar prompt; None where there is none, or nobody knows in time.

        Args:
            key: Of the reply that is missing.
            prompt: Its prompt.
            arrived_ns: When the request came.
            wait_ms: How long it may be held from then on, in milliseconds.
            trips: Is told of the question to the server.

        """
        left_s = min(wait_ms, self._timeout_ms) / 1000 - (self._clock.now_ns() - arrived_ns) / 1e9
        guard = guard_of(prompt.text)
        if guard is None or left_s < _LEAST_BUDGET_S or not self.may_find(key, prompt):
            return None
        vector = await self._ask(prompt.text, left_s, trips)
        if vector is None:
            return None
        exact = self._memory.get(key)
        if exact is not None:  # stored while the embedding was made
            return Hit(exact.value, "memory")
        self._keep(key, vector)
        found = self._index.find(prompt.context, vector, guard, self._threshold)
        self._counts.guarded += found.guarded
        entry = self._memory.get(found.key) if found.key is not None else None
        if entry is None:
            self._counts.misses += 1
            return None
        self._counts.hits += 1
        return Hit(entry.value, "memory", similar=True)

    async def _ask(self, text: str, timeout_s: float, trips: RoundTrips) -> Any | None:
        """Return the vector of a prompt that a turn waits for; None where there is none in time."""
        probe = self.breaker.admit()
        ended = False
        self._asked += 1
        try:
            with trips.embeddings(self._model):
                vector = self._index.vector(await self._embedder.embed(text, timeout_s))
        except (EmbeddingError, ValueError) as error:
            ended = True
            self._failed(error)
            return None
        else:
            ended = True
            self.breaker.succeeded()
            return vector
        finally:
            self._asked -= 1
            if probe and not ended:
                self.breaker.release()

    def _failed(self, error: EmbeddingError | ValueError) -> None:
        self._counts.failures += 1
        if self.breaker.failed():
            _log.warning(
                "no embeddings; similar prompts are not looked for", model=self._model, error=str(error)
            )

    def _keep(self, key: StoredKey, vector: Any) -> None:
        self._kept[key.name] = vector
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    def stored(self, key: StoredKey, prompt: SimilarPrompt | None) -> None:
        """Have the prompt of a reply that memory has found from now on, or soon. Never waits."""
        if prompt is None or key not in self._memory or key in self._index or key.name in self._queue:
            return
        guard = guard_of(prompt.text)
        if guard is None:
            return
        vector = self._kept.pop(key.name, None)
        if vector is not None:
            self._index.add(prompt.context, key, vector, guard)
            return
        self._queue[key.name] = _Waiting(key, prompt, guard)
        if len(self._queue) > MOST_QUEUED:
            self._queue.popitem(last=False)
            self._counts.dropped += 1
        self._work.set()

    async def work(self) -> None:
        """Make the embeddings of what was stored, until cancelled."""
        while True:
            while not self._queue:
                self._work.clear()
                await self._work.wait()
            _, waiting = self._queue.popitem(last=False)
            if self.breaker.state is BreakerState.OPEN:
                self._counts.dropped += 1
                continue
            try:
                numbers = await self._embedder.embed(waiting.prompt.text, STORED_TIMEOUT_S)
                vector = self._index.vector(numbers)
            except (EmbeddingError, ValueError) as error:
                self._counts.dropped += 1
                self._failed(error)
                continue
            if waiting.key in self._memory:  # it may have gone meanwhile
                self._index.add(waiting.prompt.context, waiting.key, vector, waiting.guard)

    async def warm_up(self) -> None:
        """Ask for one embedding, so that there is a connection, and the log says whether it works."""
        try:
            numbers = await self._embedder.embed(_WARM_UP, STORED_TIMEOUT_S)
            self._index.vector(numbers)
        except (EmbeddingError, ValueError) as error:
            _log.warning("no embedding yet; similar prompts are found once there are", error=str(error))
        else:
            _log.info("similar prompts are looked for", model=self._model, dimensions=len(numbers))

    def _gone(self, key: StoredKey) -> None:
        self._index.remove(key)
        self._queue.pop(key.name, None)
