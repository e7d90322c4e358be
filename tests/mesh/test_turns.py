"""Turns over the real mesh, as callers have them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from voicemesh.client import (
    Chunk,
    Frame,
    SpeechOptions,
    TextDelta,
    TurnEnded,
    TurnReport,
    TurnStarted,
    VoiceMesh,
    VoiceMeshError,
    Words,
)
from voicemesh.stages import STAGES

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNPACED = SpeechOptions(max_lead_ms=0)
PROMPT = "Why do harbours silt up?"


def adds_up(report: TurnReport) -> None:
    assert set(report.stages) == set(STAGES)
    assert sum(report.stages.values()) + report.unattributed_ms == pytest.approx(report.ttfa_ms, abs=0.01)
    assert abs(report.unattributed_ms) <= report.ttfa_ms / 100


async def test_a_prompt_becomes_text_chunks_and_frames_in_order(client: VoiceMesh) -> None:
    events = [event async for event in client.ask(PROMPT, speech=UNPACED)]
    assert isinstance(events[0], TurnStarted)
    assert isinstance(events[-1], TurnEnded)
    report = events[-1].report
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text == report.text
    assert "rehearsal" in text[:40].lower()
    chunks = [event for event in events if isinstance(event, Chunk)]
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert len(chunks) > 1
    assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join(text.split())
    frames = [event for event in events if isinstance(event, Frame)]
    assert [(f.chunk_index, f.sequence) for f in frames] == sorted(
        (f.chunk_index, f.sequence) for f in frames
    )
    offset = 0
    for frame in frames:
        assert frame.turn_offset_samples == offset
        offset += len(frame.audio) // 2
    assert report.audio_ms == pytest.approx(offset / 22.05, abs=1)
    first_frame = next(i for i, event in enumerate(events) if isinstance(event, Frame))
    last_text = max(i for i, event in enumerate(events) if isinstance(event, TextDelta))
    assert first_frame < last_text, "chunks are spoken while the LLM still writes"
    assert report.outcome == "completed"
    assert report.input_tokens > 0
    adds_up(report)


async def test_the_same_prompt_again_comes_from_the_cache(client: VoiceMesh) -> None:
    prompt = "What is a lighthouse for?"
    first = await client.ask(prompt, speech=UNPACED).collect()
    again = await client.ask(prompt, speech=UNPACED).collect()
    assert first.report.reply_cache == "miss"
    assert again.report.reply_cache == "hit"
    assert {chunk.cache for chunk in again.report.chunks} == {"memory"}
    assert again.audio == first.audio
    assert again.text == first.text
    adds_up(again.report)


async def test_callers_own_words_are_spoken_as_they_come(client: VoiceMesh) -> None:
    async def words() -> AsyncIterator[str]:
        for piece in ("Good mor", "ning, everyone. ", "The second sentence ", "is here."):
            yield piece

    async with client.converse(speech=SpeechOptions(max_lead_ms=0, word_timings=True)) as conversation:
        turn = await conversation.say(words())
        events = [event async for event in turn]
    chunks = [event.text for event in events if isinstance(event, Chunk)]
    assert " ".join(chunks) == "Good morning, everyone. The second sentence is here."
    spoken = [word.word for event in events if isinstance(event, Words) for word in event.words]
    heard = " ".join(word.strip(".,") for word in spoken)
    assert heard == "Good morning everyone The second sentence is here"
    assert turn.report is not None
    assert turn.report.outcome == "completed"
    adds_up(turn.report)


async def test_many_turns_on_one_stream_share_a_session(client: VoiceMesh) -> None:
    async with client.converse(speech=UNPACED) as conversation:
        reports = []
        for prompt in ("My name is Ada.", "Tell me about bridges.", "And about tunnels?"):
            turn = await conversation.ask(prompt)
            reports.append((await turn.collect()).report)
    assert len({report.session_id for report in reports}) == 1
    assert len({report.trace_id for report in reports}) == 3
    # The prompt of a later turn has the turns before it: it is longer by them.
    assert reports[0].input_tokens < reports[1].input_tokens < reports[2].input_tokens


async def test_a_session_goes_on_in_another_stream(client: VoiceMesh) -> None:
    session_id = "session-of-two-streams"
    first = await client.ask("Tell me about ferries.", session_id=session_id, speech=UNPACED).collect()
    second = await client.ask("And about canals?", session_id=session_id, speech=UNPACED).collect()
    assert second.report.input_tokens > first.report.input_tokens


async def test_an_interrupt_ends_the_turn_and_the_next_one_has_none_of_its_frames(client: VoiceMesh) -> None:
    async with client.converse() as conversation:
        turn = await conversation.ask("Tell me a long story about the sea, please.")
        async for event in turn:
            if isinstance(event, Frame):
                await conversation.interrupt(played_ms=100)
                break
        rest = [event async for event in turn]
        assert isinstance(rest[-1], TurnEnded)
        assert rest[-1].report.outcome == "interrupted"
        following = await conversation.ask("And now about lakes?")
        recording = await following.collect()
    assert recording.report.outcome == "completed"
    assert recording.report.turn_id == following.turn_id


async def test_a_new_prompt_ends_the_turn_before_it(client: VoiceMesh) -> None:
    async with client.converse() as conversation:
        first = await conversation.ask("Tell me a very long story.")
        second = await conversation.ask("No: tell me a short one.")
        recording = await second.collect()
        assert recording.report.outcome == "completed"
    assert first.report is not None
    assert first.report.outcome == "interrupted"


async def test_speak_says_one_text(client: VoiceMesh) -> None:
    recording = await client.say("Platform nine. Mind the gap.").collect()
    assert recording.report.outcome == "completed"
    assert recording.report.audio_ms > 1000
    assert recording.report.ttft_ms == 0


async def test_a_batch_speaks_identical_texts_once(client: VoiceMesh) -> None:
    texts = ["Well done.", "Try again.", "Well done."]
    items = {item.text_indexes: item async for item in client.speak_batch(texts)}
    assert set(items) == {(0, 2), (1,)}
    assert all(item.recording and item.recording.audio for item in items.values())


async def test_languages_are_voices(client: VoiceMesh) -> None:
    voices = await client.voices("de")
    assert voices
    recording = await client.say("Guten Morgen, alle zusammen.", voice=voices[0].name).collect()
    assert recording.report.audio_ms > 500


async def test_a_turn_can_be_explained_afterwards(client: VoiceMesh) -> None:
    recording = await client.say("Explain me.").collect()
    report = await client.explain(recording.report.turn_id)
    assert report.turn_id == recording.report.turn_id
    assert sum(report.stages.values()) + report.unattributed_ms == pytest.approx(report.ttfa_ms, abs=0.01)
    with pytest.raises(VoiceMeshError) as raised:
        await client.explain("no-such-turn")
    assert raised.value.reason == "UNKNOWN_TURN"


async def test_turns_of_many_callers_do_not_mix(client: VoiceMesh) -> None:
    texts = [f"This is caller number {number}." for number in range(12)]
    alone = [await client.say(text).collect() for text in texts[:3]]
    together = await asyncio.gather(*(client.say(text).collect() for text in texts))
    for one, same in zip(alone, together, strict=False):
        assert one.audio == same.audio
    assert len({recording.audio for recording in together}) == len(texts)
