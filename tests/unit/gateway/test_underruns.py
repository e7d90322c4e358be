"""Slack of later chunks, and the stage to blame for an underrun, in virtual time."""

import pytest

from gateway.core import events as on
from gateway.core.invariant import violations
from gateway.core.report import ChunkAccount
from gateway.core.underruns import MAX_UNDERRUNS, note
from gateway.core.values import Chunk
from tests.unit.gateway.engine import Script, pcm, samples
from voicemesh.stages import Stage


def begun(**changes: object) -> Script:
    """Return a turn of which the first chunk, 500 ms long, was sent; nothing of it was played yet."""
    script = Script(keep_history=False, **changes)
    script.start()
    script.on(on.ReplyMissing(100))
    script.on(on.TextArrived("One. ", 1000, 2000), after_ms=10)
    script.say(0, "One. ", 0)
    script.on(on.AudioMissing(0), after_ms=1)
    script.on(on.FrameMade(0, 0, pcm(500), 500, 2000, first=True), after_ms=5)
    script.on(on.FirstFrameSent())
    script.on(on.ChunkSpoken(0))
    return script


def ended(script: Script, index: int = 1) -> ChunkAccount:
    script.on(on.TextEnded(complete=True))
    script.on(on.ChunksEnded())
    report = script.report
    assert violations(report) == ()
    return report.chunks[index]


def write(script: Script, after_ms: float = 0) -> None:
    script.on(on.TextArrived("Two. "), after_ms=after_ms)


def cut(script: Script, after_ms: float = 0, held_us: int = 0) -> None:
    script.on(on.ChunkCut(Chunk(1, "Two. ", 5, 5, "sentence", held_us)), after_ms=after_ms)


def missed(script: Script, after_ms: float = 0, cache_us: int = 0) -> None:
    script.on(on.AudioMissing(1, cache_us), after_ms=after_ms)


def made(script: Script, after_ms: float = 0, queue_us: int = 0, synthesis_us: int = 1) -> None:
    script.on(on.FrameMade(1, 0, pcm(100), queue_us, synthesis_us, first=True), after_ms=after_ms)
    script.on(on.ChunkSpoken(1))


def test_slack_is_what_is_left_to_play_when_the_chunk_begins() -> None:
    script = begun()
    write(script, 100)
    cut(script)
    missed(script)
    made(script, 50)
    chunk = ended(script)
    assert chunk.slack_us == pytest.approx(350_000, abs=50)
    assert (chunk.underruns, chunk.underrun_cause) == (0, "")
    assert script.report.chunks[0].slack_us is None


@pytest.mark.parametrize(
    "stage",
    [
        Stage.LLM_TEXT,
        Stage.CHUNK_HOLD,
        Stage.AUDIO_CACHE,
        Stage.TTS_QUEUE,
        Stage.TTS_SYNTHESIS,
        Stage.TRANSPORT,
    ],
)
def test_the_stage_that_was_slow_is_to_blame(stage: Stage) -> None:
    late_ms = {stage: 700.0}
    script = begun()
    script.clock.advance_ms(20)
    write(script, late_ms.get(Stage.LLM_TEXT, 5))
    hold_ms = late_ms.get(Stage.CHUNK_HOLD, 5)
    cut(script, hold_ms, round(hold_ms * 1000))
    cache_ms = late_ms.get(Stage.AUDIO_CACHE, 5)
    missed(script, cache_ms, round(cache_ms * 1000))
    queue_ms, synthesis_ms = late_ms.get(Stage.TTS_QUEUE, 5), late_ms.get(Stage.TTS_SYNTHESIS, 5)
    there_ms = late_ms.get(Stage.TRANSPORT, 5)
    made(script, queue_ms + synthesis_ms + there_ms, round(queue_ms * 1000), round(synthesis_ms * 1000))
    chunk = ended(script)
    assert chunk.underrun_cause == stage
    assert chunk.slack_us is not None
    assert chunk.slack_us == -chunk.underrun_us
    (underrun,) = chunk.underrun_list
    assert underrun.cause == stage
    assert sum(chunk.underrun_stages.values()) == pytest.approx(chunk.underrun_us, abs=6)
    assert chunk.path is not None
    before_ms = 26 if stage is Stage.LLM_TEXT else 0  # its path begins where the first chunk's text was there
    assert chunk.path.stages[stage] == pytest.approx(700_000 + before_ms * 1000, abs=2)
    assert script.report.underrun_stages[stage] == chunk.underrun_stages[stage]


