"""The living set of voices: each declared one with its pool, and what changes while they serve.

    declared ──> LOADING ──warm──> READY ──removed──> DRAINING ──last stream ended──> gone
                    │                │ ^
          at fault  v          changed v │ the new pool is warm and takes new streams,
                  FAILED         (rolling)  the old one drains

A voice is changed by a second pool beside the first, where the device has room for both; else the
replicas make way one by one. A change of the number of replicas or of marks alone changes the pool
in its place. Streams stay with the pool that they began with.
"""

import asyncio
import enum
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from services.tts.core.figures import PoolStats
from services.tts.core.model import ReplicaStartError, VoiceSpec
from services.tts.core.pool import Pool
from services.tts.core.roll import Roll
from services.tts.core.starting import BACKGROUND, PRELOAD, DeviceMemory, Place, StartGate
from voicemesh.runtime.breaker import BreakerSpec
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)

_IDLE_STREAMS_NS: Final = 600_000_000_000
"""A stream that has nothing to say holds the model of a voice that changed for 10 minutes at most."""

MakePool = Callable[[VoiceSpec, Place], Pool]


class VoiceState(enum.Enum):
    """Where a voice is; see the module."""

    LOADING = enum.auto()
    READY = enum.auto()
    DRAINING = enum.auto()
    FAILED = enum.auto()


@dataclass(slots=True)
class Voice:
    """One declared voice."""

    spec: VoiceSpec
    """As it was declared last."""
    place: Place
    pool: Pool
    """Takes its new streams."""
    counts: bool
    """Whether the service is unready without it."""
    roll: Roll | None = None
    """Its change, while that is under way."""
    fault: str = ""
    """Why it cannot be loaded as declared."""
    task: asyncio.Task[None] | None = None

    @property
    def state(self) -> VoiceState:
        """Where it is."""
        if self.pool.replicas.capabilities is not None:
            return VoiceState.READY
        return VoiceState.FAILED if self.fault else VoiceState.LOADING


@dataclass(slots=True)
class _Draining:
    pool: Pool
    since_ns: int
    closing: asyncio.Task[None] | None = field(default=None)


