"""Virtual time: what happens next, in the order in which it is due."""

import heapq
from collections.abc import Callable
from typing import Final

MS: Final = 1_000_000
S: Final = 1000 * MS


class TooLargeError(ValueError):
    """A simulation has taken as many steps as it may."""


class Events:
    """What is to happen, and when. Times are in nanoseconds from the start of the simulation.

    Args:
        most: So many things may happen; None: any number. It counts and knows no clock, so that what is too
            large is so on every machine.

    """

    def __init__(self, most: int | None = None) -> None:
        self.now_ns = 0
        self.most = most
        self.happened = 0
        self._ended = False
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when_ns: int, do: Callable[[], None]) -> None:
        """Have `do` called then, behind what is due in the same instant already; never in the past."""
        self._count += 1
        heapq.heappush(self._heap, (max(when_ns, self.now_ns), self._count, do))

    def after(self, wait_ns: float, do: Callable[[], None]) -> None:
        """Have `do` called in so many nanoseconds."""
        self.at(self.now_ns + round(wait_ns), do)

    def end(self) -> None:
        """Have nothing happen any more."""
        self._ended = True

    def run(self) -> None:
        """Go on until nothing is left to happen. Raises TooLargeError."""
        heap, most = self._heap, self.most
        while heap and not self._ended:
            if most is not None and self.happened >= most:
                raise TooLargeError
            self.happened += 1
            self.now_ns, _, do = heapq.heappop(heap)
            do()


class Integral:
    """A count over time, and its mean: what Little's law is about."""

    def __init__(self, events: Events) -> None:
        self.count = 0
        self._events = events
        self._sum = 0.0
        self._at_ns = 0

    def add(self, more: int) -> None:
        """Count so many more from now on."""
        self._settle()
        self.count += more

    def total_ns(self) -> float:
        """Return the integral of the count from the start until now."""
        self._settle()
        return self._sum

    def _settle(self) -> None:
        self._sum += self.count * (self._events.now_ns - self._at_ns)
        self._at_ns = self._events.now_ns
