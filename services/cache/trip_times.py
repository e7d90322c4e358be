"""How long each round trip to Redis takes, by its command."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from voicemesh.runtime.clock import Clock


class OnTrip(Protocol):
    """Hears of round trips."""

    def __call__(self, operation: str, took_s: float, *, failed: bool) -> None:
        """Take one: its command, such as GET, how long it took, and whether no answer came of it."""
        ...


class TripTimes:
    """Tells how long round trips take, where somebody wants to know.

    Attributes:
        on_trip: Called behind each; None: nobody wants to know.

    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.on_trip: OnTrip | None = None

    @contextmanager
    def timed(self, operation: str) -> Iterator[None]:
        """Run one round trip. One that is cancelled, because nobody waits any more, is not told."""
        if self.on_trip is None:
            yield
            return
        began_ns = self._clock.now_ns()
        try:
            yield
        except Exception:
            self.on_trip(operation, (self._clock.now_ns() - began_ns) / 1e9, failed=True)
            raise
        self.on_trip(operation, (self._clock.now_ns() - began_ns) / 1e9, failed=False)
