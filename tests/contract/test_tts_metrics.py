"""What the TTS service measures, with real workers that queue, batch, die and are stood in for."""

import os
import signal
from dataclasses import replace

import pytest

from services.tts import instruments
from services.tts.core.model import VoiceSpec
from tests.contract.tts_harness import LONG, TEXT, Caller, Service, eventually, say, serving, sim
from voicemesh.runtime.breaker import BreakerSpec
from voicemesh.runtime.breaker_metrics import BREAKER_STATE
from voicemesh.runtime.instruments import Instrument


async def reads(service: Service, instrument: Instrument, wanted: float, *labels: str) -> None:
    """Wait until an instrument says so."""

    async def so() -> bool:
        return bool(service.measured.points(instrument).get(labels) == wanted)

    await eventually(so)


async def test_a_chunk_is_measured_from_its_queue_to_its_last_sample(tmp_path):
    async with serving(tmp_path, sim(1, rtf=0.05)) as service:
        heard = await say(service, TEXT)
        measured = service.measured
        start = heard.frames[0].start
        queue, first = (
            measured.value(instruments.QUEUE_TIME, "sim"),
            measured.value(instruments.FIRST_FRAME, "sim"),
        )
        assert (queue.count, queue.sum) == (1, pytest.approx(start.queue_us / 1e6))
        assert (first.count, first.sum) == (1, pytest.approx(start.synthesis_us / 1e6))
        audio_s = len(heard.pcm) / 2 / 24_000
        factor = measured.value(instruments.REAL_TIME_FACTOR, "sim")
        assert (factor.count, factor.sum) == (1, pytest.approx(heard.end.engine_us / 1e6 / audio_s, rel=1e-3))
        assert measured.value(instruments.AUDIO, "sim") == pytest.approx(audio_s, rel=0.2)
        assert measured.value(instruments.ENGINE_TIME, "sim") == pytest.approx(heard.end.engine_us / 1e6)
        assert measured.value(instruments.WASTED, "sim") == 0
        outcomes = measured.points(instruments.CHUNKS)
        assert outcomes == {("completed", "sim"): 1, ("cancelled", "sim"): 0, ("failed", "sim"): 0}
        (span,) = [span for span in service.spans() if span.name.endswith("/Synthesize")]
        assert set(queue.trace_ids) <= {f"{span.context.trace_id:032x}"}


async def test_what_waits_and_what_is_leased_can_be_scaled_by(tmp_path):
    async with serving(tmp_path, sim(1, slots=1, rtf=0.02), buffer_s=1) as service:
        measured = service.measured
        assert measured.value(instruments.SLOTS, "sim") == 1
        assert measured.value(instruments.WAIT, "sim") == 0
        async with Caller(service) as speaks, Caller(service) as waits:
            await speaks.configure()
            await speaks.ask(0, LONG)  # nobody reads on: its window fills, and it stays
            await speaks.frames(1)
            await waits.configure()
            await waits.ask(0, LONG)
            await reads(service, instruments.DEPTH, 1, "sim")
            assert measured.value(instruments.LEASES, "sim") == 1
            assert measured.value(instruments.OCCUPANCY, "sim") == 1.0
            assert measured.value(instruments.WAIT, "sim") > 0
        await reads(service, instruments.DEPTH, 0, "sim")
        await reads(service, instruments.LEASES, 0, "sim")
        assert measured.value(instruments.OCCUPANCY, "sim") == 0.0


async def test_what_a_barge_in_cuts_off_is_engine_time_wasted(tmp_path):
    async with serving(tmp_path, sim(1, rtf=0.05)) as service, Caller(service) as caller:
        await caller.configure()
        await caller.ask(0, LONG)
        await caller.frames(2)
        await caller.send(cancel_turn={})
        heard = (await caller.rest())[0]
        assert heard.end.cancelled
        measured = service.measured
        assert measured.value(instruments.CHUNKS, "cancelled", "sim") == 1
        assert measured.value(instruments.WASTED, "sim") == pytest.approx(heard.end.wasted_us / 1e6)
        assert measured.value(instruments.WASTED, "sim") <= measured.value(instruments.ENGINE_TIME, "sim")
        assert measured.points(instruments.REAL_TIME_FACTOR) == {}


async def test_replicas_are_told_by_state_with_what_they_hold(tmp_path):
    async with serving(tmp_path, sim(2)) as service:
        measured = service.measured
        assert measured.value(instruments.DECLARED, "sim") == 2
        assert measured.points(instruments.REPLICAS) == {
            ("starting", "sim"): 0,
            ("ready", "sim"): 2,
            ("retiring", "sim"): 0,
            ("waiting", "sim"): 0,
            ("leaving", "sim"): 0,
        }
        stats = await service.until(lambda stats: all(replica.resident_bytes for replica in stats.replicas))
        held = measured.points(instruments.REPLICA_MEMORY)
        assert set(held) == {(m, name) for m in ("resident", "device") for name in ("sim-0", "sim-1")}
        assert all(held["resident", replica.name] > 2**20 for replica in stats.replicas)


