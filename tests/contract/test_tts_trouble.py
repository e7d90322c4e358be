"""The TTS service when replicas die, stall and fail."""

import os
import signal
from dataclasses import replace

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2

from services.tts import instruments
from tests.contract.tts_harness import ESPEAK, LONG, TEXT, Caller, eventually, failure, say, serving, sim
from voicemesh.runtime.status import reason_of
from voicemesh.tts.v1 import tts_pb2

READY = tts_pb2.REPLICA_STATE_READY


async def test_a_worker_killed_in_mid_sentence_is_not_heard(tmp_path):
    voice = sim(2, audio="espeak", slots=1, rtf=0.02)
    async with serving(tmp_path, voice) as service:
        undisturbed = await say(service, LONG)
        async with Caller(service) as victim, Caller(service) as other:
            await victim.configure()
            await victim.ask(0, LONG)
            await victim.frames(4)
            await other.configure()
            await other.ask(0, LONG)
            await other.frames(1)
            names = [caller.chunks[0].frames[0].start.replica for caller in (victim, other)]
            assert set(names) == {"sim-0", "sim-1"}
            pids = (await service.stats()).worker_pids
            os.kill(pids[int(names[0][-1])], signal.SIGKILL)
            heard, theirs = (await victim.rest())[0], (await other.rest())[0]
        assert heard.pcm == undisturbed.pcm
        assert [w.offset_samples for w in heard.words] == [w.offset_samples for w in undisturbed.words]
        assert heard.end.resumed == 1
        assert heard.end.wasted_us > 0
        assert theirs.pcm == undisturbed.pcm
        assert theirs.end.resumed == 0
        stats = await service.until(lambda stats: stats.ready_replicas == 2)
        assert stats.replaced_replicas == 1
        assert len(set(stats.worker_pids) | set(pids)) == 3
        assert all(service.health)


async def test_espeak_killed_in_mid_sentence_goes_on_in_its_replacement(tmp_path):
    # One replica: the chunk waits for the new process. The window keeps the engine in mid-sentence.
    async with serving(tmp_path, ESPEAK, buffer_s=1) as service:
        undisturbed = await say(service, LONG)
        async with Caller(service) as caller:
            await caller.configure()
            await caller.ask(0, LONG)
            await caller.frames(3)
            os.kill((await service.stats()).worker_pids[0], signal.SIGKILL)
            heard = (await caller.rest())[0]
        assert heard.pcm == undisturbed.pcm
        assert heard.end.resumed == 1


async def test_a_stopped_worker_is_killed_and_its_chunk_goes_on(tmp_path):
    voice = sim(2, slots=1, rtf=0.02)
    async with serving(tmp_path, voice, stall_timeout_s=0.3) as service:
        undisturbed = await say(service, LONG)
        async with Caller(service) as caller:
            await caller.configure()
            await caller.ask(0, LONG)
            heard = await caller.frames(3)
            stopped = (await service.stats()).worker_pids[int(heard.frames[0].start.replica[-1])]
            os.kill(stopped, signal.SIGSTOP)
            heard = (await caller.rest())[0]
        assert heard.pcm == undisturbed.pcm
        assert heard.end.resumed == 1

        async def gone() -> bool:
            return not psutil.pid_exists(stopped)

        await eventually(gone)


async def test_a_worker_that_is_stopped_while_it_owes_nothing_is_found_before_a_chunk_meets_it(tmp_path):
    async with serving(tmp_path, sim(2), heartbeat_timeout_s=2.0) as service:
        stopped = (await service.stats()).worker_pids[0]
        os.kill(stopped, signal.SIGSTOP)
        stats = await service.until(lambda stats: stats.replaced_replicas == 1 and stats.ready_replicas == 2)
        assert stats.stalled_replicas == 1
        assert stopped not in stats.worker_pids
        assert (await say(service, TEXT)).end.resumed == 0


