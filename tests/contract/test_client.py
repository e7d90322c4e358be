"""The client against a scripted gateway, over real gRPC."""

import asyncio
import io
import socket
import wave
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.fake_gateway import RATE_HZ, TTFA_US, FakeGateway, serve, until
from voicemesh.client import (
    Chunk,
    Frame,
    Image,
    Recording,
    SpeechOptions,
    TextDelta,
    TurnEnded,
    TurnStarted,
    VoiceMesh,
    VoiceMeshError,
    write_wav,
)
from voicemesh.stages import Stage

GUARD_S = 20.0


@pytest.fixture
async def gateway():
    return FakeGateway()


@pytest.fixture
async def mesh(gateway):
    async with asyncio.timeout(GUARD_S), serve(gateway) as address, VoiceMesh(address) as mesh:
        yield mesh


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def assert_adds_up(report) -> None:
    turn = report.to_json()
    assert sum(turn["stages"].values()) + turn["unattributed_ms"] == pytest.approx(turn["ttfa_ms"], abs=0.002)


async def test_a_turn_is_its_events_in_order(mesh):
    events = [event async for event in mesh.ask("Hi")]
    assert [type(event) for event in events] == [TurnStarted, TextDelta, Chunk, Frame, Frame, TurnEnded]
    assert {event.turn_id for event in events} == {events[0].turn_id}
    assert events[1].text == "Heard: Hi."
    assert events[2].reason == "flush"
    assert events[2].held_ms == 1.5
    assert [frame.offset_samples for frame in events[3:5]] == [0, 10]


async def test_the_report_has_the_times_of_the_caller_and_adds_up(mesh):
    report = (await mesh.ask("Hi").collect()).report
    assert report.outcome == "completed"
    assert report.prompt == "Hi"
    assert report.ttfa_ms > 0
    assert report.ttfa_audible_ms == pytest.approx(report.ttfa_ms + 2)
    assert report.chunks[0].first_frame_ms == pytest.approx(report.ttfa_ms)
    assert report.total_ms >= report.ttfa_ms >= report.ttft_ms > 0
    assert report.audio_ms == 20
    assert report.session_id == "session-1"
    assert_adds_up(report)


async def test_what_the_gateway_did_not_see_is_transport(gateway):
    now = [0]

    def clock() -> int:
        now[0] += 1_000_000_000
        return now[0]

    async with serve(gateway) as address, VoiceMesh(address, clock=clock) as mesh:
        report = (await mesh.ask("Hi").collect()).report
    assert report.ttfa_ms >= 1000
    assert report.hops["caller"] == pytest.approx(report.ttfa_ms - TTFA_US / 1000)
    assert report.stages[Stage.TRANSPORT] == pytest.approx(report.hops["caller"] + 0.4)
    assert_adds_up(report)


async def test_a_turn_without_audio_has_no_time_to_cut(mesh):
    recording = await mesh.ask("silent").collect()
    assert recording.audio == b""
    turn = recording.report.to_json()
    assert turn["ttfa_ms"] == turn["ttfa_audible_ms"] == turn["unattributed_ms"] == 0
    assert set(turn["stages"].values()) == {0}