def test_a_frame_in_the_middle_that_comes_too_late_is_the_engines() -> None:
    script = begun()
    write(script)
    cut(script)
    missed(script)
    script.on(on.FrameMade(1, 0, pcm(100), 0, 0, first=True))
    script.on(on.FrameMade(1, samples(100), pcm(100)), after_ms=900)
    script.on(on.ChunkSpoken(1))
    chunk = ended(script)
    assert chunk.slack_us == pytest.approx(500_000, abs=50)
    (underrun,) = chunk.underrun_list
    assert underrun.cause == Stage.TTS_SYNTHESIS
    assert underrun.duration_us == pytest.approx(300_000, abs=50)


def test_an_entry_of_the_cache_that_comes_too_slowly_is_the_caches() -> None:
    script = begun()
    write(script)
    cut(script)
    script.on(on.AudioFound(1, pcm(100), (), "redis", 200, more=True))
    script.on(on.AudioPart(1, pcm(100), ()), after_ms=900)
    script.on(on.AudioSealed(1))
    chunk = ended(script)
    assert chunk.underrun_cause == Stage.AUDIO_CACHE


def test_an_engine_that_goes_on_for_the_cache_is_the_engines_again() -> None:
    script = begun(voice_repeats=True)
    write(script)
    cut(script)
    script.on(on.AudioFound(1, pcm(100), (), "redis", 200, more=True))
    script.on(on.AudioLost(1))
    script.on(on.FrameMade(1, samples(100), pcm(300), 0, 0, first=True), after_ms=900)
    script.on(on.ChunkSpoken(1))
    assert ended(script).underrun_cause == Stage.TTS_SYNTHESIS


def test_waiting_because_enough_was_in_hand_is_nobodys_fault() -> None:
    script = begun(max_lead_ms=300)
    write(script)
    cut(script)
    script.on(on.TimerFired(), after_ms=250)  # 250 of 500 ms are left: below the lead
    missed(script, 1, 1000)
    made(script, 400, 0, 400_000)
    chunk = ended(script)
    assert chunk.path is not None
    assert chunk.path.paced_us == pytest.approx(250_000, abs=10)
    assert chunk.underrun_cause == Stage.TTS_SYNTHESIS
    assert sum(chunk.underrun_stages.values()) == pytest.approx(chunk.underrun_us, abs=3)


def test_audio_that_waits_for_the_end_of_the_chunk_before_it_blames_that() -> None:
    script = Script(keep_history=False)
    script.start()
    script.on(on.ReplyMissing(100))
    script.on(on.TextArrived("One. Two. ", 1000, 2000), after_ms=10)
    script.say(0, "One. ", 0)
    script.on(on.AudioMissing(0))
    script.on(on.FrameMade(0, 0, pcm(100), 0, 0, first=True))
    script.on(on.FirstFrameSent())
    cut(script)
    script.on(on.AudioFound(1, pcm(100), (), "memory", 0))
    script.on(on.ChunkSpoken(0), after_ms=400)  # its engine found its end only now
    chunk = ended(script)
    assert chunk.underrun_us == pytest.approx(300_000, abs=50)
    assert chunk.underrun_cause == Stage.TTS_SYNTHESIS
    assert chunk.path is not None
    assert chunk.path.paced_us == pytest.approx(400_000, abs=10)


def test_while_the_caller_speaks_by_itself_its_player_is_not_dry() -> None:
    script = begun()
    script.on(on.TextArrived("Two. Three. "))
    cut(script)
    missed(script)
    script.on(on.ChunkUnspeakable(1, "no engine"))
    script.on(on.ChunkCut(Chunk(2, "Three. ", 10, 7, "sentence", 0)))
    script.on(on.AudioMissing(2))
    script.on(on.FrameMade(2, 0, pcm(100), 0, 1, first=True), after_ms=2000)
    script.on(on.ChunkSpoken(2))
    chunk = ended(script, 2)
    assert script.report.underruns == chunk.underruns == 0


