"""Services that fail under a turn, and callers who fall silent: what becomes of the turn."""

import pytest

from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.tokens import text_tokens
from gateway.core.values import Message, Usage
from tests.unit.gateway.engine import Script
from voicemesh.runtime.errors import DeadlineError, LlmStreamBrokenError, LlmUnavailableError, QueueFullError


def test_an_llm_that_fails_before_its_first_token_fails_the_turn() -> None:
    script = Script()
    script.to_llm()
    script.on(on.TextFailed(LlmUnavailableError("gone")))
    assert script.report.outcome == "failed"
    assert isinstance(script.report.error, LlmUnavailableError)
    assert not script.of(do.SaveHistory)


def test_an_llm_that_breaks_off_is_spoken_to_its_end_and_then_fails() -> None:
    script = Script(keep_history=False)
    script.start()
    script.on(on.ReplyMissing())
    script.on(on.TextArrived("So far. And"))
    script.on(on.TextFailed(LlmStreamBrokenError("cut")))
    assert script.of(do.EndChunker)
    script.say(0, "So far. And", 0)
    script.on(on.ChunksEnded())
    script.on(on.AudioMissing(0))
    script.speak(0, 20)
    script.on(on.FirstFrameSent())
    script.on(on.ChunkSpoken(0))
    assert script.report.outcome == "failed"
    assert script.report.audio_us == 20_000
    assert not script.of(do.StoreReply)


def test_a_reply_that_went_on_is_billed_with_what_broke_off() -> None:
    script = Script(keep_history=False)
    script.start()
    script.on(on.ReplyMissing())
    script.on(on.TextArrived("Half of it "))
    script.on(on.TextResumed("it broke off"))
    script.on(on.TextArrived("and the rest."))
    script.on(on.TextEnded(Usage(40, 4), complete=True, also=(Usage(20, 0, estimated=True),)))
    script.say(0, "Half of it and the rest.", 0)
    script.on(on.ChunksEnded())
    script.on(on.AudioMissing(0))
    script.speak(0, 20)
    script.on(on.FirstFrameSent())
    script.on(on.ChunkSpoken(0))
    assert script.report.usage == Usage(40, 4)
    (broken,) = script.report.also_billed
    assert (broken.input_tokens, broken.output_tokens) == (20, round(text_tokens("Half of it ")))


@pytest.mark.parametrize(
    ("event", "what"),
    [(on.ModelDegraded("the second answers"), "model"), (on.TextResumed("it broke off"), "resumed")],
)
def test_a_reply_that_is_not_the_first_models_own_is_told_and_not_kept(event: on.Event, what: str) -> None:
    script = Script(keep_history=False)
    script.start()
    script.on(on.ReplyMissing())
    script.on(event)
    script.on(on.TextArrived("So far."))
    script.on(event)
    script.on(on.TextEnded())
    script.say(0, "So far.", 0)
    script.on(on.ChunksEnded())
    script.on(on.AudioMissing(0))
    script.speak(0, 20)
    script.on(on.FirstFrameSent())
    script.on(on.ChunkSpoken(0))
    assert script.report.outcome == "completed"
    assert script.report.degraded == (what,)
    assert [told.what for told in script.of(do.EmitDegraded)] == [what]
    assert not script.of(do.StoreReply)


def test_a_chunk_that_no_engine_speaks_is_given_to_the_caller_and_the_turn_goes_on() -> None:
    script = Script(keep_history=False)
    script.start()
    script.on(on.ReplyMissing())
    script.on(on.TextArrived("One. Two."))
    script.say(0, "One.", 0)
    script.say(1, "Two.", 5)
    script.on(on.TextEnded())
    script.on(on.ChunksEnded())
    script.on(on.AudioMissing(0))
    script.on(on.AudioMissing(1))
    script.on(on.ChunkUnspeakable(0, "every replica failed"))
    assert script.of(do.EmitSpeakLocally) == [do.EmitSpeakLocally(0, "One.")]
    script.speak(1, 20)
    script.on(on.FirstFrameSent())
    script.on(on.ChunkSpoken(1))
    assert script.report.outcome == "completed"
    assert script.report.degraded == ("local_speech",)


def test_a_full_queue_refuses_the_turn_before_any_audio() -> None:
    script = Script(keep_history=False)
    script.start()
    script.on(on.ReplyMissing())
    script.on(on.TextArrived("One."))
    script.say(0, "One.", 0)
    script.on(on.AudioMissing(0))
    refusal = QueueFullError("full", retry_after_ms=500)
    script.on(on.ChunkUnspeakable(0, "full", refusal))
    assert script.report.outcome == "failed"
    assert script.report.error is refusal
    assert script.of(do.CancelLlm)


