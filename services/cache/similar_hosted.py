"""What is made of the settings of similar prompts. Imported only where they are switched on."""

from collections.abc import Coroutine, Iterator
from dataclasses import dataclass

from services.cache.embeddings import EmbeddingsClient
from services.cache.memory import MemoryTier
from services.cache.settings import CacheSettings
from services.cache.similar import WORKERS, SimilarPrompts
from services.cache.similar_index import SimilarIndex
from voicemesh.runtime.breaker import Breaker, BreakerSpec
from voicemesh.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Similar:
    """Similar prompts, and the client of the server that gives their embeddings."""

    prompts: SimilarPrompts
    client: EmbeddingsClient

    def work(self) -> Iterator[Coroutine[object, object, object]]:
        """Yield what runs beside the service."""
        yield self.prompts.warm_up()
        for _ in range(WORKERS):
            yield self.prompts.work()


def similar_prompts(settings: CacheSettings, clock: Clock, memory: MemoryTier) -> Similar:
    """Make them for the replies that `memory` has."""
    key = settings.cache_similar_api_key
    client = EmbeddingsClient(
        base_url=settings.cache_similar_base_url,
        model=settings.cache_similar_model,
        api_key=key.get_secret_value() if key is not None else "",
        dimensions=settings.cache_similar_dimensions,
    )
    index = SimilarIndex(
        limit_bytes=settings.cache_similar_bytes, context_entries=settings.cache_similar_context_entries
    )
    prompts = SimilarPrompts(
        clock=clock,
        memory=memory,
        index=index,
        embedder=client,
        breaker=Breaker(BreakerSpec(), clock),
        model=settings.cache_similar_model,
        threshold=settings.cache_similar_threshold,
        timeout_ms=settings.cache_similar_timeout_ms,
    )
    return Similar(prompts, client)
