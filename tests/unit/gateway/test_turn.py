import pytest

from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.turn import TurnEngine
from gateway.core.values import Chunk, Message, Usage, Word
from tests.unit.gateway.engine import Script, pcm, samples
from voicemesh.runtime.clock import ManualClock


def whole_turn(script: Script) -> None:
    """One chunk, one frame, from the LLM's first token to the report."""
    script.to_llm()
    script.on(on.TextArrived("Because.", connect_us=3000, ttft_us=90_000), after_ms=100)
    script.on(on.TextEnded(Usage(10, 2), complete=True), after_ms=5)
    script.say(0, "Because.", 0, held_us=5000)
    script.on(on.ChunksEnded())
    script.on(on.AudioMissing(0, 50), after_ms=1)
    script.clock.advance_ms(4)
    script.speak(0, 20)
    script.on(on.FirstFrameSent(), after_ms=1)
    script.on(on.ChunkSpoken(0))
    script.on(on.HistorySaved())


def test_a_prompt_is_answered_spoken_kept_and_accounted_for() -> None:
    script = Script()
    whole_turn(script)
    names = [type(action).__name__ for action in script.actions]
    assert names == [
        "LoadHistory",
        "LookUpReply",
        "StartLlm",
        "FeedChunker",
        "EmitText",
        "EndChunker",
        "EmitChunk",
        "LookUpAudio",
        "StoreReply",
        "Synthesize",
        "EmitFrame",
        "StoreAudio",
        "SaveHistory",
        "Finish",
    ]
    report = script.report
    assert report.outcome == "completed"
    assert report.text == "Because."
    assert report.usage == Usage(10, 2)
    assert report.ttft_us == 102_000
    attribution = report.attribution
    assert attribution.ttfa_us == 113_000
    assert sum(attribution.stages.values()) + attribution.unattributed_us == attribution.ttfa_us
    assert {stage: us for stage, us in attribution.stages.items() if us} == {
        "history": 100,
        "reply_cache": 100,
        "llm_connect": 3000,
        "llm_ttft": 90_000,
        "chunk_hold": 5000,
        "audio_cache": 50,
        "tts_queue": 500,
        "tts_synthesis": 2000,
        "transport": 900 + 900 + 7000 + 950 + 1500,
        "gateway": 1000,
    }
    assert attribution.hops == {"cache": 900 + 900 + 950, "llm": 7000, "chunker": 0, "tts": 1500}
    (saved,) = script.of(do.SaveHistory)
    assert [message.role for message in saved.messages] == ["user", "assistant"]


def test_audio_of_another_model_than_the_turn_knew_is_played_and_not_kept() -> None:
    script = Script()
    script.to_llm()
    script.on(on.TextArrived("Because."), after_ms=1)
    script.on(on.TextEnded(Usage(10, 2), complete=True), after_ms=1)
    script.say(0, "Because.", 0)
    script.on(on.ChunksEnded())
    script.on(on.AudioMissing(0, 50))
    script.on(on.FrameMade(0, 0, bytes(960), first=True, other_model=True))
    script.on(on.FrameMade(0, 480, bytes(960)))
    script.on(on.FirstFrameSent(), after_ms=1)
    script.on(on.ChunkSpoken(0))
    script.on(on.HistorySaved())
    assert len(script.of(do.EmitFrame)) == 2
    assert script.of(do.StoreAudio) == []
    assert script.report.outcome == "completed"


def test_services_that_report_more_time_than_was_seen_get_no_more_than_that() -> None:
    script = Script(keep_history=False, reply_cache=False, audio_cache=False)
    script.start()
    script.on(on.TextArrived("Because.", connect_us=0, ttft_us=150_000), after_ms=100)
    script.say(0, "Because.", 0)
    script.speak(0, 20)
    script.on(on.FirstFrameSent())
    script.on(on.TextEnded())
    script.on(on.ChunksEnded())
    script.on(on.ChunkSpoken(0))
    attribution = script.report.attribution
    assert attribution.excess_us == 50_000 + 2500
    assert attribution.unattributed_us == 0
    assert sum(attribution.stages.values()) + attribution.unattributed_us == attribution.ttfa_us == 100_000


