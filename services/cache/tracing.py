"""The spans of one stream: its own, and one for each round trip to Redis that it waits for."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import Span, SpanKind

from services.cache.exchange import Tally
from services.cache.keys import StoredKey
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.telemetry import Telemetry, end_span, inject


class TracedRoundTrips:
    """Makes a CLIENT span below `parent` for each round trip. Nothing of a key or a prompt is in it."""

    def __init__(self, telemetry: Telemetry, parent: Span) -> None:
        self._telemetry = telemetry
        self._parent = parent
        self.traceparent = inject(parent)["traceparent"] if parent.is_recording() else ""

    @contextmanager
    def redis(self, operation: str, key: StoredKey) -> Iterator[None]:
        """Run one round trip in a span."""
        attributes = {names.DB_SYSTEM: "redis", names.DB_OPERATION: operation, names.CACHE_KIND: key.kind}
        with self._client(operation, attributes):
            yield

    @contextmanager
    def embeddings(self, model: str) -> Iterator[None]:
        """Run one question for an embedding in a span."""
        attributes = {names.OPERATION: names.EMBEDDINGS, names.REQUEST_MODEL: model}
        with self._client(f"{names.EMBEDDINGS} {model}", attributes):
            yield

    @contextmanager
    def _client(self, name: str, attributes: dict[str, str]) -> Iterator[None]:
        span = self._telemetry.child_span(name, self._parent, kind=SpanKind.CLIENT, attributes=attributes)
        try:
            yield
        except BaseException as error:
            end_span(span, error, rpc=False)
            raise
        end_span(span, rpc=False)


def note_tally(span: Span, tally: Tally) -> None:
    """Write the counts of a stream to its span: of what there was none it says nothing."""
    if not span.is_recording():
        return
    counts = {
        names.CACHE_MEMORY_HITS: tally.memory_hits,
        names.CACHE_REDIS_HITS: tally.redis_hits,
        names.CACHE_SIMILAR_HITS: tally.similar_hits,
        names.CACHE_MISSES: tally.misses,
        names.CACHE_GRANTED: tally.granted,
        names.CACHE_FOLLOWED: tally.following,
        names.CACHE_ERRORS: tally.errors,
    }
    span.set_attributes({name: count for name, count in counts.items() if count})
