"""What the caller sees of a turn, on a clock that moves when told to."""

from dataclasses import replace

import pytest

from voicemesh.client.events import AudioFormat, Frame, SpeakLocally, TextDelta, TurnStarted
from voicemesh.client.observer import Observer, Player

FORMAT = AudioFormat("pcm_s16le", 1000, 1)


class Hands:
    """A clock, in milliseconds."""

    def __init__(self) -> None:
        self.now_ms = 0.0

    def __call__(self) -> int:
        return round(self.now_ms * 1e6)


@pytest.fixture
def clock() -> Hands:
    return Hands()


def frame(milliseconds: int, chunk: int = 0, size: int | None = None) -> Frame:
    return Frame("t", chunk, 0, 0, 0, bytes(2 * milliseconds if size is None else size))


def observe(clock: Hands, *timed, fmt: AudioFormat = FORMAT) -> Observer:
    observer = Observer(clock, prompt="p")
    observer.event(TurnStarted("t", "s", "trace", fmt))
    for at_ms, event in timed:
        clock.now_ms = at_ms
        observer.event(event)
    return observer


def test_first_times_count_from_the_beginning(clock):
    observer = observe(clock)
    clock.now_ms = 100
    observer.begin()
    for at_ms, event in (
        (101, TextDelta("t", "a")),
        (102, TextDelta("t", "b")),
        (103, frame(10)),
        (104, frame(10, 1)),
    ):
        clock.now_ms = at_ms
        observer.event(event)
    seen = observer.seen()
    assert (seen.ttft_us, seen.ttfa_us, seen.total_us) == (1_000, 3_000, 4_000)
    assert seen.first_frame_us == {0: 3_000, 1: 4_000}
    assert (seen.prompt, seen.text, seen.audio_us) == ("p", "ab", 20_000)


def test_the_beginning_may_lie_in_the_past(clock):
    clock.now_ms = 50
    observer = Observer(clock)
    observer.begin(at_ns=20_000_000)
    assert observer.seen().total_us == 30_000


def test_what_did_not_come_has_no_time(clock):
    seen = observe(clock).seen()
    assert seen.ttft_us is None
    assert seen.ttfa_us is None
    assert seen.audio_us == 0


def test_a_player_that_runs_dry(clock):
    seen = observe(
        clock, (0, frame(10)), (5, frame(10)), (25, frame(10)), (35, frame(10)), (46, frame(10))
    ).seen()
    assert (seen.underruns, seen.underrun_us) == (2, 6_000)


def test_frames_that_come_in_time_leave_no_gap(clock):
    seen = observe(clock, (0, frame(10)), (10, frame(10)), (20, frame(10))).seen()
    assert (seen.underruns, seen.underrun_us) == (0, 0)


def test_what_the_caller_speaks_itself_is_no_gap(clock):
    local = SpeakLocally("t", 1, "by yourself", "en")
    seen = observe(clock, (0, frame(10)), (11, local), (500, frame(10, 2))).seen()
    assert seen.underruns == 0


def test_how_much_was_played(clock):
    observer = observe(clock, (0, frame(10)), (1, frame(10)))
    clock.now_ms = 5
    assert observer.played_ms() == 5
    clock.now_ms = 500
    assert observer.played_ms() == 20


def test_nothing_was_played_of_nothing(clock):
    assert observe(clock).played_ms() == 0
    assert Player().played_us(0, 100) == 0


def test_the_length_of_packed_audio_is_not_guessed(clock):
    opus = AudioFormat("opus", 24_000, 1)
    seen = observe(clock, (0, frame(10)), (500, frame(10)), fmt=opus).seen()
    assert seen.audio_us is None
    assert seen.underruns == 0


def test_packed_audio_is_as_long_as_its_samples(clock):
    opus = AudioFormat("opus", 24_000, 1, 156)
    packets = [
        (at_ms, replace(frame(10), samples=samples)) for at_ms, samples in ((0, 480), (500, 480), (501, 0))
    ]
    observed = observe(clock, *packets, fmt=opus)
    assert observed.seen().audio_us == 40_000
    assert observed.seen().underruns == 1
    assert observed.played_ms() == 21


def test_lengths_do_not_add_up_rounding(clock):
    odd = AudioFormat("pcm_s16le", 22_050, 1)
    seen = observe(clock, *((0, frame(0, size=2)) for _ in range(22_050)), fmt=odd).seen()
    assert seen.audio_us == 1_000_000


def test_the_callers_own_text_stands_where_the_mesh_sends_none(clock):
    observer = Observer(clock, text="my ")
    observer.given("words")
    assert observer.seen().text == "my words"
