"""Voices, health and drain of the service, and batches, on a scripted replica."""

import asyncio
from typing import Any

import pytest

from services.tts import resampling
from services.tts.core.batch import Batch
from services.tts.core.model import (
    AudioFormat,
    ChunkOrder,
    FailedEvent,
    FinishedEvent,
)
from tests.unit.tts.scripted import ScriptedReplica
from tests.unit.tts.speaking import World, rest
from voicemesh.runtime.errors import (
    DrainingError,
    InvalidFieldError,
    UnknownVoiceError,
)


async def test_voices_are_listed_and_found_by_name():
    async with World() as world:
        voices = world.speech.voices()
        assert [voice.name for voice in voices] == ["voice", "voice/de", "voice/en-us"]
        assert [voice.is_default for voice in voices] == [True, False, False]
        assert voices[0].model_revision == voices[2].model_revision != voices[1].model_revision
        assert [voice.name for voice in world.speech.voices("EN")] == ["voice", "voice/en-us"]
        assert world.speech.voices("e") == []
        assert world.speech.find("voice/en")[1] == "en-us"
        assert world.speech.find("Voice/DE")[1] == "de"


@pytest.mark.parametrize(("name", "near"), [("voise/de", "voice/de"), ("voice/dx", "voice/de"), ("zzz", "")])
async def test_an_unknown_voice_is_told_what_is_near(name, near):
    async with World() as world:
        with pytest.raises(UnknownVoiceError, match="ListVoices") as caught:
            world.turn(voice=name)
        assert near in caught.value.message


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (AudioFormat("MULAW"), "configure.format.encoding"),
        (AudioFormat("PCM_S16LE", 8001), "configure.format.sample_rate_hz"),
        (AudioFormat("UNSPECIFIED", 1000, 2), "configure.format.channels"),
    ],
)
async def test_other_formats_are_refused_by_field_with_what_there_is(wanted, field):
    async with World() as world:
        turn = world.speech.open_turn(world.observe)
        offer = {"encoding": "PCM_S16LE", "sample_rate_hz": "1000, 8000, .*48000 Hz", "channels": "1 channel"}
        with pytest.raises(InvalidFieldError, match=offer[field.rpartition(".")[2]]) as caught:
            turn.configure("t", "", wanted, 0)
        assert caught.value.field == field


@pytest.mark.parametrize(("wanted_hz", "told_hz"), [(1000, 1000), (0, 1000), (16000, 16000)])
async def test_a_rate_that_is_offered_is_told_and_asked_of_the_replica(wanted_hz, told_hz):
    async with World() as world:
        turn = world.speech.open_turn(world.observe)
        turn.configure("t", "", AudioFormat("PCM_S16LE", wanted_hz, 1), 1)
        turn.add(ChunkOrder(0, "text"))
        assert turn.speaker is not None
        assert turn.speaker.sample_rate_hz == told_hz
        assert world.replica().last.sample_rate_hz == told_hz


async def test_a_rate_that_needs_a_package_is_refused_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(resampling, "missing", lambda: "soxr")
    async with World() as world:
        turn = world.speech.open_turn(world.observe)
        with pytest.raises(InvalidFieldError, match=r"soxr is not installed.*voicemesh\[server\].*1000 Hz"):
            turn.configure("t", "", AudioFormat("", 16000), 1)
        turn.configure("t", "", AudioFormat("", 1000), 1)


async def test_health_follows_the_pools_and_what_came_in_goes_on_to_its_end():
    async with World() as world:
        assert world.health.calls >= 1
        assert world.speech.healthy
        running = world.turn()
        running.add(ChunkOrder(0, "text"))
        world.speech.drain()
        # gRPC takes no more calls by now; one that it took just before is served.
        world.speech.open_turn(world.observe).abandon()
        running.half_close()
        world.replica().make(10)
        world.replica().finish()
        assert isinstance((await rest(running))[-1], FinishedEvent)
        await world.speech.close()
        with pytest.raises(DrainingError):
            world.speech.open_turn(world.observe)


async def batch_events(batch: Batch) -> list[Any]:
    async with asyncio.timeout(5):
        return [part async for part in batch]


async def test_a_batch_speaks_identical_texts_once_and_fails_alone():
    async with World(replicas=2) as world:
        batch = world.speech.open_batch(["one", "two", "one", ""], "", AudioFormat(), 0, world.observe)
        collecting = asyncio.ensure_future(batch_events(batch))
        first = await anext_lease(world, 0)
        second = await anext_lease(world, 1)
        second.make(10)
        second.finish()
        first.make(10)
        first.finish()
        events = await collecting
        assert {part.text_indexes for part in events} == {(0, 2), (1,), (3,)}
        (failed,) = [part.event for part in events if isinstance(part.event, FailedEvent)]
        assert failed.error.field == "texts[3]"
        assert sum(isinstance(part.event, FinishedEvent) for part in events) == 2


async def anext_lease(world: World, index: int) -> ScriptedReplica:
    async with asyncio.timeout(5):
        await world.launcher.replicas[index].spoke.wait()
    return world.launcher.replicas[index]


async def test_a_batch_runs_a_few_at_once_behind_live_turns():
    async with World(batch_concurrency=2) as world:
        batch = world.speech.open_batch(["a", "b", "c"], "", AudioFormat(), 0, world.observe)
        collecting = asyncio.ensure_future(batch_events(batch))
        await anext_lease(world, 0)
        assert world.stats().queued_chunks == 1
        turn = world.turn()
        turn.add(ChunkOrder(0, "live", deadline_ms=1000))
        world.replica().make(1)
        world.replica().finish()
        assert world.replica().last.text == "live"
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
        batch.abandon()
        turn.abandon()


@pytest.mark.parametrize("texts", [[], ["x"] * 1001])
async def test_a_batch_has_bounds(texts):
    async with World() as world:
        with pytest.raises(InvalidFieldError, match="texts: "):
            world.speech.open_batch(texts, "", AudioFormat(), 0, world.observe)