async def test_a_worker_that_leaks_makes_way_and_nobody_hears_it(tmp_path):
    leaking = replace(sim(1, leak_mb=8, slots=2, rtf=0.05), max_resident_mb=80)
    async with serving(tmp_path, sim(1, rtf=0.05)) as service:
        wanted = (await say(service, LONG)).pcm
    async with serving(tmp_path, leaking) as service:
        first = (await service.stats()).replicas[0]
        async with Caller(service) as caller:
            await caller.configure()
            await caller.ask(0, LONG)
            await caller.frames(2)
            for _ in range(10):
                await say(service, "Leak.")
            stats = await service.until(lambda stats: stats.recycled_replicas == 1)
            heard = (await caller.rest())[0]
        assert heard.pcm == wanted
        assert heard.end.resumed == 0
        stats = await service.until(lambda stats: [r.state for r in stats.replicas] == [READY])
        assert stats.replicas[0].pid != first.pid
        assert stats.replaced_replicas == 0
        assert service.measured.value(instruments.RECYCLED, "sim") == 1
        stats = await service.until(lambda stats: stats.replicas[0].resident_bytes > 0)
        assert stats.replicas[0].resident_bytes < 80 * 2**20


@pytest.mark.parametrize("trouble", ["zero_audio_rate", "silence_rate", "failure_rate", "crash_rate"])
async def test_troubles_of_engines_are_not_heard(tmp_path, trouble):
    texts = [f"Sentence number {number} is here." for number in range(4)]
    async with serving(tmp_path, sim(2)) as service:
        wanted = [(await say(service, text)).pcm for text in texts]
    async with serving(tmp_path, sim(2, **{trouble: 1}, troubled_attempts=1)) as service:
        for text, pcm in zip(texts, wanted, strict=True):
            await service.until(lambda stats: stats.ready_replicas == 2)
            heard = await say(service, text)
            assert heard.pcm == pcm
            assert heard.end.resumed == 1
        assert (await service.stats()).replaced_replicas == len(texts)


async def test_silence_of_an_engine_that_makes_its_own_edges_is_not_heard(tmp_path):
    own = replace(sim(2), trim_silence=False)
    texts = [f"Sentence number {number} is here." for number in range(4)]
    async with serving(tmp_path, own) as service:
        wanted = [(await say(service, text)).pcm for text in texts]
    silent = replace(sim(2, silence_rate=1, troubled_attempts=1), trim_silence=False)
    async with serving(tmp_path, silent) as service:
        for text, pcm in zip(texts, wanted, strict=True):
            await service.until(lambda stats: stats.ready_replicas == 2)
            heard = await say(service, text)
            assert heard.pcm == pcm
            assert heard.end.resumed == 1


@pytest.mark.parametrize("trouble", ["failure_rate", "zero_audio_rate", "crash_rate"])
async def test_a_chunk_that_no_replica_can_speak_fails_with_a_reason_and_the_stream_goes_on(
    tmp_path, trouble
):
    async with serving(tmp_path, sim(2, **{trouble: 1})) as service, Caller(service) as caller:
        await caller.configure()
        await caller.ask(0, TEXT)
        await caller.ask(1, "...")
        await caller.chunk(0)
        heard = await caller.rest()
        status = failure(heard[0])
        assert reason_of(status) == "NO_ENGINE"
        assert status.code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert heard[0].failed is not None
        assert heard[0].failed.sent_samples == len(heard[0].pcm) // 2
        stats = await service.stats()
        assert stats.failed_chunks >= 1
        assert stats.replaced_replicas >= 2


async def test_readiness_ends_when_a_voice_has_no_replica_left_and_comes_back(tmp_path):
    async with serving(tmp_path, sim(1, crash_rate=1), max_attempts=5) as service:
        assert service.healthy()
        assert reason_of(failure(await say(service, TEXT))) == "NO_ENGINE"
        assert not service.healthy()
        stats = await service.until(lambda stats: stats.ready_replicas == 1)
        assert service.healthy()
        assert stats.starting_replicas == 0


async def test_a_full_queue_refuses_a_chunk_and_says_when_to_come_back(tmp_path):
    voice = sim(1, slots=1, first_frame_ms=60_000)
    async with serving(tmp_path, voice, max_queued_chunks=1, stall_timeout_s=60.0) as service:
        async with Caller(service) as busy, Caller(service) as caller:
            await busy.configure()
            await busy.ask(0, TEXT)
            await busy.ask(1, TEXT)
            await service.until(lambda stats: stats.queued_chunks == 1)
            await caller.configure()
            await caller.ask(0, TEXT)
            status = failure(await caller.chunk(0))
            assert reason_of(status) == "QUEUE_FULL"
            retry = error_details_pb2.RetryInfo()
            assert any(detail.Unpack(retry) for detail in status.details)
            assert retry.retry_delay.ToMilliseconds() > 0
            await busy.send(cancel_turn=tts_pb2.CancelTurn())
            await busy.to_the_end()
        assert (await service.stats()).active_leases == 0
