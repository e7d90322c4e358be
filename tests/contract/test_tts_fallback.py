"""The TTS service when a whole engine fails: another voice goes on."""

import os
import signal
from dataclasses import replace

import pytest

from services.tts.core.model import VoiceSpec
from services.tts.text import words_of
from tests.contract.tts_harness import (
    LONG,
    TEXT,
    Caller,
    Heard,
    Service,
    eventually,
    failure,
    say,
    serving,
    sim,
)
from voicemesh.runtime.breaker import BreakerSpec
from voicemesh.runtime.status import reason_of
from voicemesh.tts.v1 import tts_pb2

WORDS = [TEXT[offset : offset + length] for offset, length in words_of(TEXT)]
OTHER = VoiceSpec("other", "simulated", 1, "en", {"char_ms": 40})
ESPEAK = VoiceSpec("espeak", "espeak", 1, "en-us", {})
QUICK = BreakerSpec(failures=2, window_s=30, open_s=0.3)


def checked(heard: Heard, text: str = TEXT) -> Heard:
    """Check that a chunk is whole: every word once, in order, and audio without a gap."""
    assert heard.failed is None, heard.failed
    assert [(word.text_offset, word.text_length) for word in heard.words] == words_of(text)
    begins = [word.offset_samples for word in heard.words]
    assert begins == sorted(begins)
    assert heard.frames[0].frame.offset_samples == 0
    assert heard.frames[0].HasField("start")
    assert heard.end.total_samples == len(heard.pcm) // 2 > begins[-1]
    return heard


def speakers(heard: Heard) -> list[str]:
    return [frame.start.voice for frame in heard.frames if frame.HasField("start")]


async def pools(service: Service) -> dict[str, tts_pb2.PoolStats]:
    response = await service.stub.GetPoolStats(tts_pb2.GetPoolStatsRequest())
    service.pids.update(pid for pool in response.pools for pid in pool.worker_pids)
    return {pool.voice: pool for pool in response.pools}


@pytest.mark.parametrize("stand_in", [OTHER, ESPEAK], ids=lambda spec: str(spec.name))
@pytest.mark.parametrize("timed", [True, False], ids=["timed", "estimated"])
@pytest.mark.parametrize("trouble", ["failure_rate", "crash_rate", "stall_rate", "zero_audio_rate"])
async def test_an_engine_that_fails_for_good_is_followed_by_another(tmp_path, trouble, timed, stand_in):
    options = {trouble: 1, "word_timings": timed, "rtf": 0.05}
    # Whoever stalls is waited for: once is enough.
    breaker = BreakerSpec(1, 30, 600) if trouble == "stall_rate" else QUICK
    broken = replace(sim(1, **options), fallback=(stand_in.name,), breaker=breaker)
    async with serving(tmp_path, broken, stand_in, max_attempts=0) as service:
        for _ in range(3):
            heard = checked(await say(service, TEXT))
            assert speakers(heard)[-1].startswith(stand_in.name)
            assert heard.frames[0].start.is_fallback or len(speakers(heard)) == 2
            rates = {frame.start.format.sample_rate_hz for frame in heard.frames if frame.HasField("start")}
            assert rates == {24000}
        stats = await pools(service)
        assert stats["sim"].breaker_opened >= 1
        assert stats["sim"].fallback_chunks == 3
        assert stats[stand_in.name].completed_chunks == 3
        assert all(service.health)


async def test_a_process_killed_in_mid_word_is_followed_at_a_whole_word(tmp_path):
    main = replace(sim(1, rtf=0.05), fallback=("other",))
    async with serving(tmp_path, main, OTHER, max_attempts=0) as service, Caller(service) as caller:
        await caller.configure()
        await caller.ask(0, LONG)
        await caller.frames(8)
        os.kill((await pools(service))["sim"].worker_pids[0], signal.SIGKILL)
        heard = checked((await caller.rest())[0], LONG)
        assert speakers(heard) == ["sim", "other"]
        assert heard.end.resumed == 1


async def test_an_engine_that_is_well_again_is_used_again(tmp_path):
    main = replace(sim(1), fallback=("other",), breaker=replace(QUICK, failures=1))
    async with serving(tmp_path, main, OTHER, max_attempts=0) as service, Caller(service) as caller:
        os.kill((await pools(service))["sim"].worker_pids[0], signal.SIGKILL)

        async def opened() -> bool:
            return (await pools(service))["sim"].breaker == tts_pb2.BREAKER_STATE_OPEN

        await eventually(opened)
        await caller.configure()
        await caller.ask(0, TEXT)
        assert speakers(await caller.chunk(0)) == ["other"]

        async def back() -> bool:
            pool = (await pools(service))["sim"]
            return pool.ready_replicas == 1 and pool.breaker == tts_pb2.BREAKER_STATE_HALF_OPEN

        await eventually(back)
        await caller.ask(1, TEXT)
        assert speakers(await caller.chunk(1)) == ["sim"]
        assert (await pools(service))["sim"].breaker == tts_pb2.BREAKER_STATE_CLOSED
        await caller.rest()


async def test_when_all_fail_the_chunk_fails_and_the_breakers_say_so_at_once(tmp_path):
    broken = replace(sim(1, failure_rate=1), fallback=("other",), breaker=replace(QUICK, open_s=600))
    other = VoiceSpec("other", "simulated", 1, "en", {"crash_rate": 1}, breaker=broken.breaker)
    async with serving(tmp_path, broken, other, max_attempts=0) as service:

        async def both_open() -> bool:
            heard = await say(service, TEXT)
            assert reason_of(failure(heard)) == "NO_ENGINE"
            stats = await pools(service)
            return {pool.breaker for pool in stats.values()} == {tts_pb2.BREAKER_STATE_OPEN}

        await eventually(both_open)
        text = failure(await say(service, TEXT)).message
        assert "'sim'" in text
        assert "'other'" in text


async def test_a_request_that_fails_costs_no_worker(tmp_path):
    fuse = tmp_path / "fuse"
    options = {"fuse": str(fuse), "letters": 20, "alone": True}
    engine = "tests.contract.own_engine_with_a_fuse:FusedEngine"
    main = VoiceSpec("fused", engine, 1, "en", options, fallback=("other",), breaker=QUICK)
    async with serving(tmp_path, main, OTHER) as service:
        worker = (await pools(service))["fused"].worker_pids
        fuse.touch()
        heard = checked(await say(service, LONG), LONG)
        assert speakers(heard)[-1] == "other"
        fuse.unlink()
        heard = checked(await say(service, LONG), LONG)
        assert speakers(heard) == ["fused"]
        stats = (await pools(service))["fused"]
        assert (stats.worker_pids, stats.replaced_replicas) == (worker, 0)
