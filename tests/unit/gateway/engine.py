"""A turn engine with a script: helpers for tests of the engine."""

from typing import Any

from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.report import TurnReport
from gateway.core.turn import TurnEngine
from gateway.core.values import Chunk, Message, TurnSpec
from voicemesh.runtime.clock import ManualClock

RATE = 22050
START_NS = 1_000_000_000


def samples(ms: float) -> int:
    return round(RATE * ms / 1000)


def pcm(ms: float, value: int = 1000) -> bytes:
    return value.to_bytes(2, "little", signed=True) * samples(ms)


def spec(**changes: object) -> TurnSpec:
    fields: dict[str, object] = {
        "turn_id": "t",
        "session_id": "s",
        "received_ns": START_NS,
        "sample_rate_hz": RATE,
        "prompt": Message("user", ("Why?",)),
        **changes,
    }
    return TurnSpec(**fields)  # type: ignore[arg-type] # a test's shorthand


class Script:
    """Feeds events to an engine and keeps every action."""

    def __init__(self, **changes: object) -> None:
        self.clock = ManualClock(START_NS)
        self.engine = TurnEngine(spec(**changes), self.clock)
        self.actions: list[do.Action] = []

    def start(self) -> list[do.Action]:
        return self._keep(self.engine.start())

    def on(self, event: on.Event, after_ms: float = 0) -> list[do.Action]:
        self.clock.advance_ms(after_ms)
        return self._keep(self.engine.handle(event))

    def _keep(self, actions: list[do.Action]) -> list[do.Action]:
        self.actions += actions
        return actions

    def of(self, kind: type) -> list[Any]:
        return [action for action in self.actions if isinstance(action, kind)]

    @property
    def report(self) -> TurnReport:
        (finish,) = self.of(do.Finish)
        report: TurnReport = finish.report
        return report

    # the steps of an ordinary turn

    def to_llm(self) -> None:
        self.start()
        self.on(on.HistoryLoaded((), 0, 100), after_ms=1)
        self.on(on.ReplyMissing(100), after_ms=1)

    def say(self, index: int, text: str, offset: int, held_us: int = 0) -> list[do.Action]:
        return self.on(on.ChunkCut(Chunk(index, text, offset, len(text), "sentence", held_us)))

    def speak(self, index: int, ms: float, first: bool = True, offset_ms: float = 0) -> list[do.Action]:
        return self.on(
            on.FrameMade(index, samples(offset_ms), pcm(ms), queue_us=500, synthesis_us=2000, first=first)
        )
