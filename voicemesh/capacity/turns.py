"""One turn on its way through a simulated mesh.

    caller ─ gateway ─ llm ~~model~~ gateway ─ chunker ~~hold~~ cache ─ gateway ─ tts ─┐ queue, engine
                                                              caller ─ gateway ─ tts ─┘

Names are work of processes, what is between tildes is only waited for. What is left of the turn's CPU time
comes behind that, with its chunks and their frames.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from voicemesh.capacity.events import MS
from voicemesh.capacity.mesh import PICKED, Behind, Gateway, Mesh
from voicemesh.capacity.pods import Job, pieces_of
from voicemesh.capacity.profile import CALLER, CPU, WORKER, TurnSample
from voicemesh.capacity.sharing import Process, Server

QUEUE: Final = "tts_queue"
"""The wait for an engine, among the waits of a turn,"""
ENGINE: Final = "engine"
"""and what its first frame took longer than alone, as others use the engine or its cores, too. The other
waits are named after processes."""
_WITH_CHUNKS: Final = ("llm", "chunker", "cache")
"""Whose other work comes as chunks are asked for;"""
_WITH_FRAMES: Final = ("gateway", "tts", CALLER)
"""and whose with frames. That of a worker whose engine is elsewhere, too."""
_VISITS: Final = 4
"""How often the gateway has the turn in its hands until the first frame."""

_Step = tuple[str, float]
"""Who works for so many milliseconds; without a name, they only pass."""


@dataclass(slots=True)
class Heard:
    """What became of a turn. Milliseconds."""

    at_ms: float
    """When it began."""
    ttfa_ms: float = 0.0
    waits: dict[str, float] = field(default_factory=dict)
    """What it waited for beyond what it takes alone, by process and `QUEUE`."""
    refused: bool = False
    late_chunks: int = 0
    """Chunks behind the first that came when the player had nothing more, or were refused."""


class Turn:
    """One turn.

    Args:
        mesh: Where it runs.
        name: Its own.
        sample: What it takes.
        behind: What it costs behind its first frame.
        gateway: Its gateway.
        heard: Is filled.
        told: Called when it is known when the turn was heard, or that it was refused.

    """

    def __init__(
        self,
        mesh: Mesh,
        name: str,
        sample: TurnSample,
        behind: Behind,
        gateway: Gateway,
        heard: Heard,
        told: Callable[[], None],
    ) -> None:
        self._mesh = mesh
        self._events = mesh.events
        self._name = name
        self._sample = sample
        self._behind = behind
        self._gateway = gateway
        self._heard = heard
        self._told = told
        self._began_ns = self._events.now_ns
        picked = {each: gateway.pick(each, len(mesh.processes[each])) for each in PICKED}
        self._servers: dict[str, Server] = {
            each: mesh.processes[each][place] for each, place in picked.items()
        }
        self._servers |= {"gateway": gateway.process, CALLER: mesh.caller}
        self._pod = mesh.pods[picked["tts"]]
        self._plays_until_ns = 0
        self._deadlines: list[int] = []
        self._on_its_way_ms = 0.0
        """Of audio that was asked for, and of which nothing was heard."""
        self._each_ms = sample.audio_ms / max(1, len(sample.chunks))
        self._leased_ns = 0
        self._submitted = 0
        self._answered = 0
        self._admitted = False

    def begin(self) -> None:
        """Take the way to the first frame."""
        self._gateway.turns += 1
        self._mesh.within.add(1)
        path = self._sample.path_ms
        caller, cache = (CALLER, path.get(CALLER, 0.0) / 2), ("cache", path.get("cache", 0.0))
        if not self._sample.chunks:  # all of it is in the cache
            half = ("gateway", path.get("gateway", 0.0) / 2)
            self._way([caller, half, cache, half, caller], self._given)
            return
        gateway = ("gateway", path.get("gateway", 0.0) / _VISITS)
        to_chunker: list[_Step] = [
            caller,
            gateway,
            ("llm", path.get("llm", 0.0)),
            ("", self._sample.llm_ms),
            gateway,
            ("chunker", path.get("chunker", 0.0)),
        ]
        to_engine: list[_Step] = [
            ("", self._sample.hold_ms),
            cache,
            gateway,
            ("tts", path.get("tts", 0.0) / 2),
        ]
        self._way(to_chunker + to_engine, self._ask)

    def _way(self, steps: Sequence[_Step], then: Callable[[], None]) -> None:
        for place, (name, ms) in enumerate(steps):
            if ms > 0:
                self._step(name, ms, partial(self._way, steps[place + 1 :], then))
                return
        then()

    def _step(self, name: str, ms: float, then: Callable[[], None]) -> None:
        if not name:
            self._events.after(ms * MS, then)
            return
        began_ns, waits = self._events.now_ns, self._heard.waits

        def done() -> None:
            waited_ms = (self._events.now_ns - began_ns) / MS - ms
            waits[name] = waits.get(name, 0.0) + max(0.0, waited_ms)
            then()

        self._servers[name].run(ms * MS, done)

    # ---- chunks -------------------------------------------------------------------------------

    def _ask(self) -> None:
        for place, chunk in enumerate(self._sample.chunks):
            if place:
                self._events.after(chunk.asked_ms * MS, self._came)
        self._came()

    def _came(self) -> None:
        """Have one more chunk asked for: it is due when what is in hand and on its way has been heard."""
        due_ns = max(self._events.now_ns, self._plays_until_ns) + round(self._on_its_way_ms * MS)
        self._on_its_way_ms += self._sample.chunks[len(self._deadlines)].audio_ms
        self._deadlines.append(due_ns)
        for name in _WITH_CHUNKS:
            self._also(name, self._each_ms, 1, 0.0)
        self._submit()

    def _submit(self) -> None:
        ahead = self._mesh.layout.tts.chunks_ahead
        while self._submitted < min(len(self._deadlines), self._answered + 1 + ahead):
            self._submitted += 1
            if not self._speak(self._submitted - 1):
                return

    def _speak(self, place: int) -> bool:
        """Have a chunk spoken; return False where that is the end of the turn."""
        came_ns = self._events.now_ns

        def leased() -> None:
            if place == 0:
                self._leased_ns = self._events.now_ns
                self._heard.waits[QUEUE] = (self._leased_ns - came_ns) / MS

        job = Job(
            id=next(self._mesh.jobs),
            deadline_ns=self._deadlines[place],
            caller=self._name,
            sample=self._sample.chunks[place],
            leased=leased,
            heard=lambda: self._frames(place),
            ended=self._spoken,
        )
        if self._pod.submit(job, admitted=self._admitted):
            self._admitted = True
            return True
        if place == 0:
            self._heard.refused = True
            self._end()
            self._told()
            return False
        self._heard.late_chunks += 1
        self._events.after(0, self._spoken)
        return True

    def _frames(self, place: int) -> None:
        """Take the first frame of a chunk; what others cost comes while its engine goes on."""
        chunk = self._sample.chunks[place]
        rest_ms = chunk.lease_ms - chunk.first_ms
        pieces = pieces_of(rest_ms)
        for name in _WITH_FRAMES:
            self._also(name, chunk.audio_ms, pieces, rest_ms)
        if self._pod.engine.kind != CPU:
            self._also(WORKER, chunk.audio_ms, pieces, rest_ms)
        now_ns = self._events.now_ns
        self._on_its_way_ms -= chunk.audio_ms
        if place == 0:
            self._heard.waits[ENGINE] = max(0.0, (now_ns - self._leased_ns) / MS - chunk.first_ms)
            path = self._sample.path_ms
            self._way(
                [
                    ("tts", path.get("tts", 0.0) / 2),
                    ("gateway", path.get("gateway", 0.0) / _VISITS),
                    (CALLER, path.get(CALLER, 0.0) / 2),
                ],
                self._first_frame,
            )
        elif now_ns > self._plays_until_ns:
            self._heard.late_chunks += 1
        self._plays_until_ns = max(self._plays_until_ns, now_ns) + round(chunk.audio_ms * MS)

    def _also(self, name: str, audio_ms: float, pieces: int, over_ms: float) -> None:
        """Have a process do what so much audio costs it beyond the way to the first frame."""
        if name == CALLER and not self._mesh.layout.callers_too:
            return  # somebody else's CPU, and nobody waits for it
        work_ns = self._behind.share_ms(name, audio_ms) * MS / pieces
        if work_ns <= 0:
            return
        server: Server | Process = self._pod.workers[0].own if name == WORKER else self._servers[name]
        server.run(work_ns, _nothing)
        for piece in range(1, pieces):
            self._events.after(over_ms * MS * piece / pieces, lambda: server.run(work_ns, _nothing))

    # ---- ends ---------------------------------------------------------------------------------

    def _first_frame(self) -> None:
        self._heard.ttfa_ms = (self._events.now_ns - self._began_ns) / MS
        self._told()

    def _spoken(self) -> None:
        self._answered += 1
        if self._answered == len(self._sample.chunks):
            self._end()
        else:
            self._submit()

    def _given(self) -> None:
        """End a turn that the cache gave."""
        self._first_frame()
        for name in ("gateway", "cache", CALLER):
            self._also(name, self._behind.usual_audio_ms, 1, 0.0)
        self._end()

    def _end(self) -> None:
        self._gateway.turns -= 1
        self._mesh.within.add(-1)
        self._mesh.sojourn_ns += self._events.now_ns - self._began_ns
        self._mesh.ended += 1


def _nothing() -> None:
    """Nobody waits for it."""
