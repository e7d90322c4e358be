"""Voices that stand in for each other, on scripted replicas and a clock that stands still."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

import pytest

from services.tts.core.figures import PoolStats
from services.tts.core.model import (
    AudioFormat,
    Capabilities,
    ChunkOrder,
    FailedEvent,
    Fault,
    FinishedEvent,
    FrameEvent,
    ReplicaListener,
    ReplicaStartError,
    VoiceSpec,
    Word,
    WordsEvent,
)
from services.tts.core.service import Speech
from services.tts.core.speaker import Speaker
from services.tts.core.turn import Turn
from tests.unit.tts.scripted import CAPABILITIES, LIMITS, Changes, ScriptedLauncher, ScriptedReplica, Watcher
from tests.unit.tts.speaking import nothing_yet, rest, take
from voicemesh.runtime.breaker import BreakerSpec
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.errors import NoEngineError, QueueFullError, SettingsError

TEXT = "one two three four"
MAIN = VoiceSpec("main", "scripted", 1, "en-us", {}, fallback=("spare",), breaker=BreakerSpec(3, 10, 2))
SPARE = VoiceSpec("spare", "scripted", 1, "en-us", {})


@dataclass
class Launchers:
    """A launcher for each voice."""

    by_voice: dict[str, ScriptedLauncher] = field(default_factory=dict)

    def of(self, voice: str) -> ScriptedLauncher:
        return self.by_voice.setdefault(voice, ScriptedLauncher())

    async def __call__(self, spec: VoiceSpec, listener: ReplicaListener) -> ScriptedReplica:
        return await self.of(spec.name)(spec, listener)


class Voices:
    """A service with a voice and its fallbacks."""

    def __init__(self, *specs: VoiceSpec, spare: Capabilities = CAPABILITIES, **limits: Any) -> None:
        self.clock = ManualClock(5_000_000_000)
        self.launchers = Launchers({"spare": ScriptedLauncher(spare)})
        self.health = Changes()
        self.watcher = Watcher()
        limits = {"max_attempts": 0, **limits}
        self.speech = Speech(
            specs or (MAIN, SPARE), "", self.launchers, self.clock, replace(LIMITS, **limits), self.health
        )

    async def __aenter__(self) -> Self:
        await self.speech.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.speech.close()

    def observe(self, _order: ChunkOrder, _speaker: Speaker) -> Watcher:
        return self.watcher

    def ask(self, text: str = TEXT, voice: str = "", **order: Any) -> Turn:
        turn = self.speech.open_turn(self.observe)
        turn.configure("t", voice, AudioFormat(), 0)
        turn.add(ChunkOrder(0, text, **order))
        turn.half_close()
        return turn

    def replica(self, voice: str = "main", index: int = -1) -> ScriptedReplica:
        return self.launchers.of(voice).replicas[index]

    def stats(self, voice: str = "main") -> PoolStats:
        return next(stats for stats in self.speech.stats() if stats.voice == voice)

    async def ready(self, voice: str = "main") -> None:
        await self.health.until(lambda: self.stats(voice).ready_replicas > 0)

    async def break_main(self, times: int = 3) -> None:
        """Let the main voice fail until its breaker is open; the spare one speaks."""
        for _ in range(times):
            turn = self.ask("text")
            self.replica().die()
            self.replica("spare").make(10)
            self.replica("spare").finish()
            await rest(turn)
            if self.stats().breaker == "CLOSED":
                self.clock.advance_ms(500)
                self.speech.tick()
                await self.ready()


def words_of(events: list[Any]) -> list[tuple[str, Word]]:
    return [word for event in events if isinstance(event, FrameEvent | WordsEvent) for word in event.words]


def contiguous(events: list[Any]) -> int:
    """Check that frames follow each other; return where they end."""
    at = 0
    frames = [event for event in events if isinstance(event, FrameEvent)]
    for sequence, frame in enumerate(frames):
        assert (frame.sequence, frame.offset_samples) == (sequence, at)
        at += len(frame.pcm) // 2
    return at


async def test_a_voice_that_fails_before_its_first_frame_is_replaced_as_a_whole():
    async with Voices() as world:
        turn = world.ask()
        world.replica().die()
        spare = world.replica("spare")
        assert (spare.last.text, spare.last.start_offset_samples, spare.last.attempt) == (TEXT, 0, 0)
        spare.say(Word(0, 3, 0))
        spare.make(40)
        spare.finish()
        events = await rest(turn)
        assert contiguous(events) == 40
        start = events[0].start
        assert (start.voice, start.is_fallback, start.replica) == ("spare/en-us", True, "spare-0")
        end = events[-1]
        assert isinstance(end, FinishedEvent)
        assert (end.total_samples, end.resumed, end.cancelled) == (40, 1, False)
        assert ("fell_back", "spare/en-us") in world.watcher.log
        assert world.stats().fallback_chunks == 1
        assert (world.stats("spare").completed_chunks, world.stats().completed_chunks) == (1, 0)


async def test_a_voice_that_breaks_off_is_followed_at_the_last_whole_word():
    async with Voices() as world:
        turn = world.ask()
        main, spare = world.replica(), world.replica("spare")
        main.say(Word(0, 3, 0))
        main.make(20)
        main.say(Word(4, 3, 30), Word(8, 5, 60))
        (first,) = await take(turn, 1)
        main.make(60)  # to 80: "three" has begun, and is not whole
        main.die()
        assert spare.last.text == "three four"
        spare.say(Word(0, 5, 0))
        spare.make(20)
        spare.say(Word(6, 4, 40))
        spare.make(50)
        spare.finish()
        events = [first, *await rest(turn)]
        assert first.start.voice == "main/en-us"
        assert not first.start.is_fallback
        # 20 samples delivered, 40 kept to where "three" began, 4 of the fade, 70 of the other voice.
        assert contiguous(events) == 134
        assert events[-1] == FinishedEvent(0, 134, 0, False, 1, events[-1].wasted_us, events[-1].engine_us)
        assert events[-1].wasted_us < events[-1].engine_us
        begun = [event.offset_samples for event in events if isinstance(event, FrameEvent) and event.start]
        assert begun == [0, 64]
        assert words_of(events) == [
            ("one", Word(0, 3, 0)),
            ("two", Word(4, 3, 30)),
            ("three", Word(8, 5, 64)),
            ("four", Word(14, 4, 104)),
        ]


async def test_a_word_that_was_half_delivered_is_said_again_and_told_once():
    async with Voices() as world:
        turn = world.ask()
        main, spare = world.replica(), world.replica("spare")
        main.say(Word(0, 3, 0))
        main.make(20)
        main.say(Word(4, 3, 30))
        main.make(20)
        heard = await take(turn, 1)
        assert heard[0].offset_samples + len(heard[0].pcm) // 2 == 40
        main.die()
        assert spare.last.text == "two three four"
        spare.say(Word(0, 3, 0), Word(4, 5, 30))
        spare.make(60)
        spare.finish()
        events = [*heard, *await rest(turn)]
        assert contiguous(events) == 40 + 4 + 60
        assert [(word, told.offset_samples) for word, told in words_of(events)] == [
            ("one", 0),
            ("two", 30),
            ("three", 74),
        ]


async def test_nothing_of_what_failed_is_heard_behind_the_cut():
    async with Voices() as world:
        turn = world.ask()
        main, spare = world.replica(), world.replica("spare")
        main.say(Word(0, 3, 0), Word(4, 3, 30))
        main.make(20)
        await take(turn, 1)
        for _ in range(5):
            main.make(20)
        main.die()
        number = max(main.asked)
        main.listener.frame(number, 120, b"\x7f\x7f" * 20)  # what was on its way
        spare.make(20)
        spare.finish()
        events = await rest(turn)
        assert not any(b"\x7f\x7f" in event.pcm for event in events if isinstance(event, FrameEvent))
        assert events[-1].total_samples == 30 + 4 + 20


async def test_a_chunk_whose_last_word_was_heard_is_complete():
    async with Voices() as world:
        turn = world.ask("one two")
        world.replica().say(Word(0, 3, 0), Word(4, 3, 20))
        world.replica().make(150)
        (first,) = await take(turn, 1)
        world.replica().die()
        assert not world.replica("spare").asked
        events = [first, *await rest(turn)]
        assert isinstance(events[-1], FinishedEvent)
        assert events[-1].total_samples == contiguous(events) == 154


async def test_when_nobody_is_left_the_chunk_fails_with_every_reason():
    async with Voices() as world:
        turn = world.ask()
        world.replica().make(20)
        (first,) = await take(turn, 1)
        world.replica().die()
        world.replica("spare").die()
        *_, end = await rest(turn)
        assert first.offset_samples == 0
        assert isinstance(end, FailedEvent)
        assert isinstance(end.error, NoEngineError)
        assert "'main'" in str(end.error)
        assert "'spare'" in str(end.error)
        assert end.sent_samples == 24


async def test_a_text_that_the_engine_cannot_speak_is_spoken_by_the_next_and_is_no_fault_of_it():
    async with Voices() as world:
        turn = world.ask()
        main = world.replica()
        main.listener.failed(main.last_id, "no such letters", Fault.TEXT)
        world.replica("spare").make(20)
        world.replica("spare").finish()
        *_, end = await rest(turn)
        assert isinstance(end, FinishedEvent)
        assert world.stats().replaced_replicas == 0


async def test_the_breaker_keeps_chunks_from_a_broken_engine_and_lets_one_try_it():
    async with Voices() as world:
        await world.break_main()
        assert (world.stats().breaker, world.stats().breaker_opened) == ("OPEN", 1)
        world.clock.advance_ms(1000)
        world.speech.tick()
        await world.ready()  # it runs again, and nobody asks it yet
        turn = world.ask("one")
        assert not world.replica().asked
        assert world.replica("spare").last.text == "one"
        world.clock.advance_ms(1000)
        assert world.stats().breaker == "HALF_OPEN"
        probe, other = world.ask("two"), world.ask("three")
        assert world.replica().last.text == "two"
        world.replica("spare").make(10)
        world.replica("spare").finish()
        await rest(turn)
        assert world.replica("spare").last.text == "three"
        world.replica("spare").make(10)
        world.replica("spare").finish()
        world.replica().make(10)
        world.replica().finish()
        (frame, _), _ = await rest(probe), await rest(other)
        assert frame.start.voice == "main/en-us"
        assert world.stats().breaker == "CLOSED"


async def test_a_probe_that_is_cancelled_leaves_the_try_to_the_next():
    async with Voices() as world:
        await world.break_main()
        world.clock.advance_ms(2000)
        world.speech.tick()
        await world.ready()
        probe = world.ask("two")
        probe.abandon()
        world.replica().acknowledge()
        turn = world.ask("three")
        assert world.replica().last.text == "three"
        turn.abandon()
        world.replica().acknowledge()


async def test_chunks_that_wait_leave_when_the_breaker_opens():
    spec = replace(MAIN, breaker=BreakerSpec(1, 10, 2))
    async with Voices(spec, SPARE, max_attempts=2) as world:
        running, waiting = world.ask("one"), world.ask("two")
        world.replica().die()
        spare = world.replica("spare")
        assert {request.text for request in spare.asked.values()} < {"one", "two"}
        for _ in range(2):
            spare.make(10)
            spare.finish()
        for turn in (running, waiting):
            frame, _ = await rest(turn)
            assert frame.start.is_fallback


async def test_an_engine_that_is_always_silent_opens_its_breaker():
    async with Voices() as world:
        for attempt in range(3):
            turn = world.ask()
            world.replica().finish(made=0)
            world.replica("spare").make(20)
            world.replica("spare").finish()
            frame, end = await rest(turn)
            assert (frame.start.voice, end.resumed) == ("spare/en-us", 1)
            assert world.stats().breaker == ("OPEN" if attempt == 2 else "CLOSED")
            world.clock.advance_ms(1000)
            world.speech.tick()
            await world.ready()


async def test_a_full_queue_moves_a_chunk_only_where_another_voice_is_free():
    async with Voices(max_queued_chunks=1) as world:
        turns = [world.ask("speaks"), world.ask("waits"), world.ask("moves")]
        assert world.replica("spare").last.text == "moves"
        refused = world.ask("finds nobody")
        (end,) = await rest(refused)
        assert isinstance(end.error, QueueFullError)
        for turn in turns:
            turn.abandon()


async def test_a_voice_that_cannot_repeat_itself_goes_on_at_a_whole_word_too():
    main = replace(MAIN, name="other", fallback=())
    async with Voices(replace(SPARE), main, spare=CAPABILITIES._replace(deterministic=False)) as world:
        turn = world.ask(voice="spare")
        spare = world.replica("spare")
        spare.say(Word(0, 3, 0), Word(4, 3, 30))
        spare.make(50)
        await take(turn, 1)
        spare.die()
        (end,) = await rest(turn)
        assert isinstance(end, FailedEvent)  # no attempt is left
    async with Voices(SPARE, spare=CAPABILITIES._replace(deterministic=False), max_attempts=1) as world:
        turn = world.ask()
        spare = world.replica("spare")
        spare.say(Word(0, 3, 0), Word(4, 3, 30))
        spare.make(50)
        (first,) = await take(turn, 1)
        spare.die()
        await world.ready("spare")
        assert (world.replica("spare").last.text, world.replica("spare").last.attempt) == (
            "two three four",
            1,
        )
        world.replica("spare").make(40)
        world.replica("spare").finish()
        events = [first, *await rest(turn)]
        assert contiguous(events) == 94
        assert (events[-1].resumed, world.stats("spare").fallback_chunks) == (1, 0)


async def test_a_caller_who_has_some_of_it_already_hears_the_rest():
    async with Voices() as world:
        await world.break_main()
        turn = world.ask(start_offset_samples=300)
        assert world.replica("spare").last.text == "two three four"  # at 65 ms a letter
        world.replica("spare").make(50)
        world.replica("spare").finish()
        frame, end = await rest(turn)
        assert (frame.offset_samples, end.total_samples) == (300, 350)


async def test_a_cancelled_chunk_is_nobodys_any_more():
    async with Voices() as world:
        turn = world.speech.open_turn(world.observe)
        turn.configure("t", "", AudioFormat(), 0)
        turn.add(ChunkOrder(0, TEXT))
        world.replica().make(20)
        turn.cancel_chunk(0)
        world.replica().die()
        assert not world.replica("spare").asked
        (end,) = await take(turn, 1)
        assert isinstance(end, FinishedEvent)
        assert end.cancelled


async def test_the_variant_of_the_same_language_stands_in():
    async with Voices() as world:
        turn = world.ask(voice="main/de")
        world.replica().die()
        assert world.replica("spare").last.variant == "de"
        turn.abandon()


async def test_a_voice_that_never_started_is_spoken_by_its_fallback_and_the_service_is_ready():
    world = Voices()
    world.launchers.of("main").failures += [ReplicaStartError("no such model")] * 5
    async with world:
        assert world.speech.healthy
        turn = world.ask()
        world.replica("spare").make(10)
        world.replica("spare").finish()
        frame, _ = await rest(turn)
        assert frame.start.is_fallback
        main, spare = world.speech.voices()[0], world.speech.voices()[1]
        assert (main.name, main.state, main.is_default, main.ready_replicas) == ("main", "LOADING", True, 0)
        assert (main.model_revision, main.sample_rate_hz) == (spare.model_revision, spare.sample_rate_hz)
        assert main.model_revision == frame.start.model_revision
        assert await nothing_yet(world.speech.open_turn(world.observe))


@pytest.mark.parametrize(
    ("fallback", "message"),
    [
        (("nobody",), "'nobody' is not declared; there are main, spare"),
        (("main",), "'main' is the voice itself"),
        (("main/de",), "'main/de' is the voice itself"),
        (("spare", "spare/de"), "'spare/de' has the engine of another fallback"),
        (("spare/xx",), "there is no voice 'spare/xx'"),
    ],
)
async def test_fallbacks_that_are_no_use_are_refused_at_start(fallback, message):
    world = Voices(replace(MAIN, fallback=fallback), SPARE)
    with pytest.raises(SettingsError, match=message):
        await world.speech.start()
    await world.speech.close()


async def test_two_voices_may_stand_in_for_each_other():
    async with Voices(MAIN, replace(SPARE, fallback=("main",))) as world:
        turn = world.ask(voice="spare")
        world.replica("spare").die()
        assert world.replica("main").last.text == TEXT
        world.replica("main").die()
        (end,) = await rest(turn)
        assert isinstance(end, FailedEvent)


async def test_a_request_that_failed_is_spoken_by_a_free_voice_and_its_replica_stays():
    async with Voices(max_attempts=2) as world:
        turn = world.ask()
        main = world.replica()
        main.listener.failed(main.last_id, "HTTP 503", Fault.REQUEST)
        world.replica("spare").make(10)
        world.replica("spare").finish()
        frame, end = await rest(turn)
        assert frame.start.is_fallback
        assert isinstance(end, FinishedEvent)
        assert main.alive()


async def test_a_request_that_failed_is_asked_for_again_where_no_other_voice_is_free():
    async with Voices(replace(MAIN, fallback=()), max_attempts=1) as world:
        turn = world.ask()
        main = world.replica()
        main.listener.failed(main.last_id, "HTTP 503", Fault.REQUEST)
        assert main.last.attempt == 1
        main.make(10)
        main.listener.failed(main.last_id, "HTTP 504", Fault.REQUEST)
        *_, failed = await rest(turn)
        assert isinstance(failed, FailedEvent)
        assert "HTTP 504" in str(failed.error)
        assert main.alive()
