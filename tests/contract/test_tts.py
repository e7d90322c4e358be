"""The TTS service over gRPC: what is heard, and what a cancel ends."""

import os

import grpc
import psutil
import pytest

from tests.contract.tts_harness import ESPEAK, LONG, TEXT, Caller, say, serving, sim
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.status import reason_of
from voicemesh.tts.v1 import tts_pb2

# ---- speech


async def test_chunks_are_spoken_in_order_with_words_and_figures(tmp_path):
    async with serving(tmp_path) as service, Caller(service) as caller:
        await caller.configure()
        for index, text in ((0, TEXT), (1, "Second."), (5, "..."), (6, "Last one here.")):
            await caller.ask(index, text, deadline_ms=index * 500)
        heard = await caller.rest()
        assert caller.order == [0, 1, 5, 6]
        assert len(heard[0].pcm) == 2 * heard[0].end.total_samples > 100_000
        assert [word.word for word in heard[0].words][:2] == ["The", "quick"]
        assert [word.word for word in heard[6].words] == ["Last", "one", "here"]
        assert all(word.offset_samples < heard[0].end.total_samples for word in heard[0].words)
        assert heard[5].frames == []
        assert heard[5].end.total_samples == 0
        start = heard[0].frames[0].start
        assert (start.format.sample_rate_hz, start.format.channels) == (22050, 1)
        assert start.format.encoding == common_pb2.AUDIO_ENCODING_PCM_S16LE
        assert start.replica == "espeak-0"
        assert 0 < start.synthesis_us <= heard[0].end.synthesis_us
        voices = await service.stub.ListVoices(tts_pb2.ListVoicesRequest())
        assert start.model_revision == next(v.model_revision for v in voices.voices if v.is_default)
        stats = await service.stats()
        assert (stats.completed_chunks, stats.failed_chunks, stats.active_leases) == (4, 0, 0)
        total = sum(chunk.end.total_samples for chunk in heard.values())
        assert abs(stats.audio_us - total * 1_000_000 / 22050) < 10
        assert stats.synthesis_us > 0
        assert all(psutil.Process(pid).ppid() == os.getpid() for pid in stats.worker_pids)


async def test_variants_formats_and_speeds(tmp_path):
    async with serving(tmp_path) as service:
        default = await say(service, TEXT)
        named = await say(service, TEXT, voice="espeak/EN-US", speed=1.0)
        german = await say(service, TEXT, voice="espeak/de")
        french = await say(service, TEXT, voice="espeak/fr")
        fast = await say(service, TEXT, speed=2.0)
        native = common_pb2.AudioFormat(
            encoding=common_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=22050, channels=1
        )
        same = await say(service, TEXT, format=native)
        wanted = common_pb2.AudioFormat(sample_rate_hz=8000)
        telephone = await say(service, TEXT, format=wanted)
        assert telephone.frames[0].start.format.sample_rate_hz == 8000
        assert abs(telephone.end.total_samples * 22050 - default.end.total_samples * 8000) * 2 <= 22050
        assert len(telephone.pcm) == 2 * telephone.end.total_samples
        assert default.pcm == named.pcm == same.pcm
        assert len({default.pcm, german.pcm, french.pcm, fast.pcm}) == 4
        assert german.frames[0].start.model_revision != default.frames[0].start.model_revision
        assert len(fast.pcm) < 0.7 * len(default.pcm)


async def test_a_caller_can_resume_at_a_sample(tmp_path):
    async with serving(tmp_path) as service:
        whole = await say(service, TEXT)
        async with Caller(service) as caller:
            await caller.configure()
            await caller.ask(0, TEXT, start_offset_samples=50_001)
            rest = (await caller.rest())[0]
        assert rest.pcm == whole.pcm[100_002:]
        assert rest.frames[0].frame.offset_samples == 50_001
        assert rest.end.total_samples == whole.end.total_samples
        assert [w.word for w in rest.words] == [w.word for w in whole.words if w.offset_samples >= 50_001]


async def test_voices_are_listed_with_languages_and_revisions(tmp_path):
    async with serving(tmp_path, ESPEAK, sim()) as service:
        voices = (await service.stub.ListVoices(tts_pb2.ListVoicesRequest())).voices
        by_name = {voice.name: voice for voice in voices}
        assert [voice.name for voice in voices] == sorted(by_name)
        assert len(voices) > 100
        assert by_name["espeak"].is_default
        assert by_name["espeak"].language == by_name["espeak/en-us"].language == "en-US"
        assert by_name["espeak"].has_word_timings
        assert by_name["espeak"].ready_replicas == 1
        assert by_name["espeak"].native_format.sample_rate_hz == 22050
        assert by_name["sim"].native_format.sample_rate_hz == 24000
        assert len({by_name[name].model_revision for name in ("espeak", "espeak/de", "sim")}) == 3
        english = (await service.stub.ListVoices(tts_pb2.ListVoicesRequest(language="en"))).voices
        assert {"espeak", "espeak/en-us", "espeak/en-gb", "sim"} <= {voice.name for voice in english}
        assert all(voice.language.split("-")[0] == "en" for voice in english)


