"""What is learned of a voice, and when the chunker is told."""

import pytest

from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.pace import LEAST_BEGIN_MS, Pace, PaceMeter, Paces, WriterMeter
from gateway.core.turn import TurnEngine
from tests.unit.gateway.engine import Script


def test_nothing_is_known_at_first() -> None:
    assert PaceMeter().pace() == Pace()


def test_speed_of_speech_is_the_mean_of_what_was_spoken() -> None:
    meter = PaceMeter()
    meter.spoke(20, 1000)
    meter.spoke(80, 6000)
    assert meter.pace().ms_per_char == pytest.approx(70)


def test_of_one_chunk_half_of_the_time_is_taken_to_grow_with_the_length() -> None:
    meter = PaceMeter()
    meter.began(20, 100)
    pace = meter.pace()
    assert (pace.first_frame_ms, pace.first_frame_ms_per_char) == pytest.approx((50, 2.5))


def test_of_several_lengths_the_growth_is_seen_and_nothing_lies_above_the_line() -> None:
    meter = PaceMeter()
    for chars in (20, 60, 100):
        meter.began(chars, 60 + 3 * chars)
    pace = meter.pace()
    assert (pace.first_frame_ms, pace.first_frame_ms_per_char) == pytest.approx((60, 3))
    meter.began(60, 500)
    pace = meter.pace()
    assert pace.first_frame_ms is not None
    assert pace.first_frame_ms + 60 * pace.first_frame_ms_per_char >= 500


def test_a_voice_that_becomes_slower_is_believed() -> None:
    meter = PaceMeter()
    for _ in range(20):
        meter.began(50, 10)
        meter.spoke(50, 2500)
    for _ in range(12):
        meter.began(50, 200)
        meter.spoke(50, 5000)
    pace = meter.pace()
    assert pace.ms_per_char == 100
    assert pace.first_frame_ms is not None
    assert pace.first_frame_ms + 50 * pace.first_frame_ms_per_char == pytest.approx(200)


def test_each_voice_and_speed_has_its_meter_and_their_number_is_bounded() -> None:
    paces = Paces()
    first = paces.meter("a", 1.0)
    assert paces.meter("a", 1.0) is first
    assert paces.meter("a", 2.0) is not first
    for number in range(1000):
        paces.meter(f"voice {number}", 1.0)
    assert paces.meter("a", 1.0) is not first
    assert len(paces._meters) <= 256


def test_a_writer_is_as_fast_as_three_turns_of_four_showed() -> None:
    meter = WriterMeter()
    assert meter.chars_per_s() == 0
    meter.wrote(39, 10)  # too little to show anything
    assert meter.chars_per_s() == 0
    for chars_per_s in (300, 100, 250, 200):
        meter.wrote(chars_per_s, 1000)
    assert meter.chars_per_s() == 200
    meter.wrote(500, 0)  # all at once
    assert meter.chars_per_s() == 200
    for _ in range(12):
        meter.wrote(60, 1000)
    assert meter.chars_per_s() == 60, "a model that becomes slower is believed"


def test_each_model_has_its_meter_and_their_number_is_bounded() -> None:
    paces = Paces()
    first = paces.writer("")
    assert paces.writer("") is first
    for number in range(1000):
        paces.writer(f"model {number}")
    assert len(paces._writers) <= 256
    assert paces.writer("") is not first


def test_a_turn_learns_how_fast_the_model_writes_behind_its_first_piece() -> None:
    meter = WriterMeter()
    script = Script()
    script.engine = TurnEngine(script.engine.spec, script.clock, writer=meter)
    script.to_llm()
    script.on(on.TextArrived("It begins with this, all at once."), after_ms=300)
    for _ in range(10):
        script.on(on.TextArrived(" ten chars"), after_ms=50)
    script.on(on.TextEnded(), after_ms=1000)
    assert meter.chars_per_s() == pytest.approx(200)


def test_a_reply_from_the_cache_teaches_nothing_of_the_model() -> None:
    meter = WriterMeter()
    script = Script()
    script.engine = TurnEngine(script.engine.spec, script.clock, writer=meter)
    script.start()
    script.on(on.HistoryLoaded((), 0, 100), after_ms=1)
    script.on(
        on.ReplyFound("It was written long ago, and it is as long as any other. " * 3, "memory", 10, ())
    )
    assert meter.chars_per_s() == 0


def test_the_chunker_is_told_at_the_first_frame_and_at_the_end_of_a_chunk_and_no_oftener() -> None:
    script = Script()
    script.to_llm()
    script.on(on.TextArrived("One two. Three four five."))
    script.say(0, "One two.", 0)
    script.say(1, "Three four five.", 9)
    script.on(on.AudioMissing(0, 100))
    script.on(on.AudioMissing(1, 100))
    script.clock.advance_ms(40)
    script.speak(0, 20)
    (told,) = script.of(do.TellSlack)
    # One frame in hand, and what the rest may be: 24 characters of 65 ms.
    assert (told.left_to_play_ms, told.chunks_counted) == (24 * 65, 2)
    assert told.pace.first_frame_ms is not None
    assert told.pace.first_frame_ms + 8 * told.pace.first_frame_ms_per_char == pytest.approx(40)
    for number in range(1, 20):
        script.speak(0, 20, first=False, offset_ms=20 * number)
    assert len(script.of(do.TellSlack)) == 1
    script.on(on.ChunkSpoken(0, False))
    told = script.of(do.TellSlack)[1]
    assert told.pace.ms_per_char == pytest.approx(50)
    assert told.left_to_play_ms == 400 + 16 * 50


def test_the_chunker_is_told_of_a_player_that_is_elsewhere_than_thought() -> None:
    script = Script()
    script.to_llm()
    script.on(on.TextArrived("One two. Three four five."))
    script.say(0, "One two.", 0)
    script.on(on.AudioMissing(0, 100))
    script.speak(0, 500)
    script.on(on.ChunkSpoken(0, False))
    before = len(script.of(do.TellSlack))
    script.on(on.PlaybackReported(150), after_ms=200)
    assert len(script.of(do.TellSlack)) == before
    script.on(on.PlaybackReported(50), after_ms=50)
    assert script.of(do.TellSlack)[before].left_to_play_ms == 450


def test_nothing_is_told_once_the_text_has_ended() -> None:
    script = Script()
    script.to_llm()
    script.on(on.TextArrived("One two."))
    script.on(on.TextEnded())
    script.say(0, "One two.", 0)
    script.on(on.AudioMissing(0, 100))
    script.speak(0, 500)
    script.on(on.ChunkSpoken(0, False))
    assert not script.of(do.TellSlack)


def test_an_engine_is_late_after_twice_what_it_took_and_half_a_second() -> None:
    meter = PaceMeter()
    assert meter.pace().begin_ms(50) == LEAST_BEGIN_MS
    meter.began(50, 20)
    assert meter.pace().begin_ms(50) == LEAST_BEGIN_MS
    meter.began(50, 900)
    assert meter.pace().begin_ms(50) == 1800