class Voices:
    """See the module.

    Args:
        specs: The declarations; their names differ.
        make_pool: Makes the pool of one.
        starting: Replicas that start at the same time, over all voices.
        memory: What the devices have.
        clock: For the time that streams may hold what they began with.
        changed: Called when a voice became ready, or is no more.

    """

    def __init__(
        self,
        specs: Sequence[VoiceSpec],
        make_pool: MakePool,
        starting: int,
        memory: DeviceMemory,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self._make_pool = make_pool
        self._gate = StartGate(starting)
        self._memory = memory
        self._clock = clock
        self._changed = changed
        self._draining: list[_Draining] = []
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.declared = {spec.name: self._voice(spec, counts=spec.preload) for spec in specs}

    def _voice(self, spec: VoiceSpec, *, counts: bool) -> Voice:
        place = Place(spec.name, self._gate, self._memory)
        return Voice(spec, place, self._make_pool(spec, place), counts)

    # ---- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the voices that the service waits for, and the others behind them.

        Raises:
            ReplicaStartError: A declaration of the first is wrong; its text names the voice.

        """
        first = [voice for voice in self.declared.values() if voice.spec.preload]
        results = await asyncio.gather(
            *(voice.pool.start(PRELOAD) for voice in first), return_exceptions=True
        )
        for voice, result in zip(first, results, strict=True):
            if isinstance(result, ReplicaStartError):
                raise ReplicaStartError(f"voice {voice.spec.name!r}: {result}", declaration_at_fault=True)
            if isinstance(result, BaseException):
                raise result
        for voice in self.declared.values():
            if not voice.spec.preload:
                self._load(voice)

    def _load(self, voice: Voice) -> None:
        voice.task = self._spawn(self._load_now(voice), f"load {voice.spec.name}")

    async def _load_now(self, voice: Voice) -> None:
        pool = voice.pool
        _log.info("voice is loaded", voice=voice.spec.name, replicas=voice.spec.replicas)
        try:
            await pool.start(BACKGROUND)
        except ReplicaStartError as error:
            if voice.pool is pool:
                self._fail(voice, str(error))
            await pool.close()

    def _fail(self, voice: Voice, reason: str) -> None:
        voice.fault = reason
        _log.error("voice cannot be loaded as declared", voice=voice.spec.name, reason=reason)

    @property
    def healthy(self) -> bool:
        """Whether every voice can be spoken that was to be at the start, or could be before."""
        return all(self._can_speak(voice) for voice in self.declared.values() if voice.counts)

    def _can_speak(self, voice: Voice) -> bool:
        """Return whether a voice can be spoken, by itself or by one that stands in for it."""
        names = (voice.spec.name, *(name.split("/")[0] for name in voice.spec.fallback))
        return any(self.declared[name].pool.replicas.healthy for name in names if name in self.declared)

    def health_changed(self) -> None:
        """Hear that a pool's health may have changed."""
        for voice in self.declared.values():
            if voice.pool.replicas.capabilities is not None and not voice.counts:
                voice.counts = True
                _log.info("voice ready", voice=voice.spec.name)
        self._news.set()

    def tick(self) -> None:
        """Look after the pools: those that speak, those on their way, and those that drain."""
        for pool in self._pools():
            pool.tick()
        for draining in self._draining:
            late = self._clock.now_ns() - draining.since_ns > _IDLE_STREAMS_NS
            if draining.closing is None and draining.pool.idle and (late or not draining.pool.users):
                draining.closing = self._spawn(self._end(draining), f"end {draining.pool.spec.name}")
        self._news.set()

    async def _end(self, draining: _Draining) -> None:
        await draining.pool.close()
        self._draining.remove(draining)
        spec = draining.pool.spec
        if (voice := self.declared.get(spec.name)) is not None:
            voice.pool.stats.add(draining.pool.snapshot())  # counters never go back
        _log.info("voice has drained", voice=spec.name)
        self._news.set()
        self._changed()

    async def close(self) -> None:
        """End every replica; returns when each process is gone."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(pool.close() for pool in self._pools()))

    def _pools(self) -> list[Pool]:
        coming = [voice.roll.coming for voice in self.declared.values() if voice.roll is not None]
        return [
            *(voice.pool for voice in self.declared.values()),
            *(pool for pool in coming if pool is not None and pool is not self.declared[pool.spec.name].pool),
            *(draining.pool for draining in self._draining),
        ]

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---- changes ------------------------------------------------------------------------------

    def change(self, specs: Sequence[VoiceSpec], accepts: Callable[[Pool], str]) -> None:
        """Have these voices from now on; returns at once, new models are loaded meanwhile.

        Args:
            specs: The declarations; their names differ.
            accepts: Says why a changed voice's new pool, once warm, may not take its place, or "".

        """
        wanted = {spec.name: spec for spec in specs}
        for name in [name for name in self.declared if name not in wanted]:
            self._remove(self.declared[name])
        for name, spec in wanted.items():
            voice = self.declared.get(name)
            if voice is None:
                voice = self.declared[name] = self._voice(spec, counts=False)
                self._load(voice)
            elif voice.spec != spec:
                self._change(voice, spec, accepts)
        self._changed()

    def _remove(self, voice: Voice) -> None:
        self._cancel_roll(voice)
        del self.declared[voice.spec.name]
        _log.info("voice is removed", voice=voice.spec.name, streams=voice.pool.users)
        self._drain(voice.pool)

    def _drain(self, pool: Pool) -> None:
        self._draining.append(_Draining(pool, self._clock.now_ns()))

    def _cancel_roll(self, voice: Voice) -> None:
        if voice.roll is not None and voice.task is not None:
            voice.task.cancel()
        self._stop_roll(voice)

    def _stop_roll(self, voice: Voice) -> None:
        """Give up a change that is under way; what takes streams goes on, with all its replicas."""
        roll, voice.roll = voice.roll, None
        if roll is None:
            return
        if roll.coming is not None and roll.coming is not voice.pool:
            self._drain(roll.coming)
        voice.pool.replicas.resize(voice.pool.spec.replicas)

    def _change(self, voice: Voice, spec: VoiceSpec, accepts: Callable[[Pool], str]) -> None:
        self._cancel_roll(voice)
        voice.spec, voice.fault = spec, ""
        old = voice.pool
        if _alike(old.spec, spec) and voice.state is not VoiceState.FAILED:
            _log.info("voice is resized", voice=spec.name, replicas=spec.replicas)
            old.adopt(spec)
        elif old.replicas.capabilities is None:  # nobody speaks with it: its successor need not wait
            voice.pool = self._make_pool(spec, voice.place)
            self._drain(old)
            self._load(voice)
        else:
            voice.roll = Roll(old, spec, voice.place, self._make_pool, self._wait)
            voice.task = self._spawn(self._roll(voice, voice.roll, accepts), f"roll {spec.name}")

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def _roll(self, voice: Voice, roll: Roll, accepts: Callable[[Pool], str]) -> None:
        _log.info("voice is rolled", voice=voice.spec.name, replicas=voice.spec.replicas)
        try:
            coming = await roll.first()
            objection = accepts(coming)
        except ReplicaStartError as error:
            objection = str(error)
        if objection:
            # What speaks goes on as it was; the next declaration that differs is another try.
            self._fail(voice, objection)
            self._stop_roll(voice)
            return
        voice.pool = coming
        self._drain(roll.old)
        _log.info("voice takes new streams", voice=voice.spec.name, old_streams=roll.old.users)
        self._changed()
        await roll.rest()
        voice.roll = None

    # ---- figures ------------------------------------------------------------------------------

    def draining(self) -> list[Pool]:
        """Return the pools that take no new stream and have old ones."""
        return [draining.pool for draining in self._draining]

    def stats(self) -> list[PoolStats]:
        """Return the figures of every pool: those that take streams, on their way, and draining."""
        draining = self.draining()
        stats = []
        for pool in self._pools():
            voice = self.declared.get(pool.spec.name)
            state = VoiceState.READY if pool.replicas.capabilities is not None else VoiceState.LOADING
            if pool in draining:
                state = VoiceState.DRAINING
            elif voice is not None and voice.pool is pool:
                state = voice.state
            elif voice is not None:
                state = VoiceState.LOADING  # warm, perhaps, but it takes no stream yet
            stats.append(replace(pool.snapshot(), state=state.name, fault=voice.fault if voice else ""))
        return stats


def _alike(old: VoiceSpec, new: VoiceSpec) -> bool:
    """Return whether a pool can become the other without another start of its replicas."""
    same: dict[str, Any] = {"replicas": 1, "max_resident_mb": 0, "max_device_mb": 0, "preload": True}
    same |= {"fallback": (), "breaker": BreakerSpec(), "hedge": True}
    return replace(old, **same) == replace(new, **same)
