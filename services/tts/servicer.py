"""The contract's service on top of the core."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

from opentelemetry.trace import Span

from services.tts import translation
from services.tts.core.chunk import Observe
from services.tts.core.service import Speech
from services.tts.core.turn import Turn
from services.tts.metrics import TtsMetrics
from services.tts.tracing import ChunkSpan
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.sessions import SessionRegistry
from voicemesh.runtime.telemetry import Telemetry, end_span, trace_id_of
from voicemesh.tts.v1 import tts_pb2, tts_pb2_grpc

SERVICE: Final = "voicemesh.tts.v1.TtsService"


class TtsServicer(tts_pb2_grpc.TtsServiceServicer):
    """See tts.proto."""

    def __init__(
        self, speech: Speech, telemetry: Telemetry, sessions: SessionRegistry, metrics: TtsMetrics
    ) -> None:
        self._speech = speech
        self._telemetry = telemetry
        self._sessions = sessions
        self._metrics = metrics

    def _watch(self, span: Span) -> Observe:
        """Return what makes the watchers of the chunks of a call."""
        return self._metrics.watch(partial(ChunkSpan, self._telemetry, span), span)

    async def Synthesize(
        self, request_iterator: AsyncIterator[tts_pb2.SynthesizeRequest], context: Any
    ) -> AsyncIterator[tts_pb2.SynthesizeResponse]:
        """See tts.proto."""
        span = self._telemetry.server_span(f"{SERVICE}/Synthesize", context.invocation_metadata())
        session = self._sessions.open()
        turn = failure = None
        try:
            turn = self._speech.open_turn(self._watch(span))
            session.spawn(_read(request_iterator, turn, span), "tts requests")
            trace_id = trace_id_of(span)
            async for event in turn:
                yield translation.synthesize_response(event, turn.turn_id, trace_id)
        except Exception as error:
            failure = error
            raise
        finally:
            # Nothing may be awaited here: see `voicemesh.runtime.sessions`.
            session.cancel()
            if turn is not None:
                turn.abandon()
            end_span(span, failure)

    async def SynthesizeBatch(
        self, request: tts_pb2.SynthesizeBatchRequest, context: Any
    ) -> AsyncIterator[tts_pb2.SynthesizeBatchResponse]:
        """See tts.proto."""
        span = self._telemetry.server_span(f"{SERVICE}/SynthesizeBatch", context.invocation_metadata())
        batch = failure = None
        try:
            wanted = translation.wanted_format(request.format)
            batch = self._speech.open_batch(
                request.texts, request.voice, wanted, request.speed, self._watch(span)
            )
            span.set_attribute(names.VOICE, batch.speaker.name)
            trace_id = trace_id_of(span)
            async for part in batch:
                if (message := translation.batch_response(part, trace_id)) is not None:
                    yield message
        except Exception as error:
            failure = error
            raise
        finally:
            if batch is not None:
                batch.abandon()
            end_span(span, failure)

    async def ListVoices(
        self,
        request: tts_pb2.ListVoicesRequest,
        context: Any,  # noqa: ARG002 - gRPC's
    ) -> tts_pb2.ListVoicesResponse:
        """See tts.proto."""
        voices = [
            translation.voice(info)
            for info in self._speech.voices(request.language, everything=request.include_not_ready)
        ]
        return tts_pb2.ListVoicesResponse(voices=voices)

    async def GetPoolStats(
        self,
        request: tts_pb2.GetPoolStatsRequest,  # noqa: ARG002 - it is empty
        context: Any,  # noqa: ARG002 - gRPC's
    ) -> tts_pb2.GetPoolStatsResponse:
        """See tts.proto."""
        pools = [translation.pool_stats(stats) for stats in self._speech.stats()]
        changes = self._speech.changes
        return tts_pb2.GetPoolStatsResponse(
            pools=pools,
            voice_changes=changes.accepted,
            refused_voice_changes=changes.refused,
            refusal=changes.refusal,
        )


async def _read(requests: AsyncIterator[tts_pb2.SynthesizeRequest], turn: Turn, span: Span) -> None:
    """Pass requests on until they end; one that is wrong ends the turn."""
    try:
        async for request in requests:
            translation.take(request, turn)
            if request.HasField("configure") and turn.speaker is not None:
                span.set_attribute(names.TURN_ID, turn.turn_id)
                span.set_attribute(names.VOICE, turn.speaker.name)
    except Exception as error:  # noqa: BLE001 - the turn's reader raises it
        turn.fail(error)
    else:
        turn.half_close()
