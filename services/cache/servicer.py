"""`voicemesh.cache.v1.CacheService`: streams to exchanges, messages to plain data."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import grpc
from opentelemetry.trace import Span

from services.cache import translation
from services.cache.core import CacheCore
from services.cache.exchange import Exchange as Stream
from services.cache.requests import Limits, Request
from services.cache.tracing import TracedRoundTrips, note_tally
from voicemesh.cache.v1 import cache_pb2, cache_pb2_grpc
from voicemesh.runtime.server import Runtime
from voicemesh.runtime.telemetry import end_span, trace_id_of

if TYPE_CHECKING:
    from services.cache.similar import SimilarPrompts

FULL_NAME: Final = "voicemesh.cache.v1.CacheService"


class CacheServicer(cache_pb2_grpc.CacheServiceServicer):
    """Serves one `CacheCore`, with `SimilarPrompts` where they are wanted."""

    def __init__(
        self, core: CacheCore, runtime: Runtime, limits: Limits, similar: "SimilarPrompts | None" = None
    ) -> None:
        self._core = core
        self._similar = similar
        self._runtime = runtime
        self._limits = limits

    async def Exchange(
        self,
        request_iterator: AsyncIterator[cache_pb2.ExchangeRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[cache_pb2.ExchangeResponse]:
        """Answer the requests of one stream."""
        span = self._runtime.telemetry.server_span(f"{FULL_NAME}/Exchange", context.invocation_metadata())
        session = self._runtime.sessions.open()
        trips = TracedRoundTrips(self._runtime.telemetry, span)
        exchange = Stream(self._core, self._runtime.clock, session, trips, self._similar)
        failure: BaseException | None = None
        try:
            session.spawn(exchange.serve(self._requests(request_iterator)), "cache-exchange")
            trace_id = trace_id_of(span)
            async for answer in exchange.responses:
                yield translation.response(answer, trace_id)
        except Exception as error:
            failure = error
            raise
        finally:
            # Synchronous to the end: the first await here would be cancelled again.
            session.cancel()
            exchange.abandon()
            self._end(span, exchange, failure)

    async def _requests(self, messages: AsyncIterator[cache_pb2.ExchangeRequest]) -> AsyncIterator[Request]:
        try:
            async for message in messages:
                yield translation.request(message, self._limits, self._runtime.clock.now_ns())
        except grpc.aio.BaseError:
            return  # reading fails where the call, or the server, has ended: so have the requests

    @staticmethod
    def _end(span: Span, exchange: Stream, failure: BaseException | None) -> None:
        note_tally(span, exchange.tally)
        end_span(span, failure)

    async def GetStats(
        self, request: cache_pb2.GetStatsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> cache_pb2.GetStatsResponse:
        """Return counts and sizes."""
        del request, context
        similar = self._similar.counts if self._similar is not None else None
        return translation.stats(self._core.stats(), similar)

    async def Invalidate(
        self, request: cache_pb2.InvalidateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> cache_pb2.InvalidateResponse:
        """Remove entries from both tiers."""
        del context
        selector = translation.selector(request, self._limits)
        removed = await self._core.invalidation.invalidate(selector, translation.removal_id(request))
        return cache_pb2.InvalidateResponse(
            memory_entries=removed.memory_entries, redis_entries=removed.redis_entries
        )
