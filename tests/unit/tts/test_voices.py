"""Voices that come, change and go while turns run, on scripted replicas."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from services.tts.core.model import (
    AudioFormat,
    ChunkOrder,
    FinishedEvent,
    Limits,
    ReplicaListener,
    ReplicaStartError,
    VoiceSpec,
)
from services.tts.core.service import Speech
from services.tts.core.turn import Turn
from tests.unit.tts.scripted import CAPABILITIES, Changes, ScriptedReplica, Watcher
from tests.unit.tts.speaking import rest
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.errors import (
    NoEngineError,
    SettingsError,
    UnknownVoiceError,
    VoiceNotReadyError,
)


@dataclass
class Launcher:
    """Starts replicas whose revision is an option; one whose voice is held waits until it is let go."""

    held: dict[str, asyncio.Event] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    fails: set[str] = field(default_factory=set)
    tried: list[str] = field(default_factory=list)
    started: list[tuple[VoiceSpec, ScriptedReplica]] = field(default_factory=list)

    async def __call__(self, spec: VoiceSpec, listener: ReplicaListener) -> ScriptedReplica:
        revision = str(spec.options.get("revision", "r1"))
        self.tried.append(revision)
        if revision in self.fails:
            raise ReplicaStartError("not now")
        if revision in self.held:
            await self.held[revision].wait()
        if revision in self.wrong:
            raise ReplicaStartError("no such model", declaration_at_fault=True)
        capabilities = CAPABILITIES._replace(revision=revision)
        if revision == "no-de":
            capabilities = capabilities._replace(variants=CAPABILITIES.variants[:1])
        replica = ScriptedReplica(1000 + len(self.started), listener, capabilities)
        self.started.append((spec, replica))
        return replica

    def of(self, revision: str) -> list[ScriptedReplica]:
        return [replica for _, replica in self.started if replica.capabilities.revision == revision]


def spec(name: str, revision: str = "r1", **values: Any) -> VoiceSpec:
    return VoiceSpec(name, "scripted", values.pop("replicas", 1), "en-us", {"revision": revision}, **values)


class World:
    def __init__(self, *specs: VoiceSpec, default: str = "", at_once: int = 2, **memory_mb: int) -> None:
        self.clock = ManualClock(10**12)
        self.launcher = Launcher()
        self.health = Changes()
        self.speech = Speech(
            specs,
            default,
            self.launcher,
            self.clock,
            Limits(starting_replicas=at_once),
            self.health,
            memory_mb,
        )

    async def __aenter__(self) -> Self:
        await self.speech.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.speech.close()
        assert all(replica.killed or replica.closed for _, replica in self.launcher.started)

    def turn(self, voice: str = "") -> Turn:
        turn = self.speech.open_turn(lambda _order, _speaker: Watcher())
        turn.configure("t", voice, AudioFormat(), 0)
        return turn

    def states(self) -> dict[str, list[str]]:
        states: dict[str, list[str]] = {}
        for stats in self.speech.stats():
            states.setdefault(stats.voice, []).append(stats.state)
        return states

    async def until(self, states: dict[str, list[str]]) -> None:
        """Let the timer tick until every pool is where it is expected."""
        await self.see(lambda: self.states() == states)

    async def see(self, predicate: Callable[[], bool]) -> None:
        """Let the timer tick until something is so."""
        async with asyncio.timeout(5):
            while not predicate():
                self.speech.tick()
                await asyncio.sleep(0)

    def speaks(self) -> str:
        """Return the revision with which a new turn would speak."""
        turn = self.turn()
        turn.abandon()
        return self.revision(turn)

    def revision(self, turn: Turn) -> str:
        assert turn.speaker is not None
        capabilities = turn.speaker.pool.replicas.capabilities
        assert capabilities is not None
        return capabilities.revision


async def speak(turn: Turn, replica: ScriptedReplica, index: int = 0) -> None:
    turn.add(ChunkOrder(index, "text"))
    replica.make(10)
    replica.finish()


async def test_a_voice_that_is_added_can_be_asked_for_when_it_is_warm():
    async with World(spec("a")) as world:
        world.launcher.held["new"] = asyncio.Event()
        world.speech.change([spec("a"), spec("b", "new")])
        assert world.speech.healthy
        with pytest.raises(VoiceNotReadyError) as caught:
            world.turn("b")
        assert caught.value.retry_after_ms
        assert {voice.name for voice in world.speech.voices()} == {"a", "a/de", "a/en-us"}
        listed = {voice.name: voice.state for voice in world.speech.voices(everything=True)}
        assert (listed["a"], listed["b"]) == ("READY", "LOADING")
        world.launcher.held["new"].set()
        await world.until({"a": ["READY"], "b": ["READY"]})
        turn = world.turn("b/de")
        await speak(turn, world.launcher.of("new")[0])
        turn.half_close()
        assert isinstance((await rest(turn))[-1], FinishedEvent)


async def test_a_voice_that_is_removed_drains_while_its_turns_finish():
    async with World(spec("a"), spec("b", "gone")) as world:
        turn = world.turn("b")
        world.speech.change([spec("a")])
        with pytest.raises(UnknownVoiceError):
            world.turn("b")
        await world.until({"a": ["READY"], "b": ["DRAINING"]})
        (replica,) = world.launcher.of("gone")
        for index in range(2):
            await speak(turn, replica, index)
            world.speech.tick()
            assert replica.alive()
        turn.half_close()
        assert [type(event) for event in await rest(turn)][-1] is FinishedEvent
        await world.until({"a": ["READY"]})
        assert replica.killed or replica.closed


async def test_a_changed_voice_is_rolled_and_no_turn_notices():
    async with World(spec("a", replicas=2)) as world:
        world.launcher.held["r2"] = asyncio.Event()
        old = world.turn()
        world.speech.change([spec("a", "r2", replicas=2)])
        assert world.speaks() == "r1"  # until the new one is warm
        await world.until({"a": ["READY", "LOADING"]})
        world.launcher.held["r2"].set()
        await world.until({"a": ["READY", "DRAINING"]})
        new = world.turn()
        assert (world.revision(old), world.revision(new)) == ("r1", "r2")
        names = {member.name for stats in world.speech.stats() for member in stats.replicas}
        assert names == {"a-0", "a-1", "a-2", "a-3"}
        await speak(old, world.launcher.of("r1")[0])
        old.half_close()
        assert isinstance((await rest(old))[-1], FinishedEvent)
        for turn in (new, old):
            turn.abandon()
        completed = sum(stats.completed_chunks for stats in world.speech.stats())
        for _, replica in world.launcher.started:
            assert replica.capabilities.revision == "r1" or replica.alive()
        assert completed == 1


async def test_counters_of_a_model_go_on_in_its_successor():
    async with World(spec("a")) as world:
        turn = world.turn()
        await speak(turn, world.launcher.of("r1")[0])
        turn.half_close()
        await rest(turn)
        world.speech.change([spec("a", "r2")])
        await world.until({"a": ["READY"]} if world.launcher.of("r2") else {"a": ["READY", "LOADING"]})
        await world.until({"a": ["READY"]})
        assert world.launcher.of("r1")[0].killed or world.launcher.of("r1")[0].closed
        assert world.speech.stats()[0].completed_chunks == 1


async def test_where_two_do_not_fit_a_voice_is_rolled_replica_by_replica():
    async with World(spec("a", replicas=3, memory_mb=100), cpu=300) as world:
        turn = world.turn()
        world.speech.change([spec("a", "r2", replicas=3, memory_mb=100)])
        alive = []

        def two_are_new() -> bool:
            alive.append(sum(not r.killed and not r.closed for _, r in world.launcher.started))
            return len(world.launcher.of("r2")) == 2

        await world.see(two_are_new)
        assert max(alive) == 3
        # The last old replica waits for the last old turn.
        await speak(turn, next(r for r in world.launcher.of("r1") if r.alive()))
        turn.half_close()
        assert isinstance((await rest(turn))[-1], FinishedEvent)
        await world.until({"a": ["READY"]})
        await world.see(lambda: world.speech.stats()[0].ready_replicas == 3)
        assert world.speaks() == "r2"


async def test_one_replica_without_room_for_a_second_is_not_silenced_by_a_change():
    async with World(spec("a", memory_mb=200), cpu=300) as world:
        world.speech.change([spec("a", "r2", memory_mb=200)])
        await world.see(lambda: bool(world.speech.stats()[0].fault))
        assert "no room" in world.speech.stats()[0].fault
        assert world.speaks() == "r1"


async def test_a_changed_voice_that_cannot_be_loaded_leaves_the_old_one():
    async with World(spec("a")) as world:
        world.launcher.wrong.add("bad")
        world.speech.change([spec("a", "bad")])
        await world.until({"a": ["READY"]})
        await world.see(lambda: bool(world.speech.stats()[0].fault))
        assert world.speech.stats()[0].fault == "no such model"
        assert world.speaks() == "r1"
        world.speech.change([spec("a", "r2")])
        await world.until({"a": ["READY", "LOADING"]})
        await world.until({"a": ["READY"]})
        assert world.speaks() == "r2"
        assert not world.speech.stats()[0].fault


async def test_an_added_voice_that_cannot_be_loaded_says_why_and_can_be_mended():
    async with World(spec("a")) as world:
        world.launcher.wrong.add("bad")
        world.speech.change([spec("a"), spec("b", "bad")])
        await world.until({"a": ["READY"], "b": ["FAILED"]})
        with pytest.raises(NoEngineError, match="no such model"):
            world.turn("b")
        assert world.speech.healthy
        world.speech.change([spec("a"), spec("b", "good")])
        await world.until({"a": ["READY"], "b": ["READY"]})


async def test_a_change_that_is_taken_back_while_it_loads_is_given_up():
    async with World(spec("a")) as world:
        world.launcher.held["r2"] = asyncio.Event()
        world.speech.change([spec("a", "r2")])
        await world.until({"a": ["READY", "LOADING"]})
        world.speech.change([spec("a")])
        world.launcher.held["r2"].set()
        await world.until({"a": ["READY"]})
        assert world.speaks() == "r1"
        assert not [r for r in world.launcher.of("r2") if r.alive() and not r.closed]


async def test_the_number_of_replicas_changes_in_its_place():
    async with World(spec("a")) as world:
        world.speech.change([spec("a", replicas=3)])
        await world.see(lambda: world.speech.stats()[0].ready_replicas == 3)
        assert len(world.launcher.started) == 3
        world.speech.change([spec("a", max_resident_mb=5)])
        assert world.speech.stats()[0].ready_replicas == 1


async def test_a_voice_that_is_not_preloaded_is_loaded_behind_the_start():
    world = World(spec("a"), spec("b", "late", preload=False))
    world.launcher.held["late"] = asyncio.Event()
    async with world:
        assert world.speech.healthy
        with pytest.raises(VoiceNotReadyError):
            world.turn("b")
        world.launcher.held["late"].set()
        await world.until({"a": ["READY"], "b": ["READY"]})


async def test_the_default_voice_cannot_be_removed_nor_lose_its_variant():
    async with World(spec("a"), spec("b"), default="a/de") as world:
        with pytest.raises(SettingsError, match="'a' is the default voice"):
            world.speech.change([spec("b")])
        assert (world.speech.changes.refused, world.speech.changes.accepted) == (1, 0)
        world.speech.change([spec("a", "no-de")])
        await world.see(lambda: any(stats.fault for stats in world.speech.stats()))
        assert world.speaks() == "r1"


async def test_a_stream_that_says_nothing_holds_an_old_model_for_a_while_only():
    async with World(spec("a"), spec("b", "gone")) as world:
        world.turn("b")
        world.speech.change([spec("a")])
        for _ in range(3):
            world.speech.tick()
        assert world.states()["b"] == ["DRAINING"]
        world.clock.advance_ms(601_000)
        await world.until({"a": ["READY"]})


async def test_a_stream_whose_old_model_is_gone_goes_on_with_the_new_one():
    async with World(spec("a")) as world:
        turn = world.turn()
        world.speech.change([spec("a", "r2")])
        await world.see(lambda: world.states()["a"] == ["READY", "DRAINING"])
        world.clock.advance_ms(601_000)
        await world.until({"a": ["READY"]})
        turn.add(ChunkOrder(0, "text"))
        turn.half_close()
        (new,) = world.launcher.of("r2")
        new.make(10)
        new.finish()
        frame, end = await rest(turn)
        assert (frame.start.voice, frame.start.is_fallback) == ("a/en-us", False)
        assert frame.start.model_revision == world.speech.voices()[0].model_revision
        assert isinstance(end, FinishedEvent)


async def test_a_stream_whose_voice_was_removed_is_told():
    async with World(spec("a"), spec("b", "gone")) as world:
        turn = world.turn("b")
        world.speech.change([spec("a")])
        world.clock.advance_ms(601_000)
        await world.until({"a": ["READY"]})
        turn.add(ChunkOrder(0, "text"))
        turn.half_close()
        (failed,) = await rest(turn)
        assert "the voice 'b' is not loaded any more" in str(failed.error)


async def test_a_chunk_goes_on_when_the_voice_that_speaks_for_another_is_removed_meanwhile():
    main = spec("a", "broken", fallback=("b",), preload=False)
    async with World(main, spec("b"), default="b") as world:
        world.launcher.wrong.add("broken")
        turn = world.turn("a")
        turn.add(ChunkOrder(0, "text"))
        (other,) = world.launcher.of("r1")
        other.make(10)
        world.speech.change([spec("b", "r2")])
        await world.see(lambda: world.states()["b"] == ["READY", "DRAINING"])
        other.make(10)
        other.finish()
        turn.half_close()
        *frames, end = await rest(turn)
        assert sum(len(frame.pcm) // 2 for frame in frames) == 20
        assert isinstance(end, FinishedEvent)


async def test_the_service_ends_while_a_voice_drains_and_nothing_is_left():
    async with World(spec("a"), spec("b", "gone", replicas=2)) as world:
        world.speech.change([spec("a")])
        world.speech.tick()
        await asyncio.sleep(0)  # its end has begun
    assert all(replica.closed for _, replica in world.launcher.started)


async def test_a_voice_that_does_not_start_lets_others_start_first():
    hold = asyncio.Event()
    world = World(spec("a"), at_once=1)
    world.launcher.held["slow"] = hold
    async with world:
        world.launcher.fails.add("broken")
        world.speech.change([spec("a"), spec("b", "broken", replicas=2), spec("c", "slow"), spec("d", "r4")])
        await world.see(lambda: world.launcher.tried[-1:] == ["slow"])
        world.clock.advance_ms(60_000)  # the broken ones are due again
        world.speech.tick()
        await asyncio.sleep(0)
        tried = len(world.launcher.tried)
        hold.set()
        await world.see(lambda: bool(world.launcher.of("r4")))
        assert world.launcher.tried[tried] == "r4"
