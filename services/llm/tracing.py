"""The spans of a call: the call's own, and `chat {model}` by the conventions for generative AI."""

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.trace import Span, SpanKind

from services.llm.core.model import Finished, FinishReason, Provider, ProviderRequest, Timing
from voicemesh.runtime.telemetry import Telemetry, end_span, inject


class CallSpan:
    """The span of one call. It begins with the call's first message: before that the stream stands by."""

    def __init__(self, telemetry: Telemetry, method: str, metadata: Iterable[tuple[str, Any]] | None) -> None:
        self._telemetry = telemetry
        self._method = method
        self._metadata = metadata
        self._span: Span | None = None

    def begin(self, traceparent: str = "") -> None:
        """Start it below `traceparent`, or where that is empty below what the call's metadata names."""
        if self._span is None:
            self._span = self._telemetry.server_span(self._method, self._metadata, traceparent)

    @property
    def span(self) -> Span:
        """The span; begins it."""
        self.begin()
        assert self._span is not None
        return self._span

    def end(self, error: BaseException | None) -> None:
        """End it. A call that asked for nothing has none."""
        if self._span is not None:
            end_span(self._span, error)


class ChatSpan:
    """Watches one generation and tells it as a span below that of its call. No text of it is recorded."""

    def __init__(self, telemetry: Telemetry, call: CallSpan) -> None:
        self._telemetry = telemetry
        self._call = call
        self._span: Span | None = None

    def begin(self, provider: Provider, request: ProviderRequest) -> Mapping[str, str]:
        """Start the span; return the HTTP headers that carry it to the provider."""
        attributes: dict[str, str | int | float | bool] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider.name,
            "gen_ai.request.model": request.model,
            "gen_ai.request.stream": True,
            "gen_ai.request.max_tokens": request.max_tokens,
            "gen_ai.request.temperature": request.temperature,
            "gen_ai.request.top_p": request.top_p,
            "gen_ai.output.type": "text",
        }
        if request.seed is not None:
            attributes["gen_ai.request.seed"] = request.seed
        if request.session_id:
            attributes["gen_ai.conversation.id"] = request.session_id
        if provider.server is not None:
            attributes["server.address"], attributes["server.port"] = provider.server
        self._span = self._telemetry.child_span(
            f"chat {request.model}", self._call.span, kind=SpanKind.CLIENT, attributes=attributes
        )
        return inject(self._span)

    def first_text(self, timing: Timing) -> None:
        """Record how long the first text took."""
        if self._span is not None:
            seconds = (timing.connect_ns + timing.ttft_ns) / 1e9
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)

    def end(self, finished: Finished | None, error: BaseException | None) -> None:
        """End the span; without either, as cancelled by the end of the call."""
        if self._span is None:
            return
        reason = finished.reason.value if finished else FinishReason.CANCELLED.value
        if error is None:
            self._span.set_attribute("gen_ai.response.finish_reasons", [reason])
        if finished is not None:
            self._span.set_attribute("gen_ai.response.model", finished.model)
            if finished.response_id:
                self._span.set_attribute("gen_ai.response.id", finished.response_id)
            if finished.usage is not None:
                usage = finished.usage
                self._span.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
                self._span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
                self._span.set_attribute("gen_ai.usage.cache_read.input_tokens", usage.cached_input_tokens)
        end_span(self._span, error)
