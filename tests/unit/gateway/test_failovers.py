"""A process that goes away takes streams along: the turn opens others, and goes on where they were."""

import random

import pytest

from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.invariant import violations
from gateway.core.values import Chunk, Word
from tests.unit.gateway.engine import Script, pcm, samples
from tests.unit.gateway.world import World, pcm_of, words_of
from voicemesh.runtime.errors import DrainingError, MeshError, ServiceUnavailableError
from voicemesh.runtime.status import RemoteError, to_status

GONE = ServiceUnavailableError("the process is gone")


def to_text(*, voice_repeats: bool = True, **changes: object) -> Script:
    script = Script(keep_history=False, audio_cache=False, voice_repeats=voice_repeats, **changes)
    script.start()
    script.on(on.ReplyMissing(1), after_ms=1)
    script.on(on.TextArrived("One two three. Four", 1, 1), after_ms=50)
    script.say(0, "One two three.", 0)
    return script


def test_the_llm_is_asked_again_behind_what_it_said() -> None:
    script = to_text()
    script.on(on.TextLost(GONE), after_ms=7)
    _, again = script.of(do.StartLlm)
    assert again.said == "One two three. Four"
    script.on(on.TextResumed("it goes on"))
    script.on(on.TextArrived(" five."))
    script.on(on.TextEnded(complete=True))
    assert [action.text for action in script.of(do.FeedChunker)] == ["One two three. Four", " five."]
    script.say(1, "Four five.", 15)
    script.on(on.ChunksEnded())
    for index in range(2):
        script.speak(index, 200)
        script.on(on.ChunkSpoken(index))
    script.on(on.FirstFrameSent())
    report = script.report
    assert (report.outcome, report.text) == ("completed", "One two three. Four five.")
    ((service, at_us, why),) = [(each.service, each.at_us, each.why) for each in report.failovers]
    assert (service, at_us, why) == ("llm", 58_000, "the process is gone")
    assert not script.of(do.StoreReply), "a reply that went on is no reply like others"


def test_the_llm_is_not_asked_for_ever_and_not_for_a_turn_that_is_over() -> None:
    script = to_text()
    for _ in range(3):
        script.on(on.TextLost(GONE))
    assert len(script.of(do.StartLlm)) == 3
    script.on(on.ChunksEnded())
    script.speak(0, 200)
    script.on(on.ChunkSpoken(0))
    script.on(on.FirstFrameSent())
    assert (script.report.outcome, script.report.error) == ("failed", GONE)
    interrupted = to_text()
    interrupted.on(on.Interrupted())
    assert interrupted.on(on.TextLost(GONE)) == []
    assert interrupted.on(on.ChunkerLost(GONE)) == []


def test_another_chunker_is_told_all_of_the_text_and_what_was_cut_of_it() -> None:
    script = Script(keep_history=False, audio_cache=False, prompt=None)
    script.start()
    for text in ("One two", " three. Four"):
        script.on(on.TextArrived(text))
    script.on(on.TextFlushed())
    script.say(0, "One two three.", 0)
    script.on(on.TextArrived(" five."))
    script.on(on.TextEnded())
    actions = script.on(on.ChunkerLost(GONE))
    chunk = Chunk(0, "One two three.", 0, 14, "sentence", 0)
    assert actions[:2] == [do.RestartChunker("One two three. Four five.", (19,), (chunk,)), do.EndChunker()]


def test_another_chunker_that_cuts_in_another_way_is_told_to_cut_anew() -> None:
    script = to_text()
    script.on(on.ChunkerLost(GONE, anew=True))
    assert [restart.anew for restart in script.of(do.RestartChunker)] == [True]


@pytest.mark.parametrize("remote", [False, True])
def test_what_was_given_up_is_marked_so_that_no_caller_asks_again(*, remote: bool) -> None:
    gone: MeshError = DrainingError("it goes", retry_after_ms=0)
    gone = RemoteError(to_status(gone)) if remote else gone
    script = to_text()
    script.engine.failovers._again = lambda *_: False
    script.on(on.TextLost(gone))
    script.on(on.ChunksEnded())
    script.speak(0, 200)
    script.on(on.ChunkSpoken(0))
    script.on(on.FirstFrameSent())
    assert script.report.error is not None
    told = RemoteError(to_status(script.report.error))
    assert (told.reason, told.retried_by, told.retry_after_ms) == ("DRAINING", "gateway", 0)