LOSSES = {"crash_rate": "died", "failure_rate": "failed", "zero_audio_rate": "silent"}


@pytest.mark.parametrize(("trouble", "cause"), LOSSES.items(), ids=LOSSES)
async def test_a_replica_that_is_lost_is_counted_by_why(tmp_path, trouble, cause):
    async with serving(tmp_path, sim(2, **{trouble: 1}, troubled_attempts=1)) as service:
        await say(service, TEXT)
        losses = service.measured.points(instruments.LOSSES)
        assert {labels: count for labels, count in losses.items() if count} == {(cause, "sim"): 1}


async def test_a_replica_without_a_heartbeat_is_counted_as_that(tmp_path):
    async with serving(tmp_path, sim(2), heartbeat_timeout_s=2.0) as service:
        os.kill((await service.stats()).worker_pids[0], signal.SIGSTOP)
        await reads(service, instruments.LOSSES, 1, "no_heartbeat", "sim")
        assert service.measured.value(instruments.LOSSES, "stalled", "sim") == 0


async def test_stand_ins_and_breakers_are_told_by_voice(tmp_path):
    broken = replace(
        sim(1, failure_rate=1), fallback=("other",), breaker=BreakerSpec(failures=1, window_s=30, open_s=600)
    )
    other = VoiceSpec("other", "simulated", 1, "en", {})
    async with serving(tmp_path, broken, other, max_attempts=0) as service:
        measured = service.measured
        assert measured.points(BREAKER_STATE) == {("other",): 0, ("sim",): 0}
        await say(service, TEXT)
        assert measured.points(BREAKER_STATE) == {("other",): 0, ("sim",): 2}
        assert measured.points(instruments.STAND_INS) == {("other",): 0, ("sim",): 1}
        assert measured.value(instruments.CHUNKS, "completed", "other") == 1
        before = measured.points(instruments.FIRST_FRAME)
        await say(service, TEXT)  # nobody asks the first one any more
        assert measured.value(instruments.FIRST_FRAME, "other").count >= 1
        assert measured.points(instruments.FIRST_FRAME).get(("sim",)) == before.get(("sim",))


async def test_late_first_chunks_are_counted_with_who_was_faster(tmp_path):
    slow = sim(2, slow_rate=0.03, slow_first_frame_ms=2000, slots=1)
    async with serving(tmp_path, slow, hedge_percent=100) as service:
        texts = iter(range(1000))

        async def hedged() -> bool:
            await say(service, f"Sentence {next(texts)}.")
            return bool(service.measured.value(instruments.HEDGES, "sim"))

        await eventually(hedged)
        stats = await service.stats()
        assert service.measured.value(instruments.HEDGES, "sim") == stats.hedged_chunks
        assert service.measured.value(instruments.HEDGES_WON, "sim") == stats.hedges_won


async def test_the_sizes_of_batches_are_those_that_the_engine_ran(tmp_path):
    steps = VoiceSpec("steps", "simulated-steps", 1, "en", {"step_ms": 5})
    async with serving(tmp_path, steps) as service, Caller(service) as one, Caller(service) as two:
        for caller in (one, two):
            await caller.configure()
            await caller.ask(0, LONG)
        await one.rest()
        await two.rest()

        async def agree() -> bool:
            (replica,) = (await service.stats()).replicas
            sizes = service.measured.points(instruments.BATCH_SIZE).get(("steps",))
            told = sum(batch.batches for batch in replica.batch_counts)
            chunks = sum(batch.batches * batch.chunks for batch in replica.batch_counts)
            return sizes is not None and told > 0 and (sizes.count, sizes.sum) == (told, chunks)

        await eventually(agree)
        assert service.measured.value(instruments.BATCH_SIZE, "steps").sum > 0


async def test_counters_go_on_while_a_model_changes(tmp_path):
    async with serving(tmp_path, sim(1)) as service:
        await say(service, TEXT)
        spoken = service.measured.value(instruments.AUDIO, "sim")
        service.speech.change([sim(1, char_ms=70)])

        async def rolled() -> bool:
            # Two pools while it changes, and one voice all the time.
            assert service.measured.value(instruments.AUDIO, "sim") >= spoken
            assert service.measured.value(instruments.DECLARED, "sim") == 1
            return len(service.speech.stats()) == 1 and service.measured.value(instruments.SLOTS, "sim") > 0

        await eventually(rolled)
        await say(service, TEXT)
        assert service.measured.value(instruments.AUDIO, "sim") > spoken
        assert service.measured.value(instruments.CHUNKS, "completed", "sim") == 2
