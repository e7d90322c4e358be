"""One suite for every engine, each in a real worker process."""

import asyncio
import os
import sys

import psutil
import pytest

from services.tts.core.model import Done, SpeakRequest
from services.tts.process import launch_worker
from services.tts.text import speakable
from tests.contract.engine_harness import (
    HOSTILE,
    TEXT,
    Ear,
    Take,
    alive,
    check,
    every_engine,
    speaker,
)


@every_engine
async def test_text_becomes_frames_and_words(spec):
    async with speaker(spec) as voice:
        capabilities = voice.replica.capabilities
        take = await voice.speak(TEXT)
        check(take, TEXT, capabilities.sample_rate_hz)
        assert take.done.made_samples > capabilities.sample_rate_hz
        assert not take.done.cancelled
        assert take.done.engine_us > 0
        assert len(take.frames[0][1]) == 2 * (capabilities.sample_rate_hz // 50)
        assert capabilities.word_timings
        words = [TEXT[w.text_offset : w.text_offset + w.text_length] for w in take.timings]
        assert words[:5] == ["The", "quick", "brown", "fox", "doesn't"]
        assert "12,345" in words
        assert words[-1] == "today"
        assert (
            max(abs(int.from_bytes(take.pcm[i : i + 2], "little", signed=True)) for i in range(0, 20000, 2))
            > 500
        )


@every_engine
async def test_the_same_request_gives_the_same_samples_in_any_process(spec):
    async with speaker(spec) as voice, speaker(spec) as other:
        assert voice.replica.capabilities == other.replica.capabilities
        assert voice.replica.capabilities.deterministic
        first = await voice.speak(TEXT, seed=7)
        variants = [variant.name for variant in voice.replica.capabilities.variants][::12] or [""]
        for number, variant in enumerate(variants):
            # Other texts, languages, speeds and a cancel in between leave no trace.
            request, take = voice.begin(f"Другой текст 42 — another {number}?", variant=variant, speed=1.5)
            if number % 2:
                voice.replica.cancel(request)
            await voice.ended(take)
        assert (await voice.speak(TEXT, seed=7)).pcm == first.pcm
        theirs = await other.speak(TEXT, seed=7)
        assert theirs.pcm == first.pcm
        assert theirs.timings == first.timings


@every_engine
async def test_a_resumed_request_goes_on_at_its_sample(spec):
    async with speaker(spec) as voice:
        whole = await voice.speak(TEXT, seed=3)
        for start in (1, 441, whole.samples // 2, whole.samples - 1, whole.samples, whole.samples + 1000):
            rest = await voice.speak(TEXT, seed=3, start_offset_samples=start)
            assert rest.pcm == whole.pcm[2 * start :]
            check(rest, TEXT, voice.replica.capabilities.sample_rate_hz, start)
            assert rest.done.made_samples == whole.samples


@every_engine
async def test_a_cancel_stops_the_engine_in_mid_chunk_and_it_speaks_on(spec):
    async with speaker(spec) as voice:
        before = await voice.speak(TEXT, seed=1)
        # The window keeps the engine in mid-chunk until it is told.
        request, take = voice.begin(f"{TEXT} " * 30, seed=2, window_samples=5000)
        await voice.ear.until(lambda: take.samples >= 5000)
        assert take.end is None
        voice.replica.cancel(request)
        await voice.ear.until(lambda: take.end is not None)
        assert take.done.cancelled
        assert take.samples < 30_000
        voice.replica.cancel(request)  # once more, too late: it means nothing
        voice.replica.cancel(999)
        assert (await voice.speak(TEXT, seed=1)).pcm == before.pcm


@every_engine
async def test_a_window_holds_the_engine_until_credit_comes(spec):
    async with speaker(spec) as voice:
        whole = await voice.speak(TEXT, seed=1)
        request, take = voice.begin(TEXT, seed=1, window_samples=2000)
        await voice.ear.until(lambda: take.samples >= 2000)
        reached = take.samples
        while take.end is None:
            voice.replica.grant(request, 6000)
            await voice.reached(take, reached + 1)
            reached = take.samples
        assert take.pcm == whole.pcm
        assert not take.done.cancelled


@every_engine
async def test_requests_in_a_row_and_together_do_not_mix(spec):
    async with speaker(spec) as voice:
        texts = [f"Sentence number {number} is about something else." for number in range(6)]
        alone = [await voice.speak(text, seed=number) for number, text in enumerate(texts)]
        assert len({take.pcm for take in alone}) == len(texts)
        together = [voice.begin(text, seed=number)[1] for number, text in enumerate(texts)]
        await voice.ear.until(lambda: all(take.end is not None for take in together))
        assert [take.pcm for take in together] == [take.pcm for take in alone]


@every_engine
async def test_hostile_text_is_spoken_or_passed_over_and_harms_nothing(spec):
    async with speaker(spec) as voice:
        before = await voice.speak(TEXT, seed=1)
        for name, text in HOSTILE.items():
            take = await voice.speak(text, seed=1, speed=4.0)
            check(take, text, voice.replica.capabilities.sample_rate_hz)
            if speakable(text):
                assert take.samples, name
        assert (await voice.speak(TEXT, seed=1)).pcm == before.pcm
        assert not voice.ear.gone


@every_engine
@pytest.mark.parametrize("text", ["", " ", "\n\n", "...", "?!", "—", "“ ”", "<", "((", "\u200b"])
async def test_nothing_to_say_is_no_sample_and_no_failure(spec, text):
    async with speaker(spec) as voice:
        take = await voice.speak(text)
        assert take.done == Done(0, take.done.engine_us, cancelled=False)
        assert take.timings == []


@every_engine
async def test_speed_changes_the_length(spec):
    async with speaker(spec) as voice:
        slow, normal, fast = [await voice.speak(TEXT, speed=speed) for speed in (0.5, 1.0, 2.0)]
        assert slow.samples > 1.3 * normal.samples > 1.3 * 1.3 * fast.samples
        for take in (slow, normal, fast):
            check(take, TEXT, voice.replica.capabilities.sample_rate_hz)
        for extreme in (0.25, 4.0):
            check(await voice.speak(TEXT, speed=extreme), TEXT, voice.replica.capabilities.sample_rate_hz)


@every_engine
async def test_a_long_text_is_spoken_to_its_end(spec):
    async with speaker(spec) as voice:
        text = "This sentence is one of many. " * 66
        take = await voice.speak(text, speed=4.0)
        check(take, text, voice.replica.capabilities.sample_rate_hz)
        assert len(take.timings) == 6 * 66


@every_engine
async def test_a_worker_ends_with_its_socket(spec):
    ear = Ear()
    replica = await launch_worker(spec, ear)
    take = ear.takes[1] = Take()
    variant = replica.capabilities.default_variant
    replica.speak(1, SpeakRequest(f"{TEXT} " * 30, variant, window_samples=5000))
    await ear.until(lambda: take.samples >= 5000)
    await replica.close()
    assert not alive(replica.pid)
    assert not ear.gone  # nothing is heard after close


@every_engine
async def test_a_killed_worker_is_told(spec):
    async with speaker(spec) as voice:
        _, take = voice.begin(f"{TEXT} " * 30, window_samples=5000)
        await voice.ear.until(lambda: take.samples >= 5000)
        os.kill(voice.replica.pid, 9)
        await voice.ear.until(lambda: bool(voice.ear.gone))
        assert take.end is None


@every_engine
async def test_a_worker_tells_its_memory_again_and_again_while_it_has_nothing_to_do(spec):
    async with speaker(spec) as voice:
        await voice.ear.until(lambda: len(voice.ear.beats) >= 2)
        resident = voice.ear.beats[-1].resident_bytes
        assert abs(resident - psutil.Process(voice.replica.pid).memory_info().rss) < resident / 4
        assert voice.ear.beats[-1].device_bytes == 0


async def test_workers_import_nothing_heavy():
    code = (
        "import sys, services.tts.worker, services.tts.engines.espeak, services.tts.engines.simulated;"
        "print({'grpc', 'google.protobuf', 'pydantic', 'numpy', 'asyncio'} & set(sys.modules))"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    assert output.decode().strip() == "set()"
