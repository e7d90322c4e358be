"""A worker whose engine takes steps for many requests at once: a real process, without a model."""

import asyncio
import os
import signal
from typing import Any

import pytest

from services.tts.core.model import Done, VoiceSpec
from tests.contract.engine_harness import Take, check, speaker

RATE_HZ = 8000
LONG = "The quick brown fox jumps over the lazy dog, and then it rests. " * 4


def steps(**options: Any) -> VoiceSpec:
    base = {"sample_rate_hz": RATE_HZ, "silence_ms": 40}
    return VoiceSpec("steps", "simulated-steps", 1, "en", base | options)


def text(number: int) -> str:
    return f"Caller {number} says {number * 7919 % 1000} things, and more of them later."


async def test_fifty_at_once_are_each_as_if_alone():
    async with speaker(steps(step_ms=0.2, item_ms=0.05)) as voice:
        alone = [await voice.speak(text(n), seed=n, caller=f"{n % 7}") for n in range(50)]
        together = [voice.begin(text(n), seed=n, caller=f"{n % 7}")[1] for n in range(50)]
        for n, take in enumerate(together):
            await voice.ended(take)
            check(take, text(n), RATE_HZ)
            assert take.pcm == alone[n].pcm
            assert take.timings == alone[n].timings


async def test_one_that_is_lost_goes_on_in_another_process_bit_by_bit():
    async with speaker(steps()) as voice:
        whole = await voice.speak(LONG, seed=3)
    async with speaker(steps(step_ms=20)) as voice:
        _, lost = voice.begin(LONG, seed=3)
        await voice.reached(lost, RATE_HZ)
        os.kill(voice.replica.pid, signal.SIGKILL)
        await voice.ear.until(lambda: bool(voice.ear.gone))
    async with speaker(steps()) as voice:
        rest = await voice.speak(LONG, seed=3, start_offset_samples=lost.samples)
    assert lost.pcm + rest.pcm == whole.pcm
    assert rest.done.made_samples == whole.done.made_samples


async def test_a_cancel_frees_the_engine_for_the_others():
    async with speaker(steps(step_ms=5, batch=1)) as voice:
        doomed = [voice.begin(LONG, seed=n) for n in range(8)]
        await voice.reached(doomed[0][1], 100)
        for number, _ in doomed:
            voice.replica.cancel(number)
        rest = await voice.speak("Short.")
        assert rest.samples
        ends = [take.end for _, take in doomed]
        assert all(isinstance(end, Done) and end.cancelled for end in ends)


async def test_preparation_is_told_before_it_is_ready_and_memory_makes_batches_smaller():
    async with speaker(steps(batch=8, memory=2)) as voice:
        told = voice.ear.progress_told
        assert [progress.done for progress in told] == list(range(len(told)))
        assert {progress.total for progress in told} == {20}
        assert told[-1].what == "decode 300 x 8"
        takes: list[Take] = [voice.begin(text(n), seed=n)[1] for n in range(9)]
        for take in takes:
            await voice.ended(take)
            assert take.samples
        beats = len(voice.ear.beats)
        await voice.ear.until(lambda: len(voice.ear.beats) > beats)
        figures = voice.ear.beats[-1].figures
        assert max(size for size, _ in figures["sizes"]) == 2
        assert figures["lowered"] == 5  # 4 did not fit, in each of five steps; 8 was not tried


async def test_a_failing_batch_fails_its_own_and_a_crash_all():
    async with speaker(steps(failure_rate=1)) as voice:
        take = await voice.speak(LONG)
        assert take.end == "engine: RuntimeError: simulated failure"
        assert (await voice.speak(LONG, warm_up=True)).samples
    async with speaker(steps(crash_rate=1)) as voice:
        voice.begin(LONG)
        await voice.ear.until(lambda: bool(voice.ear.gone))


async def test_a_slow_preparation_may_be_ended():
    launching = asyncio.create_task(speaker(steps(step_ms=60_000)).__aenter__())
    await asyncio.sleep(0)
    launching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launching


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch": 0}, "option batch: must be a whole number from 1 to 1024"),
        ({"window_ms": 79}, "option window_ms: must be a whole number from 80 to 10000"),
        ({"speed": 1}, "option speed: simulated-steps has the options text_ms"),
        ({"word_timings": 1}, "option word_timings: must be true or false"),
    ],
)
async def test_wrong_options_are_named(options: dict[str, Any], says: str):
    with pytest.raises(Exception, match=says):
        async with speaker(steps(**options)):
            pass
