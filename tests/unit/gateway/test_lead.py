"""How far a turn is ahead of its caller: by its lead, by what was taken, and by what waits to be."""

import pytest

from gateway.core import actions as do
from gateway.core import events as on
from tests.unit.gateway.engine import Script


def test_no_lead_means_as_fast_as_it_is_made() -> None:
    script = Script(prompt=None, keep_history=False, audio_cache=False, max_lead_ms=0)
    script.start()
    script.on(on.TextArrived("x" * 400))
    for index in range(5):
        script.say(index, "x" * 70, index * 70)
    # Two take what it has been trusted with so far: nothing was taken yet.
    assert asked(script) == [0, 1]
    script.speak(0, 4_500)
    script.on(on.ChunkSpoken(0))
    assert asked(script) == [0, 1, 2, 3]
    assert not script.of(do.SetTimer)


def asked(script: Script) -> list[int]:
    """Return the chunks that were given to engines."""
    return [action.index for action in script.of(do.Synthesize)]


def test_who_has_taken_nothing_has_little_made_however_much_there_is_to_say() -> None:
    script = Script(prompt=None, keep_history=False, audio_cache=False, max_lead_ms=0)
    script.start()
    script.on(on.TextArrived("x" * 4000))
    for index in range(10):
        script.say(index, "x" * 400, index * 400)
    assert asked(script) == [0]


@pytest.mark.parametrize("lead_ms", [0, 5_000])
def test_nothing_further_is_made_while_the_caller_does_not_take_it(lead_ms: int) -> None:
    script = Script(prompt=None, keep_history=False, audio_cache=False, max_lead_ms=lead_ms)
    script.start()
    script.on(on.TextArrived("x" * 100))
    script.say(0, "x" * 10, 0)
    script.on(on.CallerBehind(behind=True))
    for index in range(1, 5):
        script.say(index, "x" * 10, index * 10)
    script.speak(0, 650)
    script.on(on.ChunkSpoken(0))
    script.clock.advance_ms(60_000)
    script.on(on.TimerFired())
    assert asked(script) == [0], "it has nothing in hand by the clock, and yet does not want more"
    script.on(on.CallerBehind(behind=False))
    assert asked(script) == [0, 1, 2, 3]


def test_no_further_chunks_are_wanted_while_many_wait_for_the_caller() -> None:
    script = Script(prompt=None, keep_history=False, audio_cache=False, max_lead_ms=1)
    script.start()
    script.on(on.CallerBehind(behind=True))
    script.on(on.TextArrived("x" * 200))
    crowded = []
    for index in range(16):
        script.say(index, "x" * 10, index * 10)
        crowded.append(script.engine.speech.crowded)
    script.speak(0, 650)
    script.on(on.ChunkSpoken(0))
    crowded.append(script.engine.speech.crowded)
    assert crowded == [False] * 15 + [True, False]


def test_chunks_that_wait_for_their_time_crowd_nobody() -> None:
    script = Script(prompt=None, keep_history=False, audio_cache=False, max_lead_ms=1)
    script.start()
    script.on(on.TextArrived("x" * 400))
    for index in range(40):
        script.say(index, "x" * 10, index * 10)
    assert not script.engine.speech.crowded


def test_the_first_chunk_is_made_though_the_caller_has_not_read_what_was_before() -> None:
    script = Script(prompt=None, keep_history=False, audio_cache=False)
    script.start()
    script.on(on.CallerBehind(behind=True))
    script.on(on.TextArrived("x" * 400))
    for index in range(4):
        script.say(index, "x" * 10, index * 10)
    assert asked(script) == [0]