def test_a_cached_reply_and_cached_audio_ask_neither_llm_nor_engine() -> None:
    script = Script()
    script.start()
    script.on(on.HistoryLoaded((), 0, 10))
    script.on(on.ReplyFound("It is so.", "memory", 20))
    script.say(0, "It is so.", 0)
    script.on(on.AudioFound(0, pcm(500), (), "redis", 30))
    script.on(on.ChunksEnded())
    script.on(on.FirstFrameSent())
    script.on(on.HistorySaved())
    assert not script.of(do.StartLlm)
    assert not script.of(do.Synthesize)
    assert script.report.reply_cache == "memory"
    assert script.report.chunks[0].cache == "redis"
    frames = script.of(do.EmitFrame)
    assert b"".join(frame.audio for frame in frames) == pcm(500)
    assert [len(frame.audio) // 2 for frame in frames][:3] == [samples(20), samples(20), samples(40)]


def test_a_cached_reply_is_cut_as_it_was_when_it_was_first_spoken() -> None:
    first = Script()
    whole_turn(first)
    (stored,) = first.of(do.StoreReply)
    assert [chunk.text for chunk in stored.chunks] == ["Because."]
    script = Script()
    script.start()
    script.on(on.HistoryLoaded((), 0, 10), after_ms=1)
    script.on(on.ReplyFound(stored.text, "memory", 20, stored.chunks), after_ms=1)
    assert not script.of(do.FeedChunker) + script.of(do.EndChunker)
    assert [action.text for action in script.of(do.EmitText)] == ["Because."]
    assert [action.text for action in script.of(do.LookUpAudio)] == ["Because."]
    script.on(on.AudioFound(0, pcm(500), (), "memory", 30), after_ms=1)
    script.on(on.FirstFrameSent())
    script.on(on.HistorySaved())
    attribution = script.report.attribution
    assert attribution.ttfa_us == sum(attribution.stages.values()) == 3000
    assert attribution.stages["chunk_hold"] == 0
    assert not script.of(do.StoreReply), "it is there already"


def cached(*texts: str, **changes: object) -> Script:
    """Return a turn whose reply was found, with these chunks."""
    script = Script(new_session=True, **changes)
    script.start()
    chunks = tuple(
        Chunk(index, text, 10 * index, len(text), "sentence", 0) for index, text in enumerate(texts)
    )
    script.on(on.ReplyFound(" ".join(texts), "memory", 20, chunks))
    return script


def test_the_first_audio_goes_before_what_is_told_of_the_chunks_behind_it() -> None:
    script = cached("One one.", "Two two.", "Six six.")
    assert [action.index for action in script.of(do.LookUpAudio)] == [0]
    script.on(on.AudioFound(0, pcm(500), (), "memory", 30))
    kinds = [type(action) for action in script.actions if isinstance(action, do.EmitChunk | do.EmitFrame)]
    assert kinds[0] is do.EmitChunk
    assert kinds[-2:] == [do.EmitChunk, do.EmitChunk]
    assert set(kinds[1:-2]) == {do.EmitFrame}
    assert [action.index for action in script.of(do.LookUpAudio)] == [0, 1, 2]
    script.on(on.FirstFrameSent())
    script.on(on.AudioFound(2, pcm(100), (), "memory", 30))
    assert not script.of(do.Finish)
    script.on(on.AudioFound(1, pcm(100), (), "memory", 30))
    script.on(on.HistorySaved())
    assert [chunk.text for chunk in script.report.chunks] == ["One one.", "Two two.", "Six six."]


@pytest.mark.parametrize("audio_cache", [True, False])
def test_chunks_of_a_cached_reply_wait_for_no_engine(audio_cache: bool) -> None:
    script = cached("One one.", "Two two.", audio_cache=audio_cache)
    if audio_cache:
        script.on(on.AudioGranted(0))
    assert [action.chunk.index for action in script.of(do.EmitChunk)] == [0, 1]
    assert script.of(do.Synthesize)


def test_a_cached_reply_that_is_interrupted_at_once_ends() -> None:
    script = cached("One one.", "Two two.")
    script.on(on.Interrupted())
    script.on(on.HistorySaved())
    assert script.report.outcome == "interrupted"
    assert script.on(on.AudioFound(0, pcm(500), (), "memory", 30)) == []


class _TickingClock(ManualClock):
    def now_ns(self) -> int:
        self.advance_ms(0.001)  # as a real one does between two looks at it
        return super().now_ns()


def test_a_chunk_that_came_with_its_reply_leaves_no_time_to_a_chunker() -> None:
    first = Script()
    whole_turn(first)
    (stored,) = first.of(do.StoreReply)
    script = Script()
    script.clock = _TickingClock(script.clock.now_ns())
    script.engine = TurnEngine(script.engine.spec, script.clock)
    script.start()
    script.on(on.HistoryLoaded((), 0, 0), after_ms=1)
    script.on(on.ReplyFound(stored.text, "memory", 0, stored.chunks), after_ms=1)
    script.on(on.AudioFound(0, pcm(500), (), "memory", 0), after_ms=1)
    script.on(on.FirstFrameSent())
    script.on(on.HistorySaved())
    attribution = script.report.attribution
    assert attribution.unattributed_us == 0
    assert set(attribution.hops) == {"cache"}


def test_a_reply_that_nobody_cut_is_kept_all_the_same() -> None:
    script = Script()
    script.to_llm()
    script.on(on.TextArrived("Because."))
    script.on(on.TextEnded(complete=True))
    script.on(on.Interrupted())
    (stored,) = script.of(do.StoreReply)
    assert (stored.text, stored.chunks) == ("Because.", ())


def test_frames_of_a_later_chunk_wait_for_those_of_an_earlier_one() -> None:
    script = Script(keep_history=False)
    script.start()
    script.on(on.ReplyMissing())
    script.on(on.TextArrived("One. Two."))
    script.say(0, "One.", 0)
    script.say(1, "Two.", 5)
    script.on(on.AudioFound(1, pcm(40, value=2), (), "memory", 1))
    assert not script.of(do.EmitFrame)
    script.on(on.AudioMissing(0))
    script.speak(0, 20)
    script.on(on.FirstFrameSent())
    script.on(on.ChunkSpoken(0))
    frames = script.of(do.EmitFrame)
    assert [(f.index, f.sequence) for f in frames] == [(0, 0), (1, 0), (1, 1)]
    offset = 0
    for frame in frames:
        assert frame.turn_offset_samples == offset
        offset += len(frame.audio) // 2


def test_a_lookup_that_is_out_holds_up_the_engine_so_that_indexes_rise() -> None:
    script = Script(keep_history=False)
    script.start()
    script.on(on.ReplyMissing())
    script.on(on.TextArrived("One. Two."))
    script.say(0, "One.", 0)
    script.say(1, "Two.", 5)
    script.on(on.AudioMissing(1))
    assert not script.of(do.Synthesize)
    script.on(on.AudioMissing(0))
    assert [action.index for action in script.of(do.Synthesize)] == [0, 1]


def test_synthesis_stays_within_the_lead_and_goes_on_when_audio_was_played() -> None:
    script = Script(prompt=None, keep_history=False, audio_cache=False, max_lead_ms=5000)
    script.start()
    script.on(on.TextArrived("x" * 400))
    for index in range(4):
        script.say(index, "x" * 100, index * 100)
    assert [a.index for a in script.of(do.Synthesize)] == [0]  # 100 characters are about 6.5 s
    script.speak(0, 6500)
    script.on(on.FirstFrameSent())
    script.on(on.ChunkSpoken(0))
    (timer,) = script.of(do.SetTimer)
    assert [a.index for a in script.of(do.Synthesize)] == [0]
    script.on(on.TimerFired(), after_ms=(timer.at_ns - script.clock.now_ns()) / 1e6)
    assert [a.index for a in script.of(do.Synthesize)] == [0, 1]
    assert script.of(do.Synthesize)[1].deadline_ms >= 4990


def test_the_llm_may_join_its_text_while_the_player_has_plenty_and_only_then() -> None:
    script = Script(keep_history=False, max_lead_ms=0)
    script.start()
    script.on(on.ReplyMissing())
    script.on(on.TextArrived("One"))
    script.on(on.TextArrived(" two."))
    script.say(0, "One two.", 0)
    script.on(on.AudioMissing(0))
    script.speak(0, 3000)
    script.on(on.FirstFrameSent())
    assert do.TellPatience(100) in script.on(on.TextArrived(" Three"))
    assert not [a for a in script.on(on.TextArrived(" four")) if isinstance(a, do.TellPatience)]
    assert not [
        a for a in script.on(on.TextArrived(" five"), after_ms=1900) if isinstance(a, do.TellPatience)
    ]
    assert do.TellPatience(0) in script.on(on.TextArrived(" six"), after_ms=200)
    text = "".join(action.text for action in script.of(do.EmitText))
    assert text == "One two. Three four five six"


def test_a_later_chunk_is_due_when_what_is_before_it_was_played() -> None:
    script = Script(prompt=None, keep_history=False, audio_cache=False, max_lead_ms=0)
    script.start()
    script.on(on.TextArrived("x" * 30))
    script.say(0, "x" * 10, 0)
    script.say(1, "x" * 10, 10)
    script.say(2, "x" * 10, 20)
    assert [action.deadline_ms for action in script.of(do.Synthesize)] == [0, 650, 1300]


def test_an_interrupt_stops_everything_and_keeps_what_was_heard() -> None:
    script = Script()
    script.to_llm()
    script.on(on.TextArrived("One two. Three four."))
    script.say(0, "One two.", 0)
    script.on(on.AudioMissing(0))
    script.speak(0, 1000)
    script.on(on.FirstFrameSent())
    script.say(1, "Three four.", 9)
    actions = script.on(on.Interrupted(played_ms=300))
    names = [type(action).__name__ for action in actions]
    assert names == ["DropQueued", "CancelLlm", "CancelSpeech", "ReleaseAudio", "SaveHistory"]
    assert script.on(on.FrameMade(0, samples(1000), pcm(20))) == []
    assert script.on(on.TextArrived(" More.")) == []
    script.on(on.HistorySaved())
    assert script.report.outcome == "interrupted"
    (saved,) = script.of(do.SaveHistory)
    assert saved.added == (Message("user", ("Why?",)), Message("assistant", ("One",)))
    assert script.on(on.TextArrived("late")) == []


def test_an_interrupt_before_anything_was_heard_keeps_the_question_alone() -> None:
    script = Script()
    script.to_llm()
    script.on(on.Interrupted())
    (saved,) = script.of(do.SaveHistory)
    assert saved.added == (Message("user", ("Why?",)),)


def test_a_reply_without_text_is_a_valid_turn() -> None:
    script = Script(keep_history=False)
    script.start()
    script.on(on.ReplyMissing())
    script.on(on.TextEnded(Usage(5, 0), complete=True))
    assert script.report.outcome == "completed"
    assert script.report.attribution.ttfa_us == 0


def test_the_report_waits_until_the_first_frame_was_handed_over() -> None:
    script = Script(keep_history=False)
    script.start()
    script.on(on.ReplyFound("Yes.", "memory", 1))
    script.say(0, "Yes.", 0)
    script.on(on.AudioFound(0, pcm(20), (), "memory", 1))
    script.on(on.ChunksEnded())
    assert not script.of(do.Finish)
    script.on(on.FirstFrameSent(), after_ms=7)
    assert script.report.attribution.ttfa_us == 7000
    assert script.report.total_us == 7000, "no turn ends before it is heard"


def test_leading_silence_and_underruns_are_counted() -> None:
    script = Script(prompt=None, keep_history=False, audio_cache=False)
    script.start()
    script.on(on.TextArrived("One."))
    script.say(0, "One.", 0)
    script.on(on.FrameMade(0, 0, pcm(20, value=3), first=True))
    script.on(on.FirstFrameSent())
    script.on(on.FrameMade(0, samples(20), pcm(10, value=3) + pcm(10)))
    script.on(on.FrameMade(0, samples(40), pcm(20)), after_ms=100)
    script.on(on.TextEnded())
    script.on(on.ChunksEnded())
    script.on(on.ChunkSpoken(0))
    report = script.report
    assert report.leading_silence_us == pytest.approx(30_000, abs=100)
    assert report.underruns == 1
    assert report.underrun_us == pytest.approx(60_000, abs=200)
    assert report.audio_us == pytest.approx(60_000, abs=100)


def test_an_interrupt_finishes_a_turn_whose_first_frame_nobody_takes() -> None:
    script = Script(keep_history=False)
    script.start()
    script.on(on.ReplyFound("Yes.", "memory", 1))
    script.say(0, "Yes.", 0)
    script.on(on.AudioFound(0, pcm(20), (), "memory", 1))
    script.on(on.ChunksEnded())
    actions = script.on(on.Interrupted())
    assert [type(action) for action in actions] == [do.DropQueued, do.Finish]
    assert script.report.outcome == "interrupted"


def test_an_interrupt_behind_the_end_keeps_only_what_was_heard() -> None:
    script = Script()
    whole_turn(script)
    assert script.of(do.SaveHistory)[0].messages[-1].text == "Because."
    actions = script.on(on.Interrupted(played_ms=0))
    assert [type(action) for action in actions] == [do.DropQueued, do.SaveHistory]
    (_, amended) = script.of(do.SaveHistory)
    assert [message.role for message in amended.messages] == ["user"]
    assert script.engine.history == amended.messages
    assert len(script.of(do.Finish)) == 1


def test_a_chunk_that_was_spoken_to_its_last_word_is_not_spoken_again() -> None:
    script = Script(prompt=None, keep_history=False, audio_cache=False)
    script.start()
    script.on(on.TextArrived("Hello there."))
    script.say(0, "Hello there.", 0)
    script.on(on.WordsTimed(0, (Word("Hello", 0, 5, 0), Word("there", 6, 5, samples(100)))))
    script.speak(0, 300)
    script.on(on.ChunkUnspeakable(0, "gone"))
    assert not script.of(do.EmitSpeakLocally)
    assert [action.what for action in script.of(do.EmitDegraded)] == ["local_speech"]


def test_cached_chunks_behind_a_chunk_that_is_not_spoken_yet_are_not_pulled_without_end() -> None:
    script = Script(prompt=None, keep_history=False, max_lead_ms=0)
    script.start()
    script.on(on.TextArrived("x" * 1000))
    for index in range(50):
        script.say(index, "x" * 20, index * 20)
    script.on(on.AudioMissing(0))
    for index in (1, 2):
        script.on(on.AudioFound(index, pcm(1000), (), "memory", 1))
    assert [action.index for action in script.of(do.LookUpAudio)] == [0, 1, 2]


def test_characters_are_those_that_engines_were_given() -> None:
    script = Script(keep_history=False)
    script.start()
    script.on(on.ReplyMissing())
    script.on(on.TextArrived("One. Four."))
    script.say(0, "One.", 0)
    script.say(1, "Four.", 5)
    script.on(on.AudioFound(0, pcm(20), (), "memory", 1))
    script.on(on.AudioMissing(1))
    script.speak(1, 20)
    script.on(on.FirstFrameSent())
    script.on(on.TextEnded())
    script.on(on.ChunksEnded())
    script.on(on.ChunkSpoken(1))
    assert script.report.characters == len("Four.")


def test_chunks_that_nobody_listens_to_leave_others_the_way() -> None:
    script = Script(prompt=None, keep_history=False, audio_cache=False, patience_ms=2000)
    script.start()
    script.on(on.TextArrived("One."))
    script.say(0, "One.", 0)
    assert script.of(do.Synthesize)[0].deadline_ms == 2000


def test_no_more_than_was_sent_can_have_been_heard() -> None:
    script = Script(prompt=None, audio_cache=False)
    script.start()
    script.on(on.TextArrived("One two."))
    script.say(0, "One two.", 0)
    script.on(on.WordsTimed(0, (Word("One", 0, 3, 0), Word("two", 4, 3, samples(300)))))
    script.speak(0, 200)
    script.on(on.Interrupted(played_ms=5000))
    assert script.engine.history == (Message("assistant", ("One",)),)


@pytest.mark.parametrize(("patience_ms", "due_ms"), [(0, [0, 130]), (60_000, [60_000, 60_130])])
def test_a_lookup_says_when_the_audio_is_needed(patience_ms: int, due_ms: list[int]) -> None:
    script = Script(prompt=None, keep_history=False, patience_ms=patience_ms)
    script.start()
    script.on(on.TextArrived("Aa bbb. C."))
    script.say(0, "Aa", 0)
    script.say(1, "bbb.", 3)
    assert [lookup.due_ms for lookup in script.of(do.LookUpAudio)] == due_ms