def test_a_voice_that_repeats_itself_goes_on_with_the_next_sample() -> None:
    script = to_text()
    script.speak(0, 100)
    script.on(on.FirstFrameSent())
    script.on(on.SpeechFailed(None, (0,), GONE), after_ms=30)
    again = script.of(do.Synthesize)[-1]
    assert (again.index, again.text, again.start_offset_samples) == (0, "One two three.", samples(100))
    (frame,) = [a for a in script.speak(0, 100, offset_ms=100) if isinstance(a, do.EmitFrame)]
    assert (frame.offset_samples, frame.sequence) == (samples(100), 1)
    script.on(on.ChunkSpoken(0))
    script.on(on.TextEnded())
    script.on(on.ChunksEnded())
    assert script.report.outcome == "completed"
    assert script.report.degraded == ()


def test_one_that_does_not_goes_on_at_the_next_word() -> None:
    script = to_text(voice_repeats=False)
    script.on(on.WordsTimed(0, (Word("One", 0, 3, 0), Word("two", 4, 3, samples(90)))))
    script.speak(0, 100)
    script.on(on.SpeechFailed(None, (0,), GONE))
    again = script.of(do.Synthesize)[-1]
    assert again.start_offset_samples == 0
    assert "One two three.".endswith(again.text)
    assert again.text.startswith("t")


def test_what_was_spoken_by_another_voice_goes_on_at_a_word_whatever_the_voice() -> None:
    script = to_text()
    script.on(on.WordsTimed(0, (Word("One", 0, 3, 0),)))
    script.on(on.FrameMade(0, 0, pcm(100), 1, 1, first=True, fallback="another"))
    script.on(on.SpeechFailed(None, (0,), GONE))
    assert script.of(do.Synthesize)[-1].start_offset_samples == 0


def test_a_stream_that_is_lost_before_its_first_frame_is_transport_and_nobodys_guess() -> None:
    script = to_text()
    script.on(on.SpeechFailed(None, (0,), GONE), after_ms=600)
    script.on(on.FrameMade(0, 0, pcm(100), queue_us=500, synthesis_us=2000, first=True), after_ms=5)
    script.on(on.FirstFrameSent())
    script.on(on.ChunkSpoken(0))
    script.on(on.TextEnded())
    script.on(on.ChunksEnded())
    report = script.report
    assert violations(report) == ()
    assert report.attribution.hops["tts"] >= 600_000
    assert (report.attribution.stages["tts_queue"], report.attribution.stages["tts_synthesis"]) == (500, 2000)


def test_a_long_turn_outlives_many_processes_and_no_chunk_takes_a_third_along() -> None:
    script = to_text()
    for index in range(4):
        if index:
            script.say(index, " Four.", 13 + 6 * index)
        script.speak(index, 100)
        script.on(on.SpeechFailed(None, (index,), GONE))
        script.speak(index, 100, offset_ms=100)
        script.on(on.ChunkSpoken(index))
    assert len(script.of(do.Synthesize)) == 8
    assert not script.of(do.EmitSpeakLocally)
    script.say(4, " Four.", 40)
    for _ in range(3):
        script.on(on.SpeechFailed(None, (4,), GONE))
    assert len(script.of(do.Synthesize)) == 8 + 3
    assert len(script.of(do.EmitSpeakLocally)) == 1


def test_without_budget_it_is_as_if_the_service_had_failed() -> None:
    script = to_text()
    script.engine.failovers._again = lambda *_: False
    script.on(on.SpeechFailed(None, (0,), GONE))
    assert script.of(do.EmitSpeakLocally)
    script.on(on.ChunkerLost(GONE))
    assert script.of(do.CancelLlm)


@pytest.mark.parametrize("seed", range(150))
def test_whenever_streams_are_lost_the_same_is_heard(seed: int) -> None:
    world = World(seed, Script(keep_history=False, voice_repeats=True), spoils=False, shares=seed % 2 == 0)
    draw = random.Random(seed)
    world.script.engine.failovers._again = lambda *_: True
    world.start()
    while True:
        if draw.random() < 0.2 and not world.script.engine.ended:
            lose(world, draw)
        if not world.step():
            break
    report = world.script.report
    assert report.outcome == "completed"
    assert violations(report) == ()
    for sent in world.sent:
        assert world.heard_audio[sent.chunk.index] == pcm_of(sent.chunk.index, len(words_of(sent.chunk)))
    told = [word for action in world.script.of(do.EmitWords) for word in action.words]
    assert len(told) == len(set(told)), "no word is told twice"


def lose(world: World, draw: random.Random) -> None:
    """Take away what the TTS service was asked for and has not ended: of all streams, or of one."""
    for name in [name for name in world.queues if name.startswith("tts")]:
        lost = {event.index for event in world.queues[name] if isinstance(event, on.EngineEvent)}
        if lost and draw.random() < 0.7:
            world.queues[name].clear()
            world.script.on(on.SpeechFailed(None, tuple(sorted(lost)), GONE))
            world.answer()