async def test_a_recording_is_a_wav_file(mesh, tmp_path):
    recording = await mesh.ask("Hi").collect()
    recording.save(tmp_path / "reply.wav")
    with wave.open(str(tmp_path / "reply.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (RATE_HZ, 1, 20)
        assert file.readframes(20) == recording.audio


async def test_a_wav_file_takes_pcm_of_a_known_rate(mesh):
    recording = await mesh.ask("Hi").collect()
    buffer = io.BytesIO()
    write_wav(buffer, [recording.audio, b""], recording.format)
    assert buffer.getvalue().startswith(b"RIFF")
    with pytest.raises(ValueError, match="sample rate"):
        write_wav(io.BytesIO(), b"", type(recording.format)())


async def test_prompts_carry_pictures_and_options(mesh, gateway):
    picture = Image(data=b"png", media_type="image/png")
    speech = SpeechOptions(policy="words:5", max_lead_ms=0, word_timings=True, cache=False)
    async with mesh.converse(voice="espeak/de", speech=speech, reply_cache=False) as conversation:
        await (await conversation.ask(["What is ", picture])).collect()
    configure, prompt = gateway.received
    assert configure.configure.speech.voice == "espeak/de"
    assert configure.configure.speech.chunk_policy.words == 5
    assert configure.configure.speech.HasField("max_lead_ms")
    assert configure.configure.speech.bypass_audio_cache
    assert configure.configure.bypass_reply_cache
    assert prompt.prompt.parts[1].image.data == b"png"


async def test_a_recording_is_made_as_fast_as_it_can_be_and_a_stream_at_the_pace_of_playback(mesh, gateway):
    await mesh.ask("Hi").collect()
    assert gateway.received[0].configure.speech.HasField("max_lead_ms")
    gateway.received.clear()
    async for _ in mesh.ask("Hi"):
        pass
    assert not gateway.received[0].configure.speech.HasField("max_lead_ms")
    gateway.received.clear()
    await mesh.ask("Hi", speech=SpeechOptions(max_lead_ms=700)).collect()
    assert gateway.received[0].configure.speech.max_lead_ms == 700


@pytest.mark.parametrize(
    "speech",
    [SpeechOptions(policy="words"), SpeechOptions(policy="words:0"), SpeechOptions(encoding="wax")],
)
async def test_options_that_cannot_be_are_refused_before_a_call(mesh, gateway, speech):
    with pytest.raises(ValueError, match="is none of"):
        mesh.ask("Hi", speech=speech)
    assert not gateway.received


async def test_turns_of_a_conversation_share_a_call_and_a_session(mesh, gateway):
    async with mesh.converse() as conversation:
        first = await (await conversation.ask("one")).collect()
        second = await (await conversation.ask("two")).collect()
        assert conversation.session_id == "session-1"
    await gateway.ended.wait()
    assert [request.WhichOneof("event") for request in gateway.received] == ["configure", "prompt", "prompt"]
    assert (first.text, second.text) == ("Heard: one.", "Heard: two.")
    assert not gateway.cancelled.is_set()


async def test_an_interrupted_turn_gives_nothing_more_but_its_end(mesh, gateway):
    async with mesh.converse() as conversation:
        turn = await conversation.ask("hang")
        events = aiter(turn)
        while not isinstance(await anext(events), Frame):
            pass
        await conversation.interrupt(played_ms=7)
        rest = [event async for event in events]
        assert [type(event) for event in rest] == [TurnEnded]
        assert turn.report is not None
        assert turn.report.outcome == "interrupted"
        await conversation.interrupt()
        assert (await (await conversation.ask("next")).collect()).text == "Heard: next."
    interrupts = [request.interrupt for request in gateway.received if request.HasField("interrupt")]
    assert [interrupt.played_ms for interrupt in interrupts] == [7]
    assert [interrupt.turn_id for interrupt in interrupts] == [turn.turn_id]


async def test_a_new_turn_ends_the_one_before(mesh):
    async with mesh.converse() as conversation:
        old = await conversation.ask("hang")
        new = await conversation.ask("next")
        assert (await new.collect()).text == "Heard: next."
        assert [type(event) async for event in old] == [TurnEnded]
        assert old.report is not None
        assert old.report.outcome == "interrupted"
        assert old.report.ttfa_ms == sum(old.report.stages.values()) == 0 or old.report.unattributed_ms > 0


async def test_frames_of_another_turn_are_dropped(mesh):
    async with mesh.converse() as conversation:
        turn = await conversation.ask("stale")
        recording = await turn.collect()
        assert conversation.dropped == 2
    assert len(recording.audio) == 40


async def test_a_turn_that_nobody_reads_does_not_hold_up_the_next(mesh):
    async with mesh.converse() as conversation:
        unread = await conversation.ask("flood")
        await until(lambda: unread.inbox_size == 512)
        assert (await (await conversation.ask("next")).collect()).text == "Heard: next."
        assert unread.inbox_size <= 1


async def test_the_callers_own_words(mesh, gateway):
    async def pieces() -> AsyncIterator[str]:
        yield "Good "
        yield "day"

    async with mesh.converse() as conversation:
        turn = await conversation.say(pieces(), traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
        recording = await turn.collect()
        whole = await (await conversation.say("All at once")).collect()
    texts = [request.text for request in gateway.received if request.HasField("text")]
    assert [text.text for text in texts] == ["Good ", "day", "", "All at once"]
    assert [text.last for text in texts] == [False, False, True, True]
    assert [bool(text.traceparent) for text in texts] == [True, False, False, False]
    assert recording.text == "Heard: Good day."
    assert whole.text == "Heard: All at once."


async def test_words_that_break_off_end_the_turn_with_their_own_exception(mesh, gateway):
    class OwnError(Exception):
        pass

    async def pieces() -> AsyncIterator[str]:
        yield "Good "
        raise OwnError

    async def nothing() -> AsyncIterator[str]:
        if not gateway.ended.is_set():
            raise OwnError
        yield ""

    async with mesh.converse() as conversation:
        for words in (pieces(), nothing()):
            turn = await conversation.say(words)
            with pytest.raises(OwnError):
                await turn.collect()
            assert turn.report is not None
            assert turn.report.outcome == "interrupted"
        assert (await (await conversation.ask("next")).collect()).text == "Heard: next."


async def test_words_that_still_come_end_with_the_next_turn(mesh):
    async def endless() -> AsyncIterator[str]:
        yield "Good "
        await asyncio.Event().wait()

    async with mesh.converse() as conversation:
        turn = await conversation.say(endless())
        await until(lambda: turn.observer.seen().text != "")
        assert (await (await conversation.ask("next")).collect()).text == "Heard: next."


async def test_playback_is_passed_on(mesh, gateway):
    async with mesh.converse() as conversation:
        await conversation.playback(1)
        turn = await conversation.ask("hang")
        await conversation.playback(40)
        await conversation.interrupt()
        await turn.collect()
    sent = [request.playback for request in gateway.received if request.HasField("playback")]
    assert [(playback.turn_id, playback.played_ms) for playback in sent] == [(turn.turn_id, 40)]


async def test_a_failed_turn_raises_with_its_report_and_the_conversation_goes_on(mesh):
    async with mesh.converse() as conversation:
        turn = await conversation.ask("fail")
        with pytest.raises(VoiceMeshError, match="no model answers") as caught:
            await turn.collect()
        error = caught.value
        assert (error.code, error.reason, error.retry_after_ms) == ("UNAVAILABLE", "LLM_UNAVAILABLE", 250)
        assert error.reached
        assert error.report is not None
        assert error.report.to_json()["error"] == {
            "code": "UNAVAILABLE",
            "reason": "LLM_UNAVAILABLE",
            "limit": "",
            "message": "no model answers",
        }
        assert error.report.outcome == "failed"
        assert (await (await conversation.ask("next")).collect()).text == "Heard: next."


async def test_a_call_that_dies_fails_its_turn_and_those_after_it(mesh):
    async with mesh.converse() as conversation:
        turn = await conversation.ask("die")
        with pytest.raises(VoiceMeshError) as caught:
            await turn.collect()
        assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", "prompt.parts")
        assert caught.value.report is not None
        assert caught.value.report.turn_id == turn.turn_id
        with pytest.raises(VoiceMeshError, match="too long"):
            await conversation.ask("next")


async def test_a_call_that_ends_early_fails_its_turn(mesh):
    with pytest.raises(VoiceMeshError, match="before the turn") as caught:
        await mesh.ask("drop").collect()
    report = caught.value.report
    assert report is not None
    assert report.text == "Heard: drop."
    assert report.ttfa_ms == report.unattributed_ms > 0
    assert_adds_up(report)


async def test_leaving_the_events_early_cancels_the_call(mesh, gateway):
    async for event in mesh.ask("hang"):
        if isinstance(event, Frame):
            break
    await gateway.cancelled.wait()


async def test_leaving_a_conversation_cancels_its_turn(mesh, gateway):
    async with mesh.converse() as conversation:
        await conversation.ask("hang")
    await gateway.cancelled.wait()


async def test_leaving_the_mesh_ends_what_is_open(gateway):
    async with asyncio.timeout(GUARD_S), serve(gateway) as address:
        async with VoiceMesh(address) as mesh:
            events: Any = aiter(mesh.ask("hang"))
            assert isinstance(await anext(events), TurnStarted)
        await gateway.cancelled.wait()
        await events.aclose()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("voicemesh-")]


async def test_say_speaks_a_text(mesh, gateway):
    turn = mesh.say("Good day", voice="espeak/de")
    recording = await turn.collect()
    assert isinstance(recording, Recording)
    assert recording.report.text == "Good day"
    assert recording.report.turn_id == turn.turn_id
    assert recording.report.ttft_ms == 0
    assert_adds_up(recording.report)
    assert gateway.speeches[0].speech.voice == "espeak/de"


async def test_say_left_early_cancels_the_call(mesh, gateway):
    async with mesh.say("hang") as turn:
        async for event in turn:
            if isinstance(event, Frame):
                break
    await gateway.cancelled.wait()


async def test_say_with_an_unknown_voice(mesh):
    with pytest.raises(VoiceMeshError) as caught:
        await mesh.say("Good day", voice="nobody").collect()
    assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "UNKNOWN_VOICE")
    assert caught.value.report is not None
    assert caught.value.report.outcome == "failed"


async def test_a_batch_gives_each_text_once(mesh):
    items = [item async for item in mesh.speak_batch(["a", "fail", "a"])]
    assert [item.text_indexes for item in items] == [(0, 2), (1,)]
    assert items[0].recording is not None
    assert len(items[0].recording.audio) == 40
    assert items[1].error is not None
    assert items[1].error.reason == "NO_ENGINE"


async def test_voices_and_explain(mesh):
    assert [voice.name for voice in await mesh.voices("en")] == ["espeak/en-us"]
    with pytest.raises(VoiceMeshError) as caught:
        await mesh.explain("no such turn")
    assert caught.value.reason == "UNKNOWN_TURN"
    done = (await mesh.ask("Hi").collect()).report
    seen_by_gateway = await mesh.explain(done.turn_id)
    assert seen_by_gateway.ttfa_ms == TTFA_US / 1000
    assert seen_by_gateway.stages[Stage.TRANSPORT] == 0.4
    assert "caller" not in seen_by_gateway.hops
    assert_adds_up(seen_by_gateway)


async def test_a_mesh_that_is_not_there():
    address = f"127.0.0.1:{free_port()}"
    async with asyncio.timeout(GUARD_S), VoiceMesh(address) as mesh:
        with pytest.raises(VoiceMeshError) as caught:
            await mesh.connect()
        assert not caught.value.reached
        for turn in (mesh.ask("Hi"), mesh.say("Hi")):
            with pytest.raises(VoiceMeshError, match=address) as caught:
                await turn.collect()
            assert not caught.value.reached
            assert caught.value.report is not None
            assert caught.value.report.to_json()["error"]["reason"] == "SERVICE_UNAVAILABLE"
        with pytest.raises(VoiceMeshError, match=address):
            await mesh.voices()
        with pytest.raises(VoiceMeshError, match=address):
            [item async for item in mesh.speak_batch(["a"])]


async def test_outside_of_its_block_there_is_no_mesh():
    with pytest.raises(RuntimeError, match="async with"):
        VoiceMesh().ask("Hi")
