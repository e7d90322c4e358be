"""Which frames are decoded together: a grid that depends on nothing but the frame's number.

    frames     0      26      52          104                190                276
               |--26--|--26--|-----52-----|--------86--------|--------86--------|--…
    windows    first    window    window        window             window

The first window is short, so that sound comes soon; then windows grow, because each costs a few frames more
than it gives (its context). They grow no faster than the audio in hand: whoever decodes in a third of real
time never falls behind. Every request has the same grid: windows of different requests have few shapes and
share a batch, and a request that goes on in the middle makes the same windows as before.

Workers import this module: standard library only.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

FIRST_FRAMES: Final = 26
WINDOW_FRAMES: Final = 86


class Window(NamedTuple):
    """Frames that are decoded together."""

    start: int
    """The first frame."""
    frames: int
    """How many it gives."""
    size: int
    """How many there is room for: its shape."""


class Grid:
    """See the module.

    Args:
        first: Frames of the first window.
        largest: Frames of a window once they have grown; `first` at least.

    """

    def __init__(self, first: int = FIRST_FRAMES, largest: int = WINDOW_FRAMES) -> None:
        self.first = first
        self._largest = largest
        self._growing = [(0, first)]
        size = first
        while size < largest:
            start = sum(self._growing[-1])
            self._growing.append((start, size))
            size = min(2 * size, largest)
        self._grown = sum(self._growing[-1])
        self.sizes: Sequence[int] = sorted({size for _, size in self._growing} | {largest})
        """The shapes, smallest first."""

    def window(self, start: int, total: int) -> Window:
        """Return the window that begins at frame `start` of `total`; the last one has the smallest shape."""
        size = self._largest
        if start < self._grown:
            size = next(size for begin, size in self._growing if begin == start)
        frames = min(size, total - start)
        return Window(start, frames, next(size for size in self.sizes if size >= frames))

    def floor(self, frame: int) -> int:
        """Return where the window begins that holds `frame`."""
        if frame >= self._grown:
            return frame - (frame - self._grown) % self._largest
        return max(begin for begin, _ in self._growing if begin <= frame)


def bucket(size: int, sizes: Sequence[int]) -> int:
    """Return the smallest of `sizes` that has room for `size`; beyond them, a multiple of the largest."""
    largest = sizes[-1]
    if size > largest:
        return -(-size // largest) * largest
    return next(known for known in sizes if known >= size)
