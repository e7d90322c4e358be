"""What was written of a turn's text, and what the chunker has of it."""

from collections import deque

from gateway.core.attribution import ChunkMarks
from gateway.core.values import Chunk


class Written:
    """The text of a turn, piece by piece.

    Attributes:
        flushes: Code points of text in front of each place at which all that was held had to leave.

    """

    def __init__(self) -> None:
        self.flushes: list[int] = []
        self._pieces: list[str] = []
        self._length = 0
        # Pieces that no chunk has passed yet: code points of text up to and with it, arrival, time fed.
        self._ahead: deque[tuple[int, int, int]] = deque()

    def __bool__(self) -> bool:
        """Say whether there is any text."""
        return bool(self._pieces)

    def __len__(self) -> int:
        """Return the code points of the text."""
        return self._length

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._pieces)

    @property
    def behind_first(self) -> int:
        """Code points behind the first piece: that one shows when its writer began, not how fast it is."""
        return self._length - len(self._pieces[0]) if self._pieces else 0

    def add(self, text: str, arrived_ns: int, fed_ns: int) -> None:
        """Take in more, and when it is given to the chunker."""
        self._pieces.append(text)
        self._length += len(text)
        self._ahead.append((self._length, arrived_ns, fed_ns))

    def flush(self) -> None:
        """Note that all that is held has to leave."""
        self.flushes.append(self._length)

    def told(self) -> tuple[str, tuple[int, ...]]:
        """Return all of the text, and where it was flushed."""
        return self.text, tuple(self.flushes)

    def marks(self, chunk: Chunk, cut_ns: int) -> ChunkMarks:
        """Return when the text of the next chunk came; chunks come in order."""
        marks = ChunkMarks(cut_ns=cut_ns, held_us=chunk.held_us)
        end = chunk.text_offset + chunk.text_length
        while self._ahead:
            length, marks.needed_ns, marks.fed_ns = self._ahead[0]
            if length >= end:
                break
            self._ahead.popleft()
        return marks
