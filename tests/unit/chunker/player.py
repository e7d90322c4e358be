"""A writer, a chunker, an engine and a player in virtual time: does the player ever run dry?

tokens ──> Chunker ──> engine (one chunk at a time) ──> player
              ^ `slack` at each chunk's audio, as a gateway reports it
"""

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.chunker.core import Chunk, Chunker, ChunkerConfig, Pace

MS = 1_000_000
PAUSES_MS = {".": 300, "?": 300, "!": 340, ":": 225, ";": 225, ",": 150}
HOP_MS = 2.0


@dataclass(frozen=True)
class Engine:
    """Gives the whole audio of a chunk after `base_ms` and `rtf` times its length."""

    base_ms: float
    rtf: float
    ms_per_char: float
    pauses: bool = False
    """Behind each chunk follows the pause that belongs to its mark, as the TTS service makes them."""

    def audio_ms(self, text: str) -> float:
        pause_ms = PAUSES_MS.get(text[-1], 25) if self.pauses else 0
        return len(text) * self.ms_per_char + pause_ms

    def pace(self) -> Pace:
        return Pace(self.ms_per_char, self.base_ms, self.rtf * self.ms_per_char)


@dataclass
class Heard:
    """What came of it."""

    chunks: list[Chunk] = field(default_factory=list)
    cut_ms: list[float] = field(default_factory=list)
    first_audio_ms: float = 0.0
    stalls_ms: list[float] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return [chunk.text for chunk in self.chunks]


def play(
    tokens: Sequence[str],
    *,
    tokens_per_s: float,
    engine: Engine,
    language: str = "en",
    known: bool = False,
    writer_known: bool = False,
    pauses_ms: dict[int, float] | None = None,
) -> Heard:
    """Run one reply.

    `known`: earlier turns have shown the engine's pace, `writer_known`: the writer's. `pauses_ms`: before
    which token.
    """
    pace = engine.pace() if known else Pace()
    if writer_known:
        pace = replace(pace, writer_chars_per_s=tokens_per_s * sum(map(len, tokens)) / len(tokens))
    config = ChunkerConfig(language=language, pace=pace)
    return _Run(Chunker(config), engine, tokens, tokens_per_s, pauses_ms or {}).run()


class _Run:
    def __init__(
        self,
        chunker: Chunker,
        engine: Engine,
        tokens: Sequence[str],
        tokens_per_s: float,
        pauses_ms: dict[int, float],
    ) -> None:
        self.chunker = chunker
        self.engine = engine
        self.heard = Heard()
        self.events: list[tuple[float, int, str, Any]] = []
        self.order = itertools.count()
        self.free_ms = 0.0  # when the engine is done with what it has
        self.dry_ms = 0.0
        self.ended = False
        self.due_ns: int | None = None
        self.timer_ms: float | None = None
        at_ms = 0.0
        for number, token in enumerate(tokens):
            at_ms += pauses_ms.get(number, 0.0)
            self.at(at_ms, "token", token)
            at_ms += 1000 / tokens_per_s
        self.at(at_ms, "end", None)

    def at(self, when_ms: float, what: str, detail: Any) -> None:
        heapq.heappush(self.events, (when_ms, next(self.order), what, detail))

    def run(self) -> Heard:
        while self.events:
            now_ms, _, what, detail = heapq.heappop(self.events)
            now_ns = round(now_ms * MS)
            if what == "token":
                self.take(self.chunker.push(detail, now_ns), now_ms)
            elif what == "end":
                self.ended = True
                self.take(self.chunker.end(now_ns), now_ms)
            elif what == "audio":
                self.sound(detail, now_ms)
            elif not self.ended and detail == self.timer_ms:
                self.due_ns = self.timer_ms = None
                self.take(self.chunker.tick(now_ns), now_ms)
            if not self.ended:
                self.set_timer(now_ms)
        return self.heard

    def take(self, chunks: list[Chunk], now_ms: float) -> None:
        for chunk in chunks:
            self.heard.chunks.append(chunk)
            self.heard.cut_ms.append(now_ms)
            audio_ms = self.engine.audio_ms(chunk.text)
            begin_ms = max(now_ms + HOP_MS, self.free_ms)
            self.free_ms = begin_ms + self.engine.base_ms + self.engine.rtf * audio_ms
            self.at(self.free_ms + HOP_MS, "audio", chunk)

    def sound(self, chunk: Chunk, now_ms: float) -> None:
        heard = self.heard
        if not chunk.index:
            heard.first_audio_ms = self.dry_ms = now_ms
        if now_ms > self.dry_ms:
            heard.stalls_ms.append(now_ms - self.dry_ms)
            self.dry_ms = now_ms
        self.dry_ms += self.engine.audio_ms(chunk.text)
        if not self.ended:
            self.chunker.slack(
                self.dry_ms - now_ms,
                round(now_ms * MS),
                chunks_counted=chunk.index + 1,
                pace=self.engine.pace(),
            )

    def set_timer(self, now_ms: float) -> None:
        due_ns = self.chunker.next_deadline_ns()
        if due_ns == self.due_ns:
            return
        self.due_ns = due_ns
        self.timer_ms = None
        if due_ns is not None:
            # A timer of the loop is never less than a millisecond.
            self.timer_ms = max(due_ns / MS, now_ms + 1)
            self.at(self.timer_ms, "timer", self.timer_ms)
