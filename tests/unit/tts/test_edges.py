import array
import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.edges import FADE_MS, HOLD_MS, LEAD_MS, TrimmedEdges, Untouched

RATE_HZ = 8000
MS = RATE_HZ // 1000
SILENCE_PEAK = 32768 // 128
"""As `gateway.core.playback` has it; a sample of just that counts as sound here."""


def pcm_of(*samples: int) -> bytes:
    return array.array("h", samples).tobytes()


def samples_of(pcm: bytes) -> list[int]:
    return list(array.array("h", pcm))


def tone(ms: int, amplitude: int = 8000) -> bytes:
    return pcm_of(*(round(amplitude * math.sin(0.9 * i + 1.2)) or 999 for i in range(ms * MS)))


def hiss(ms: int) -> bytes:
    """Silence as a model makes it: not zero."""
    draw = random.Random(ms)  # the same every time
    return pcm_of(*(draw.randint(-200, 200) for _ in range(ms * MS)))


def shape(pcm: bytes, pause_ms: float = 300, cuts: list[int] | None = None) -> bytes:
    edges = TrimmedEdges(RATE_HZ, pause_ms)
    out, start = b"", 0
    for cut in [*sorted(cuts or []), len(pcm) // 2]:
        out += edges.push(pcm[2 * start : 2 * cut])
        start = cut
    return out + edges.finish()


def quiet_edges(pcm: bytes) -> tuple[int, int]:
    """Return the silent samples in front and behind."""
    loud = [i for i, sample in enumerate(samples_of(pcm)) if abs(sample) > SILENCE_PEAK]
    return loud[0], len(pcm) // 2 - 1 - loud[-1]


@pytest.mark.parametrize("front_ms", [0, 3, 5, 40, 700])
@pytest.mark.parametrize("behind_ms", [0, 2, 30, 296, 400, 1500])
@pytest.mark.parametrize("pause_ms", [0, 25, 300])
def test_a_chunk_has_little_in_front_and_the_pause_behind(front_ms, behind_ms, pause_ms):
    sound = tone(100)
    out = shape(hiss(front_ms) + sound + hiss(behind_ms), pause_ms)
    front, behind = quiet_edges(out)
    # With sound at the very edge, the fade takes some of it.
    assert front <= min(front_ms, LEAD_MS) * MS + FADE_MS * MS
    wanted = max((pause_ms - LEAD_MS) * MS, FADE_MS * MS)
    # An engine that ends within a sound: its last sample fades where the pause begins.
    slack = 4 if behind_ms else FADE_MS * MS
    assert wanted - slack <= behind <= wanted + 4
    if front_ms >= LEAD_MS:
        assert sound in out


def test_joins_have_the_pause_from_sound_to_sound():
    first, second = (shape(hiss(80) + tone(100) + hiss(600), pause_ms=300) for _ in range(2))
    assert abs(quiet_edges(first)[1] + quiet_edges(second)[0] - 300 * MS) <= 4


def test_silence_inside_stays_to_the_sample():
    inside = tone(50) + hiss(700) + tone(50) + hiss(1) + tone(50)
    for pause_ms in (0, 25, 500):
        assert inside in shape(hiss(20) + inside + hiss(300), pause_ms)


@given(
    pieces=st.lists(st.tuples(st.booleans(), st.integers(1, 60)), min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 3840), max_size=12),
    pause_ms=st.sampled_from([0, 7.5, 25, 150]),
)
def test_the_slicing_of_an_engine_changes_nothing(pieces, cuts, pause_ms):
    pcm = b"".join(tone(ms) if loud else hiss(ms) for loud, ms in pieces)
    cuts = [min(cut, len(pcm) // 2) for cut in cuts]
    assert shape(pcm, pause_ms, cuts) == shape(pcm, pause_ms)


def test_very_long_silence_is_the_same_in_any_slicing_too():
    pcm = tone(20) + hiss(HOLD_MS + 300) + tone(20) + hiss(HOLD_MS + 700)
    whole = shape(pcm, 25)
    assert whole == shape(pcm, 25, [n * 100 * MS for n in range(1, 40)])
    # Of the end, what was longer than could be held is left; of the middle, everything.
    assert len(whole) == len(tone(40)) + 2 * (HOLD_MS + 300 + 700 + FADE_MS) * MS


def test_nothing_audible_waits_and_neither_does_silence_that_will_be_heard():
    edges = TrimmedEdges(RATE_HZ, 300)
    assert edges.push(hiss(50)) == b""
    first = edges.push(tone(20))
    assert edges.trimmed_samples == (50 - LEAD_MS) * MS
    assert len(first) == 2 * (LEAD_MS + 20) * MS
    assert edges.push(tone(20)) == tone(20)
    # Up to the pause it leaves; what is longer is held until sound follows.
    assert len(edges.push(hiss(200))) == 2 * 200 * MS
    assert len(edges.push(hiss(200))) == 2 * (300 - LEAD_MS - FADE_MS - 200) * MS
    held = edges.push(hiss(100))
    assert held == b""
    after = edges.push(tone(10))
    assert after.endswith(tone(10))
    assert len(after) == 2 * (500 - (300 - LEAD_MS - FADE_MS) + 10) * MS


def test_what_is_held_is_bounded():
    edges = TrimmedEdges(RATE_HZ, 25)
    edges.push(tone(20))
    given_out = sum(len(edges.push(hiss(100))) for _ in range(100)) // 2
    kept_ms = 25 - LEAD_MS - FADE_MS
    assert given_out == (100 * 100 - HOLD_MS) * MS
    assert given_out > kept_ms * MS


@pytest.mark.parametrize("pcm", [b"", bytes(2 * 50), hiss(500), pcm_of(SILENCE_PEAK - 1, -SILENCE_PEAK)])
def test_audio_without_sound_is_none(pcm):
    edges = TrimmedEdges(RATE_HZ, 300)
    assert edges.push(pcm) + edges.push(pcm) + edges.finish() == b""
    assert not edges.begun


def test_no_edge_steps_even_where_the_engine_cuts_a_sound():
    square = pcm_of(*([20000] * 37 + [-20000] * 37) * 20)
    out = samples_of(shape(square, 25))
    assert abs(out[0]) < 100
    assert abs(out[-1]) < 100
    edge = FADE_MS * MS
    inner = out[: edge - 1], out[-(25 - LEAD_MS) * MS - 1 :]
    for part in inner:
        assert max(abs(b - a) for a, b in itertools.pairwise(part)) < 20000 * 2 / edge * math.pi / 2


def test_edges_of_an_engine_that_makes_its_own_stay():
    edges = Untouched()
    pcm = hiss(20) + tone(3) + hiss(20)
    assert edges.push(pcm) + edges.finish() == pcm
