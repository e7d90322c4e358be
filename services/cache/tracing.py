"""The spans of one stream: its own, and one for each round trip to Redis that it waits for."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import Span, SpanKind

from services.cache.exchange import Tally
from services.cache.keys import StoredKey
from voicemesh.runtime.telemetry import Telemetry, end_span


class TracedRoundTrips:
    """Makes a CLIENT span below `parent` for each round trip. Nothing of a key or a prompt is in it."""

    def __init__(self, telemetry: Telemetry, parent: Span) -> None:
        self._telemetry = telemetry
        self._parent = parent

    @contextmanager
    def redis(self, operation: str, key: StoredKey) -> Iterator[None]:
        """Run one round trip in a span."""
        attributes = {
            "db.system.name": "redis",
            "db.operation.name": operation,
            "voicemesh.cache.kind": key.kind,
        }
        with self._client(operation, attributes):
            yield

    @contextmanager
    def embeddings(self, model: str) -> Iterator[None]:
        """Run one question for an embedding in a span."""
        attributes = {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": model}
        with self._client(f"embeddings {model}", attributes):
            yield

    @contextmanager
    def _client(self, name: str, attributes: dict[str, str]) -> Iterator[None]:
        span = self._telemetry.child_span(name, self._parent, kind=SpanKind.CLIENT, attributes=attributes)
        try:
            yield
        except BaseException as error:
            end_span(span, error)
            raise
        end_span(span)


def note_tally(span: Span, tally: Tally) -> None:
    """Write the counts of a stream to its span."""
    span.set_attributes(
        {
            "voicemesh.cache.memory_hits": tally.memory_hits,
            "voicemesh.cache.redis_hits": tally.redis_hits,
            "voicemesh.cache.similar_hits": tally.similar_hits,
            "voicemesh.cache.misses": tally.misses,
            "voicemesh.cache.leases_granted": tally.granted,
            "voicemesh.cache.leases_followed": tally.following,
            "voicemesh.cache.errors": tally.errors,
        }
    )
