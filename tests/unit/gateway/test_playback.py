import struct

import pytest

from gateway.core.playback import LeadingSilence, Player

MS = 1_000_000
RATE = 1000  # one sample a millisecond


def test_a_player_that_is_fed_in_time_never_runs_dry() -> None:
    player = Player(RATE)
    for at_ms in range(0, 1000, 100):
        player.add(100, at_ms * MS + 1)
    assert player.underruns == 0
    assert player.audio_ms == 1000
    assert player.played_ms(500 * MS + 1) == 500
    assert player.in_hand_ms(500 * MS + 1) == 500


def test_a_late_frame_is_an_underrun_and_the_clock_goes_on_behind_it() -> None:
    player = Player(RATE)
    player.add(100, 1)
    player.add(100, 150 * MS + 1)
    assert (player.underruns, player.underrun_ns) == (1, 50 * MS)
    player.add(100, 250 * MS)  # in time again: 200 ms of audio and 50 ms of waiting
    assert player.underruns == 1
    assert player.played_ms(10_000 * MS) == 300


def test_the_real_player_is_believed_and_never_beyond_what_was_sent() -> None:
    player = Player(RATE)
    player.add(1000, 1)
    player.report(100, 600 * MS)
    assert player.played_ms(700 * MS) == pytest.approx(200)
    player.report(5000, 700 * MS)
    assert player.played_ms(700 * MS) == 1000


def test_a_player_that_is_paused_is_not_dry_and_one_that_played_all_is_since_then() -> None:
    player = Player(RATE)
    player.add(100, 1)
    player.report(20, 80 * MS + 1)
    player.add(100, 150 * MS + 1)  # 90 ms of it played
    assert (player.underruns, player.underrun_ns) == (0, 0)
    assert player.in_hand_ms(150 * MS + 1) == 110
    player.report(200, 300 * MS + 1)  # it has nothing since 260
    player.add(100, 310 * MS + 1)
    assert (player.underruns, player.underrun_ns) == (1, 50 * MS)
    player.report(250, 320 * MS + 1)  # further than thought
    assert player.played_ms(330 * MS + 1) == 260


def test_what_is_told_behind_a_dry_time_is_not_taken_for_played() -> None:
    player = Player(RATE)
    player.add(100, 1)
    player.report(50, 50 * MS + 1)
    player.add(100, 400 * MS + 1)
    assert player.played_ms(410 * MS + 1) == 110


def test_before_the_first_frame_nothing_is_played() -> None:
    assert Player(RATE).played_ms(5 * MS) == 0


@pytest.mark.parametrize(("quiet", "loud"), [(256, 257), (-256, -257)])
def test_silence_ends_at_the_first_audible_sample(quiet: int, loud: int) -> None:
    silence = LeadingSilence()
    silence.add(struct.pack("<3h", 0, quiet, 0))
    silence.add(struct.pack("<3h", 0, loud, 0))
    silence.add(struct.pack("<h", 0))
    assert silence.samples == 4
    assert silence.audible
