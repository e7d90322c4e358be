"""The spans of a call: the call's own, and `chat {model}` by the conventions for generative AI."""

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.trace import Span, SpanKind

from services.llm.core.model import Finished, Provider, ProviderRequest, Timing
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


class ChatSpans:
    """Watches one generation: each attempt is a span below that of its call. No text of it is recorded."""

    def __init__(self, telemetry: Telemetry, call: CallSpan) -> None:
        self._telemetry = telemetry
        self._call = call

    def attempt(self, provider: Provider, request: ProviderRequest, number: int) -> "ChatSpan":
        """Start the span of one attempt."""
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
        if number:
            attributes["voicemesh.attempt"] = number
        if request.seed is not None:
            attributes["gen_ai.request.seed"] = request.seed
        if request.session_id:
            attributes["gen_ai.conversation.id"] = request.session_id
        if provider.server is not None:
            attributes["server.address"], attributes["server.port"] = provider.server
        return ChatSpan(
            self._telemetry.child_span(
                f"chat {request.model}", self._call.span, kind=SpanKind.CLIENT, attributes=attributes
            )
        )


class ChatSpan:
    """The span of one attempt."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.headers: Mapping[str, str] = inject(span)

    def first_text(self, timing: Timing) -> None:
        """Record how long the first text took."""
        seconds = (timing.connect_ns + timing.ttft_ns) / 1e9
        self._span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)

    def end(self, finished: Finished | None, error: BaseException | None) -> None:
        """End the span."""
        if finished is not None:
            self._span.set_attribute("gen_ai.response.finish_reasons", [finished.reason.value])
            self._span.set_attribute("gen_ai.response.model", finished.model)
            if finished.response_id:
                self._span.set_attribute("gen_ai.response.id", finished.response_id)
            if finished.usage is not None:
                usage = finished.usage
                self._span.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
                self._span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
                self._span.set_attribute("gen_ai.usage.cache_read.input_tokens", usage.cached_input_tokens)
        end_span(self._span, error)
