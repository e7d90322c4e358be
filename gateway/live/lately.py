"""What was worked out a moment ago, for everybody who asks meanwhile."""

from collections.abc import Callable
from typing import Generic, TypeVar

from voicemesh.runtime.clock import Clock

T = TypeVar("T")


class Lately(Generic[T]):
    """Keeps a value for each key as long as it is fresh: many readers cost what one does.

    Args:
        clock: Ages them.
        fresh_s: For how long a value is given again.

    """

    def __init__(self, clock: Clock, fresh_s: float) -> None:
        self._clock = clock
        self._fresh_ns = round(fresh_s * 1e9)
        self._kept: dict[str, tuple[int, T]] = {}

    def get(self, key: str, make: Callable[[], T]) -> T:
        """Return what is kept, or make it anew. Keys are few: none is ever dropped."""
        now_ns = self._clock.now_ns()
        kept = self._kept.get(key)
        if kept is None or now_ns - kept[0] >= self._fresh_ns:
            kept = self._kept[key] = now_ns, make()
        return kept[1]
