"""A mesh in virtual time behind a real door: a model that thinks, engines with so many slots, listeners."""

import heapq
import itertools
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.access.caller import Caller, Priority
from gateway.admission.door import Door, Place
from gateway.admission.limit import AdaptiveLimit
from gateway.admission.probe import Probe
from gateway.admission.rules import Rules
from gateway.core import actions as do
from gateway.core import events as on
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.errors import MeshError

TARGET_MS = 80.0


@dataclass
class Turn:
    """One that was admitted."""

    tenant: str
    began_ms: float
    place: Place
    probe: Probe
    cached: bool
    chunks: int
    heard_ms: float = 0.0
    """When its first audio came; 0: not yet."""
    player_ms: float = 0.0
    """Until when its player has audio."""
    dry_ms: float = 0.0

    @property
    def wait_ms(self) -> float:
        return self.heard_ms - self.began_ms


@dataclass
class Mesh:
    """What is behind the door.

    Attributes:
        slots: Chunks that engines speak at once.
        service_ms: How long one takes, drawn for each.
        first_ms: From when an engine begins with one to its first frame.
        llm_ms: How long a model thinks, drawn for each turn.
        audio_ms: How long a chunk is heard.
        chunks: Chunks of a turn.

    """

    seed: int = 1
    slots: int = 8
    service_ms: tuple[float, float] = (300, 500)
    first_ms: float = 50.0
    llm_ms: tuple[float, float] = (200, 400)
    audio_ms: float = 1500.0
    chunks: int = 3
    cached_share: float = 0.0
    outlier_share: float = 0.0
    """Chunks that take ten times as long."""
    least: int = 4
    start: int = 256
    most: int = 256
    steps: Sequence[Any] = ()
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        self.clock = ManualClock(1_000_000_000)
        self.chance = random.Random(self.seed)
        self.limit = AdaptiveLimit(least=self.least, start=self.start, most=self.most, target_ms=TARGET_MS)
        self.door = Door(
            self.clock,
            self.limit,
            most=self.most,
            rules=self.rules,
            steps=self.steps,
            chance=random.Random(self.seed),
        )
        self.turns: list[Turn] = []
        self.refused: list[tuple[float, str, MeshError]] = []
        self.limits: list[tuple[float, float]] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._queue: list[tuple[float, int, Turn, int, float]] = []
        self._busy = 0

    @property
    def now_ms(self) -> float:
        return self.clock.now_ns() / 1e6 - 1000

    def at(self, ms: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (ms, next(self._numbers), action))

    def run(self, until_ms: float) -> None:
        while self._events and self._events[0][0] <= until_ms:
            ms, _, action = heapq.heappop(self._events)
            self.clock.advance_ms(max(0.0, ms - self.now_ms))
            action()
            self.limits.append((self.now_ms, self.limit.turns))
        self.clock.advance_ms(max(0.0, until_ms - self.now_ms))

    def load(self, per_s: float, begin_s: float, end_s: float, tenant: str = "") -> None:
        """Have turns come at random, so many a second."""
        at_ms = begin_s * 1000
        while True:
            at_ms += self.chance.expovariate(per_s) * 1000
            if at_ms >= end_s * 1000:
                return
            self.at(at_ms, lambda: self.come(tenant))

    def come(self, tenant: str = "", priority: Priority = Priority.NORMAL) -> None:
        """Have one turn come now."""
        try:
            place = self.door.admit(Caller(tenant), priority)
        except MeshError as error:
            self.refused.append((self.now_ms, tenant, error))
            return
        probe = Probe(self.door, place, "voice", self.clock)
        cached = self.chance.random() < self.cached_share
        turn = Turn(tenant, self.now_ms, place, probe, cached, self.chunks)
        self.turns.append(turn)
        if cached:
            probe.take(on.AudioFound(0, b"", (), "memory", 0))
            turn.heard_ms = self.now_ms + 5
            self.at(self.now_ms + 200, lambda: self._end(turn))
            return
        probe.act(do.StartLlm(()))
        self.at(self.now_ms + self.chance.uniform(*self.llm_ms), lambda: self._ask(turn, 0))

    def _ask(self, turn: Turn, index: int) -> None:
        deadline_ms = max(0.0, turn.player_ms - self.now_ms)
        turn.probe.act(do.Synthesize(index, "text", int(deadline_ms)))
        due = self.now_ms + deadline_ms
        heapq.heappush(self._queue, (due, next(self._numbers), turn, index, self.now_ms))
        self._serve()

    def _serve(self) -> None:
        while self._queue and self._busy < self.slots:
            _, _, turn, index, asked_ms = heapq.heappop(self._queue)
            self._busy += 1
            queue_ms = self.now_ms - asked_ms
            takes_ms = self.chance.uniform(*self.service_ms)
            slow = 10 if self.chance.random() < self.outlier_share else 1
            self.at(
                self.now_ms + self.first_ms * slow,
                lambda turn=turn, index=index, queue_ms=queue_ms, slow=slow: self._heard(  # type: ignore[misc]
                    turn, index, queue_ms, slow
                ),
            )
            self.at(self.now_ms + takes_ms * slow, lambda turn=turn, index=index: self._spoken(turn, index))  # type: ignore[misc]

    def _heard(self, turn: Turn, index: int, queue_ms: float, slow: int) -> None:
        turn.probe.take(
            on.FrameMade(index, 0, b"", int(queue_ms * 1000), int(self.first_ms * slow * 1000), first=True)
        )
        now = self.now_ms
        if not index:
            turn.heard_ms = turn.player_ms = now
        turn.dry_ms += max(0.0, now - turn.player_ms)
        turn.player_ms = max(turn.player_ms, now) + self.audio_ms

    def _spoken(self, turn: Turn, index: int) -> None:
        self._busy -= 1
        if index + 1 < turn.chunks:
            self._ask(turn, index + 1)
        else:
            self._end(turn)
        self._serve()

    def _end(self, turn: Turn) -> None:
        turn.probe.end()

    # ------------------------------------------------------------ what came of it

    def waits(self, begin_s: float, end_s: float) -> list[float]:
        """Return the times to first audio of turns that began then."""
        return sorted(
            turn.wait_ms
            for turn in self.turns
            if begin_s * 1000 <= turn.began_ms < end_s * 1000 and turn.heard_ms and not turn.cached
        )

    def p95(self, begin_s: float, end_s: float) -> float:
        waits = self.waits(begin_s, end_s)
        return waits[int(0.95 * (len(waits) - 1))]

    def mean(self, begin_s: float, end_s: float) -> float:
        return statistics.mean(self.waits(begin_s, end_s))

    def begun(self, begin_s: float, end_s: float, tenant: str | None = None) -> int:
        return sum(
            begin_s * 1000 <= turn.began_ms < end_s * 1000 and tenant in (None, turn.tenant)
            for turn in self.turns
        )

    def refusals(self, begin_s: float, end_s: float, tenant: str | None = None) -> int:
        return sum(
            begin_s * 1000 <= ms < end_s * 1000 and tenant in (None, whose) for ms, whose, _ in self.refused
        )

    def limit_range(self, begin_s: float, end_s: float) -> tuple[float, float]:
        found = [limit for ms, limit in self.limits if begin_s * 1000 <= ms < end_s * 1000]
        return min(found), max(found)