def test_the_silence_before_the_caller_speaks_by_itself_is_the_engines() -> None:
    script = begun()
    write(script)
    cut(script)
    missed(script)
    script.on(on.ChunkUnspeakable(1, "no engine"), after_ms=800)
    chunk = ended(script)
    assert chunk.underrun_us == pytest.approx(300_000, abs=50)
    assert chunk.underrun_cause == Stage.TTS_SYNTHESIS
    assert (chunk.slack_us, chunk.path) == (None, None)


def test_a_chunk_without_audio_does_not_hide_who_was_late_before_it() -> None:
    script = begun()
    script.clock.advance_ms(1500)
    write(script)
    cut(script)
    missed(script)
    script.on(on.ChunkSpoken(1))  # nothing in it can be heard
    script.on(on.TextArrived("Three. "))
    script.on(on.ChunkCut(Chunk(2, "Three. ", 10, 7, "sentence", 0)))
    script.on(on.AudioMissing(2))
    script.on(on.FrameMade(2, 0, pcm(100), 0, 20_000, first=True), after_ms=20)
    script.on(on.ChunkSpoken(2))
    chunk = ended(script, 2)
    assert chunk.underrun_us == pytest.approx(1_020_000, abs=50)
    assert chunk.underrun_cause == Stage.LLM_TEXT
    assert sum(chunk.underrun_stages.values()) == pytest.approx(chunk.underrun_us, abs=10)


def test_a_player_that_was_paused_was_not_dry() -> None:
    script = begun()
    script.on(on.PlaybackReported(0), after_ms=400)  # it has not begun yet
    write(script)
    cut(script)
    missed(script)
    made(script, 300)
    chunk = ended(script)
    assert (chunk.underruns, script.report.underruns) == (0, 0)
    assert chunk.slack_us == pytest.approx(200_000, abs=50)


def test_a_lookup_that_is_given_up_is_its_own_stages_time() -> None:
    script = begun()
    write(script)
    cut(script)
    script.on(on.AudioMissing(1, 0, "the cache did not answer within 700 ms"), after_ms=700)
    made(script)
    chunk = ended(script)
    assert chunk.underrun_cause == Stage.AUDIO_CACHE
    assert chunk.path is not None
    assert chunk.path.hops["cache"] == pytest.approx(0, abs=2)


def test_where_the_first_chunk_gives_no_audio_its_engine_has_the_time() -> None:
    script = Script(keep_history=False)
    script.start()
    script.on(on.ReplyMissing(100))
    script.on(on.TextArrived("One. Two. ", 1000, 2000), after_ms=10)
    script.say(0, "One. ", 0)
    script.on(on.AudioMissing(0))
    cut(script)
    missed(script)
    script.on(on.FrameMade(1, 0, pcm(100), 0, 20_000, first=True), after_ms=20)
    script.on(on.ChunkUnspeakable(0, "no engine"), after_ms=600)
    script.on(on.FirstFrameSent())
    script.on(on.ChunkSpoken(1))
    ended(script)
    assert script.report.attribution.stages[Stage.TTS_SYNTHESIS] == pytest.approx(620_000, abs=10)


def test_a_lookup_that_holds_up_the_next_chunk_has_its_time() -> None:
    script = begun()
    script.on(on.TextArrived("Two. Three. "))
    cut(script)
    script.on(on.ChunkCut(Chunk(2, "Three. ", 10, 7, "sentence", 0)))
    script.on(on.AudioMissing(2, 1000), after_ms=1)
    missed(script, 300, 300_000)
    made(script)
    script.on(on.FrameMade(2, 0, pcm(100), 0, 0, first=True))
    script.on(on.ChunkSpoken(2))
    chunk = ended(script, 2)
    assert chunk.path is not None
    assert chunk.path.stages[Stage.AUDIO_CACHE] == pytest.approx(301_000, abs=10)


def test_what_is_kept_of_underruns_is_bounded_and_the_sums_are_not() -> None:
    account = ChunkAccount(0, "One. ", "sentence", 0)
    for number in range(MAX_UNDERRUNS + 10):
        note(account, number, 2_000_000, {Stage.TTS_SYNTHESIS: 2_000_000})
    assert len(account.underrun_list) == MAX_UNDERRUNS
    assert account.underruns == MAX_UNDERRUNS + 10
    assert sum(underrun.duration_us for underrun in account.underrun_list) == account.underrun_us
