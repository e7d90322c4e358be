"""What the chunker measures: each chunk, when it goes out."""

from opentelemetry.trace import Span

from services.chunker import instruments
from services.chunker.policy import Chunk
from voicemesh.runtime.metrics import Metrics


class ChunkerMetrics:
    """Counts the chunks of a process."""

    def __init__(self, metrics: Metrics) -> None:
        self._chunks = metrics.counter(instruments.CHUNKS)
        self._hold = metrics.histogram(instruments.HOLD)
        self._size = metrics.histogram(instruments.SIZE)

    def cut(self, chunk: Chunk, span: Span) -> None:
        """Take a chunk that goes out; `span` is that of its call."""
        labels = {"reason": chunk.reason.value}
        self._chunks.add(1, labels, span)
        self._hold.record(chunk.held_ns / 1e9, labels, span)
        self._size.record(len(chunk.text), labels, span)
