"""The grid of windows: the same for every request, wherever it begins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tts.engines.coqui.windows import Grid, bucket


def windows(grid: Grid, total: int):
    start, found = 0, []
    while start < total:
        found.append(grid.window(start, total))
        start += found[-1].frames
    return found


def test_windows_begin_small_and_grow():
    grid = Grid(26, 86)
    assert list(grid.sizes) == [26, 52, 86]
    assert [(one.start, one.frames, one.size) for one in windows(grid, 300)] == [
        (0, 26, 26),
        (26, 26, 26),
        (52, 52, 52),
        (104, 86, 86),
        (190, 86, 86),
        (276, 24, 26),
    ]


def test_one_shape_is_enough():
    grid = Grid(10, 10)
    assert list(grid.sizes) == [10]
    assert [one.start for one in windows(grid, 35)] == [0, 10, 20, 30]


@given(st.integers(1, 60), st.integers(0, 200), st.integers(1, 2000), st.data())
def test_a_request_that_goes_on_in_the_middle_makes_the_same_windows(first, more, total, data):
    grid = Grid(first, first + more)
    whole = windows(grid, total)
    assert sum(one.frames for one in whole) == total
    assert all(one.frames <= one.size and one.size in grid.sizes for one in whole)
    frame = data.draw(st.integers(0, total - 1))
    begin = grid.floor(frame)
    assert grid.window(begin, total) == next(
        one for one in whole if one.start <= frame < one.start + one.frames
    )


@given(st.integers(1, 50), st.integers(0, 200))
def test_nobody_falls_behind_who_is_three_times_as_fast_as_speech(first, more):
    """A window costs what it gives and four frames: with that, the audio in hand lasts until the next one."""
    played_from = None
    made = spent = 0.0
    for one in windows(Grid(first + 8, first + 8 + more), 3000):
        spent += (one.size + 4) / 3
        played_from = spent if played_from is None else played_from
        assert spent - played_from <= made or not made
        made += one.frames


@pytest.mark.parametrize(("size", "expected"), [(1, 32), (32, 32), (33, 64), (64, 64), (65, 128), (129, 192)])
def test_buckets(size, expected):
    assert bucket(size, (32, 64)) == expected