async def test_a_voice_says_how_many_characters_it_takes_at_a_time(tmp_path):
    async with serving(tmp_path, ESPEAK, sim(max_chars=71)) as service:
        voices = (await service.stub.ListVoices(tts_pb2.ListVoicesRequest())).voices
        most = {voice.name: voice.max_chars for voice in voices}
        assert most["sim"] == 71
        assert most["espeak"] == most["espeak/de"] == 0
        # Advice for whoever cuts: a longer text is spoken all the same.
        assert (await say(service, TEXT * 3, voice="sim")).pcm


async def test_a_batch_answers_every_text_and_speaks_identical_ones_once(tmp_path):
    async with serving(tmp_path, sim()) as service:
        texts = ["One.", "Two two.", "One.", "", "x" * 3000]
        request = tts_pb2.SynthesizeBatchRequest(texts=texts)
        audio: dict[tuple[int, ...], bytes] = {}
        ends: dict[tuple[int, ...], str | None] = {}
        async for part in service.stub.SynthesizeBatch(request):
            key = tuple(part.text_indexes)
            assert key not in ends
            kind = part.WhichOneof("event")
            if kind == "frame":
                audio[key] = audio.get(key, b"") + part.frame.frame.audio
            else:
                ends[key] = reason_of(part.failed.status) if kind == "failed" else kind
        assert ends == {
            (0, 2): "finished",
            (1,): "finished",
            (3,): "INVALID_FIELD",
            (4,): "INVALID_FIELD",
        }
        assert set(audio) == {(0, 2), (1,)}
        assert (await service.stats()).completed_chunks == 2
        empty = service.stub.SynthesizeBatch(tts_pb2.SynthesizeBatchRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await empty.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# ---- cancels


async def test_no_frame_follows_a_cancel_and_the_next_chunk_is_spoken(tmp_path):
    async with serving(tmp_path, sim(first_frame_ms=1, rtf=0.5), chunks_ahead=0) as service:
        async with Caller(service) as caller:
            await caller.configure()
            await caller.ask(0, LONG)
            await caller.ask(1, "Well.")
            await caller.frames(3)
            await caller.send(cancel_chunk=tts_pb2.CancelChunk(chunk_index=0))
            heard = await caller.rest()
        assert heard[0].end.cancelled
        assert heard[0].end.total_samples == len(heard[0].pcm) // 2
        assert not heard[1].end.cancelled
        stats = await service.stats()
        assert (stats.cancelled_chunks, stats.completed_chunks) == (1, 1)


async def test_cancel_turn_ends_the_stream(tmp_path):
    async with serving(tmp_path, sim(rtf=0.5)) as service, Caller(service) as caller:
        await caller.configure()
        for index in range(6):
            await caller.ask(index, LONG)
        await caller.frames(2)
        await caller.send(cancel_turn=tts_pb2.CancelTurn())
        await caller.to_the_end()
        assert await caller.call.code() is grpc.StatusCode.OK
        assert [caller.chunks[index].end.cancelled for index in range(6)] == [True] * 6
        stats = await service.stats()
        assert (stats.active_leases, stats.queued_chunks, stats.cancelled_chunks) == (0, 0, 6)
        assert stats.wasted_us <= stats.synthesis_us


async def test_a_client_that_goes_away_leaves_an_idle_engine(tmp_path):
    async with serving(tmp_path, ESPEAK, buffer_s=1) as service:
        caller = Caller(service)
        await caller.configure()
        for index in range(3):
            await caller.ask(index, LONG)
        await caller.frames(2)
        assert (await service.stats()).active_leases == 1
        caller.call.cancel()
        stats = await service.until(lambda stats: stats.cancelled_chunks == 3)
        assert (stats.active_leases, stats.queued_chunks) == (0, 0)
        assert stats.wasted_us > 0
        await service.sessions.join(timeout_s=5)
        assert (await say(service, TEXT)).end.total_samples > 0


async def test_a_slow_reader_does_not_hold_the_engine(tmp_path):
    async with serving(tmp_path, ESPEAK, buffer_s=2) as service, Caller(service) as slow:
        text = " ".join([TEXT] * 30)  # more audio than gRPC holds between two processes
        alone = await say(service, text, speed=0.5)
        await slow.configure(speed=0.5)
        await slow.ask(0, text)
        await slow.frames(1)
        assert (await say(service, TEXT)).end.total_samples > 0
        stats = await service.stats()
        assert (stats.completed_chunks, stats.active_leases) == (2, 0)
        heard = (await slow.rest())[0]
        assert heard.pcm == alone.pcm
        assert heard.end.resumed == 0
        assert heard.end.wasted_us > 0
        assert [word.word for word in heard.words] == [word.word for word in alone.words]