def test_a_tts_service_that_goes_away_leaves_the_rest_to_the_caller() -> None:
    script = Script(keep_history=False, audio_cache=False)
    script.start()
    script.on(on.ReplyMissing())
    script.on(on.TextArrived("One two three. Four."))
    script.say(0, "One two three.", 0)
    script.speak(0, 20)
    script.on(on.FirstFrameSent())
    script.on(on.SpeechFailed())
    (local,) = script.of(do.EmitSpeakLocally)
    assert "One two three.".endswith(local.text)


@pytest.mark.parametrize("detail", ["the cache took longer than 20 ms"])
def test_a_cache_that_is_down_costs_the_turn_nothing_but_its_help(detail: str) -> None:
    remembered = (Message("user", ("Before?",)), Message("assistant", ("Before.",)))
    script = Script(remembered=remembered)
    script.start()
    script.on(on.HistoryUnavailable(detail), after_ms=20)
    script.on(on.ReplyMissing(detail=detail), after_ms=20)
    (llm,) = script.of(do.StartLlm)
    assert llm.messages[:2] == remembered
    script.on(on.TextArrived("Yes."))
    script.say(0, "Yes.", 0)
    script.on(on.AudioMissing(0, detail=detail), after_ms=20)
    script.speak(0, 20)
    script.on(on.FirstFrameSent())
    script.on(on.TextEnded())
    script.on(on.ChunksEnded())
    script.on(on.ChunkSpoken(0))
    script.on(on.HistorySaved(detail))
    assert script.report.outcome == "completed"
    assert script.report.degraded == ("history", "cache")
    assert script.report.degraded_why == (detail, detail)
    # Whoever reads it is sent to the cache, and not to the network.
    found = script.report.attribution
    assert {stage: us for stage, us in found.stages.items() if us} == {
        "history": 20_000,
        "reply_cache": 20_000,
        "audio_cache": 20_000,
    }
    assert found.hops["cache"] == 0
    assert script.engine.history[-1].text == "Yes."


def test_a_history_that_the_cache_lost_goes_on_from_the_gateways_copy() -> None:
    remembered = (Message("user", ("Before?",)), Message("assistant", ("Before.",)))
    script = Script(remembered=remembered, reply_cache=False)
    script.start()
    script.on(on.HistoryLoaded((), 0, 10))
    (llm,) = script.of(do.StartLlm)
    assert llm.messages[:2] == remembered
    assert [action.what for action in script.of(do.EmitDegraded)] == ["history"]


def test_words_whose_last_never_comes_are_spoken_and_then_the_turn_fails() -> None:
    script = Script(prompt=None, keep_history=False, audio_cache=False, text_idle_ms=30_000)
    script.start()
    script.on(on.TextArrived("One two"), after_ms=20_000)
    timer = script.of(do.SetTimer)[-1]
    assert timer.at_ns == script.clock.now_ns() + 30_000_000_000
    script.on(on.TimerFired(), after_ms=30_000)
    assert script.of(do.EndChunker)
    script.say(0, "One two", 0)
    script.on(on.ChunksEnded())
    script.speak(0, 20)
    script.on(on.FirstFrameSent())
    script.on(on.ChunkSpoken(0))
    assert script.report.outcome == "failed"
    assert isinstance(script.report.error, DeadlineError)
    assert "30 s" in script.report.error.message


def test_words_that_never_begin_fail_at_once() -> None:
    script = Script(prompt=None, keep_history=False, text_idle_ms=30_000)
    script.start()
    script.on(on.TimerFired(), after_ms=30_000)
    assert script.report.outcome == "failed"


def test_a_first_frame_that_waited_for_its_stream_is_there_when_the_turn_says() -> None:
    script = Script()
    script.to_llm()
    script.on(on.TextArrived("Yes. No."), after_ms=50)
    script.say(0, "Yes.", 0)
    script.on(on.AudioMissing(0), after_ms=1)
    script.speak(0, 400)
    script.on(on.FirstFrameSent(), after_ms=259)
    script.on(on.TextEnded())
    script.on(on.ChunksEnded())
    script.on(on.ChunkSpoken(0))
    script.on(on.HistorySaved())
    report = script.report
    (chunk,) = report.chunks
    assert chunk.path is not None
    assert chunk.first_frame_us == chunk.path.length_us == report.attribution.ttfa_us
    assert report.attribution.stages["gateway"] >= 259_000


def test_a_chunk_is_known_by_its_place_whatever_the_chunker_calls_it() -> None:
    script = Script(keep_history=False)
    script.start()
    script.on(on.ReplyMissing())
    script.on(on.TextArrived("All of it."))
    script.on(on.TextEnded(Usage(40, 4), complete=True))
    script.say(7, "All of it.", 0)
    script.on(on.ChunksEnded())
    script.on(on.AudioMissing(0))
    script.speak(0, 20)
    script.on(on.FirstFrameSent())
    script.on(on.ChunkSpoken(0))
    assert [action.index for action in script.of(do.Synthesize)] == [0]
    assert script.report.outcome == "completed"
    assert script.report.audio_us == 20_000
