"""The whole service in a turmoil that a seed draws: everything that can happen, in any order.

Callers open streams, ask, cancel, listen slowly and hang up; replicas speak, fail, die, grow and fail to
start; voices are resized and rolled; time passes. Every draw comes from the seed, and time is that of the
loop: a seed says the same each time.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from random import Random
from typing import Final

from services.tts.core.figures import PoolStats
from services.tts.core.model import (
    AudioFormat,
    BreakerSpec,
    ChunkEvent,
    ChunkOrder,
    Done,
    FailedEvent,
    Fault,
    FinishedEvent,
    FrameEvent,
    ReplicaListener,
    ReplicaStartError,
    VoiceSpec,
    Word,
)
from services.tts.core.service import Speech
from services.tts.core.turn import Turn
from tests.support.virtual_time import LoopClock
from tests.unit.tts.scripted import CAPABILITIES, LIMITS, Changes, ScriptedReplica, Watcher
from voicemesh.runtime.errors import MeshError

_TEXTS: Final = ("one two three four", "hello", "...", "a longer text with many words in it to be spoken")
_USUAL_US: Final = 20_000
"""What first frames are said to take, so that later ones are asked for twice."""
_GROWN_MB: Final = 5000
_COUNTERS: Final = (
    "completed_chunks",
    "cancelled_chunks",
    "failed_chunks",
    "replaced_replicas",
    "stalled_replicas",
    "recycled_replicas",
    "audio_us",
    "synthesis_us",
    "wasted_us",
    "hedged_chunks",
    "hedges_won",
    "hedge_us",
)


class _Replica(ScriptedReplica):
    """Says nothing more once its process is gone, as a process does."""

    dead = False
    silent = False
    """Gives signs of life and nothing else."""

    @property
    def runs(self) -> bool:
        return not (self.killed or self.closed or self.dead)

    def stop(self, request_id: int, made: int = 0) -> None:
        """End a request as one that was cancelled."""
        self.asked.pop(request_id)
        self.listener.done(request_id, Done(made, 1, cancelled=True))

    def fail(self, request_id: int, fault: Fault) -> None:
        self.asked.pop(request_id)
        self.listener.failed(request_id, "no", fault)


class Caller:
    """A stream and who reads it."""

    def __init__(self, turn: Turn, *, slow: bool) -> None:
        self.turn = turn
        self.heard: list[ChunkEvent] = []
        self.error: MeshError | None = None
        """What ended the stream, where that was no plain end."""
        self.asked = 0
        """Chunks, numbered from 0."""
        self.hung_up = False
        self._awake = asyncio.Event()
        if not slow:
            self.wake()
        self.reading = asyncio.create_task(self._read())

    def wake(self) -> None:
        """Take everything from now on."""
        self._awake.set()

    async def _read(self) -> None:
        try:
            async for event in self.turn:
                self.heard.append(event)
                await self._awake.wait()
        except MeshError as error:
            self.error = error

    def ask(self, text: str, deadline_ms: int) -> None:
        try:
            self.turn.add(ChunkOrder(self.asked, text, deadline_ms=deadline_ms))
        except MeshError:
            return  # too many at once, or behind the end
        self.asked += 1

    def cancel(self, index: int) -> None:
        try:
            self.turn.cancel_chunk(index)
        except MeshError:
            return  # behind the end

    def hang_up(self) -> None:
        self.hung_up = True
        self.turn.abandon()

    def check(self) -> None:
        """Fail unless audio has no gap, and each chunk has one end, in order, that tells what was heard."""
        samples: Counter[int] = Counter()
        ended = []
        for event in self.heard:
            assert event.index not in ended, f"{event} comes behind the end of its chunk"
            match event:
                case FrameEvent():
                    assert event.offset_samples == samples[event.index], event
                    samples[event.index] += len(event.pcm) // 2
                case FinishedEvent(index, total_samples):
                    assert total_samples == samples[index], event
                    ended.append(index)
                case FailedEvent(index):
                    assert event.sent_samples == samples[index], event
                    ended.append(index)
        if self.hung_up:
            assert ended == list(range(len(ended)))
        else:
            assert self.error is None
            assert ended == list(range(self.asked))


class Turmoil:
    """See the module. Two voices, each the other's fallback."""

    def __init__(self, seed: int) -> None:
        self._draw = draw = Random(seed)
        self._slots = {"main": draw.choice((1, 2)), "spare": draw.choice((1, 2, 3))}
        self._repeats = {name: draw.random() < 0.6 for name in self._slots}
        self._declared = {"main": draw.choice((1, 2, 3)), "spare": draw.choice((1, 2))}
        self._revision = 1
        self.replicas: list[_Replica] = []
        self.callers: list[Caller] = []
        self._counted: dict[str, Counter[str]] = {}
        limits = replace(
            LIMITS,
            max_queued_chunks=draw.choice((2, 10)),
            max_attempts=draw.choice((0, 1, 2)),
            buffer_s=draw.choice((0.05, 1.0)),
            hedge_percent=50,
        )
        self.speech = Speech(self._specs(), "", self._launch, LoopClock(), limits, Changes())
        self.speech.hedges.budget.earn(100_000_000)
        for name in self._slots:
            for _ in range(25):
                self.speech.hedges.first_frames(name).took(_USUAL_US)
        self._moves: dict[Callable[[], None], int] = {
            self._open: 12,
            self._ask: 15,
            self._cancel: 3,
            self._leave: 2,
            self._wake: 4,
            self._make: 26,
            self._end: 12,
            self._die: 3,
            self._change: 3,
            self._grow: 3,
        }

    # ---- the machine --------------------------------------------------------------------------

    def _specs(self) -> list[VoiceSpec]:
        options: dict[str, object] = {"revision": f"r{self._revision}"}
        breaker = BreakerSpec(3, 10, 0.5)
        main, spare = self._declared.values()
        return [
            VoiceSpec(
                "main",
                "scripted",
                main,
                "en-us",
                options,
                fallback=("spare",),
                breaker=breaker,
                max_resident_mb=_GROWN_MB - 1,
            ),
            VoiceSpec("spare", "scripted", spare, "en-us", {}, fallback=("main",)),
        ]

    async def _launch(self, spec: VoiceSpec, listener: ReplicaListener) -> _Replica:
        await asyncio.sleep(self._draw.choice((0, 0, 0.3)))
        if self._draw.random() < 0.05:
            raise ReplicaStartError("it did not start")
        capabilities = CAPABILITIES._replace(
            slots=self._slots[spec.name],
            deterministic=self._repeats[spec.name],
            revision=str(spec.options.get("revision", "r1")),
        )
        replica = _Replica(1000 + len(self.replicas), listener, capabilities)
        self.replicas.append(replica)
        return replica

    def running(self) -> list[_Replica]:
        return [replica for replica in self.replicas if replica.runs]

    def _busy(self) -> tuple[_Replica, int] | None:
        """Draw a replica that runs, and a request of it."""
        busy = [replica for replica in self.running() if replica.asked]
        if not busy:
            return None
        replica = self._draw.choice(busy)
        return replica, self._draw.choice(list(replica.asked))

    # ---- what can happen ----------------------------------------------------------------------

    def _open(self) -> None:
        turn = self.speech.open_turn(lambda _order, _speaker: Watcher())
        name = f"t{self._draw.randrange(4)}"
        try:
            turn.configure(name, self._draw.choice(("", "main", "spare", "main/de")), AudioFormat(), 0)
        except MeshError:
            return  # nobody speaks it now
        self.callers.append(Caller(turn, slow=self._draw.random() < 0.3))

    def _ask(self) -> None:
        if self.callers:
            deadline_ms = self._draw.choice((0, 0, 500, 20_000))
            self._draw.choice(self.callers).ask(self._draw.choice(_TEXTS), deadline_ms)

    def _cancel(self) -> None:
        if asking := [caller for caller in self.callers if caller.asked]:
            caller = self._draw.choice(asking)
            caller.cancel(self._draw.randrange(caller.asked))

    def _leave(self) -> None:
        if self.callers:
            caller = self._draw.choice(self.callers)
            self._draw.choice((caller.turn.half_close, caller.hang_up))()

    def _wake(self) -> None:
        if self.callers:
            self._draw.choice(self.callers).wake()

    def _make(self) -> None:
        if busy := self._busy():
            replica, request_id = busy
            if self._draw.random() < 0.3:
                word = Word(0, 1, replica.asked[request_id].start_offset_samples)
                replica.listener.words(request_id, [word])
            replica.make(self._draw.choice((1, 10, 40)), request_id=request_id)

    def _end(self) -> None:
        if busy := self._busy():
            replica, request_id = busy
            if request_id in replica.cancelled:
                replica.stop(request_id, made=5)
            elif self._draw.random() < 0.3:
                replica.fail(request_id, self._draw.choice((Fault.TEXT, Fault.REQUEST, Fault.ENGINE)))
            else:
                replica.finish(request_id=request_id, made=None if self._draw.random() < 0.9 else 0)

    def _die(self) -> None:
        if running := self.running():
            replica = self._draw.choice(running)
            replica.dead = True
            replica.die()

    def _change(self) -> None:
        self._revision += self._draw.random() < 0.6
        self._declared = {"main": self._draw.choice((1, 2, 3)), "spare": self._draw.choice((1, 2))}
        self.speech.change(self._specs())

    def _grow(self) -> None:
        if running := self.running():
            self._draw.choice(running).beat(_GROWN_MB)

    async def _pass(self, milliseconds: float) -> None:
        while milliseconds > 0:
            await asyncio.sleep(min(milliseconds, 1000) / 1000)
            for replica in self.running():
                replica.beat()
            milliseconds -= 1000
        self.speech.tick()  # what the timer does as well, which would log what it raises

    # ---- the course ---------------------------------------------------------------------------

    async def rage(self) -> None:
        """Let things happen; the figures are looked at after each."""
        for _ in range(self._draw.choice((100, 400))):
            if self._draw.random() < 0.17:
                # Mostly so short that much happens meanwhile; at times a replica owes audio for too long.
                long = self._draw.random() < 0.05
                await self._pass(6000 if long else self._draw.choice((1, 10, 22, 30, 200, 500)))
            else:
                (move,) = self._draw.choices(list(self._moves), list(self._moves.values()))
                move()
            if self._draw.random() < 0.5:
                await asyncio.sleep(0)
            self._check_figures()

    def half_close(self) -> None:
        """Let every caller ask for nothing more."""
        for caller in self.callers:
            caller.turn.half_close()

    def listen(self) -> None:
        """Let every caller take all that comes."""
        for caller in self.callers:
            caller.wake()

    async def calm(self) -> None:
        """Let the replicas do what they are asked, but for some that hang, until every stream has ended."""
        self.listen()
        for replica in self.running():
            replica.silent = self._draw.random() < 0.2
        for _ in range(3000):
            # Whoever lost a hedge may stop behind the end of the stream.
            leased = any(stats.active_leases for stats in self.speech.stats())
            if not leased and all(caller.reading.done() for caller in self.callers):
                return
            for replica in self.running():
                for request_id in () if replica.silent else list(replica.asked):
                    if request_id in replica.cancelled:
                        replica.stop(request_id)
                        continue
                    replica.make(10, request_id=request_id)
                    if request_id in replica.asked and replica.runs:
                        replica.finish(request_id=request_id)
            await self._pass(50)
        left = [caller.turn.turn_id for caller in self.callers if not caller.reading.done()]
        raise AssertionError(f"streams that do not end: {left}; leases: {self.speech.stats()}")

    def _check_figures(self) -> None:
        counted: dict[str, Counter[str]] = {}
        for stats in self.speech.stats():
            for field in fields(PoolStats):
                value = getattr(stats, field.name)
                assert not isinstance(value, int) or value >= 0, (field.name, stats)
            voice = counted.setdefault(stats.voice, Counter())
            for name in _COUNTERS:
                voice[name] += getattr(stats, name)
        for name, before in self._counted.items():
            assert counted[name] >= before, f"counters of {name!r} go back from {before} to {counted[name]}"
        self._counted = counted

    def check_rest(self) -> None:
        """Fail where something is left behind although no chunk is asked for."""
        self._check_figures()
        for stats in self.speech.stats():
            assert (stats.active_leases, stats.queued_chunks) == (0, 0), stats
        for pool in self.speech._voices._pools():
            assert pool.idle
            assert not pool._parked
            assert not pool._queue._callers
            assert not pool._queue._shares._open
            assert not pool.users, pool.users
        assert self.speech.hedges.budget._reserved_us == 0
