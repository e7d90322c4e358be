"""Text that no chunk has passed yet: where each piece ends, when it came, when the chunker was given it."""

from collections import deque


class Deltas:
    """The pieces of a turn's text, in order."""

    def __init__(self) -> None:
        # Code points of text up to and with it, arrival, time fed.
        self._waiting: deque[tuple[int, int, int]] = deque()

    def add(self, length: int, arrived_ns: int, fed_ns: int) -> None:
        """Take the next piece, with which the text is `length` code points long."""
        self._waiting.append((length, arrived_ns, fed_ns))

    def needed_by(self, end: int) -> tuple[int, int]:
        """Return when the last piece came that a chunk up to `end` needed, and when it was fed; 0: none."""
        needed_ns = fed_ns = 0
        while self._waiting:
            length, needed_ns, fed_ns = self._waiting[0]
            if length >= end:
                break
            self._waiting.popleft()
        return needed_ns, fed_ns
