"""The spans of a call: the call's own, `chat {model}` by the conventions for generative AI, and its HTTP.

Generate ── chat {model} ── POST      one `chat` an attempt; one `POST` a request: where a server
   │                                  refuses a parameter it is asked once more
   └── events: retried, failed over, hedged, resumed
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry.trace import Span, SpanKind

from services.llm.core.model import (
    UNWATCHED,
    Finished,
    HttpObserver,
    ImagePart,
    Message,
    Provider,
    ProviderRequest,
    Role,
    TextPart,
    Timing,
)
from voicemesh.runtime import trace_content
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.telemetry import Telemetry, end_span, inject, note_error

_SYSTEM: Final = Role.SYSTEM
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


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

    def turn(self, turn_id: str) -> None:
        """Note whose it is."""
        self.span.set_attribute(names.TURN_ID, turn_id)

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
    """Watches one generation: each attempt is a span below that of its call."""

    def __init__(self, telemetry: Telemetry, call: CallSpan) -> None:
        self._telemetry = telemetry
        self._call = call

    def attempt(self, provider: Provider, request: ProviderRequest, number: int) -> "ChatSpan":
        """Start the span of one attempt."""
        parent = self._call.span
        if not parent.is_recording():
            return ChatSpan(self._telemetry, parent)
        name = f"{names.CHAT} {request.model}"
        attributes = _asked(provider, request, number)
        span = self._telemetry.child_span(name, parent, kind=SpanKind.CLIENT, attributes=attributes)
        if self._telemetry.content:
            _note_messages(span, request)
        return ChatSpan(self._telemetry, span)

    def event(self, name: str, provider: str, error_type: str = "") -> None:
        """See `Observer`."""
        attributes = {names.PROVIDER: provider}
        if error_type:
            attributes[names.ERROR_TYPE] = error_type
        self._call.span.add_event(name, attributes)


def _asked(provider: Provider, request: ProviderRequest, number: int) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        names.OPERATION: names.CHAT,
        names.PROVIDER: provider.name,
        names.REQUEST_MODEL: request.model,
        names.REQUEST_STREAM: True,
        names.REQUEST_MAX_TOKENS: request.max_tokens,
        names.REQUEST_TEMPERATURE: request.temperature,
        names.REQUEST_TOP_P: request.top_p,
        names.OUTPUT_TYPE: "text",
    }
    if number:
        attributes[names.ATTEMPT] = number
    if request.seed is not None:
        attributes[names.REQUEST_SEED] = request.seed
    if request.session_id:
        attributes[names.CONVERSATION] = request.session_id
    if provider.server is not None:
        attributes[names.SERVER_ADDRESS], attributes[names.SERVER_PORT] = provider.server
    return attributes


def _note_messages(span: Span, request: ProviderRequest) -> None:
    system = [message.text for message in request.messages if message.role is _SYSTEM]
    if system:
        span.set_attribute(names.SYSTEM_INSTRUCTIONS, trace_content.parts(system))
    if request.stop:
        span.set_attribute(names.REQUEST_STOP, list(request.stop))
    told = [
        (message.role.value, _parts(message), "")
        for message in request.messages
        if message.role is not None and message.role is not _SYSTEM
    ]
    span.set_attribute(names.INPUT_MESSAGES, trace_content.messages(told))


def _parts(message: Message) -> list[dict[str, Any]]:
    parts = []
    for part in message.parts:
        if isinstance(part, TextPart):
            parts.append(trace_content.text_part(part.text))
        elif isinstance(part, ImagePart):
            parts.append(trace_content.picture_part(part.media_type, part.url))
    return parts


class ChatSpan:
    """The span of one attempt."""

    def __init__(self, telemetry: Telemetry, span: Span) -> None:
        self._telemetry = telemetry
        self._span = span
        self.wants_text = telemetry.content and span.is_recording()

    def http(self, method: str, url: str) -> HttpObserver:
        """Start the span of one HTTP request."""
        span = self._span
        if not span.get_span_context().is_valid:
            return UNWATCHED
        if span.is_recording():
            parts = urlsplit(url)
            attributes = {
                names.HTTP_METHOD: method,
                names.HTTP_URL: url,
                names.SERVER_ADDRESS: parts.hostname or "",
                names.SERVER_PORT: parts.port or _DEFAULT_PORTS.get(parts.scheme, 0),
            }
            span = self._telemetry.child_span(method, span, kind=SpanKind.CLIENT, attributes=attributes)
        return HttpSpan(span)

    def first_text(self, timing: Timing) -> None:
        """Record how long the first text took."""
        seconds = (timing.connect_ns + timing.ttft_ns) / 1e9
        self._span.set_attribute(names.TIME_TO_FIRST_CHUNK, seconds)

    def end(self, finished: Finished | None, error: BaseException | None, text: str = "") -> None:
        """End the span."""
        if not self._span.is_recording():
            return
        reason = finished.reason.value if finished is not None else ""
        if finished is not None:
            self._span.set_attributes(_told(finished))
        if text:
            self._span.set_attribute(
                names.OUTPUT_MESSAGES, trace_content.message("assistant", text, reason or "error")
            )
        end_span(self._span, error, rpc=False)


def _told(finished: Finished) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        names.FINISH_REASONS: [finished.reason.value],
        names.RESPONSE_MODEL: finished.model,
    }
    if finished.response_id:
        attributes[names.RESPONSE_ID] = finished.response_id
    if finished.usage is not None:
        attributes[names.INPUT_TOKENS] = finished.usage.input_tokens
        attributes[names.OUTPUT_TOKENS] = finished.usage.output_tokens
        attributes[names.CACHED_TOKENS] = finished.usage.cached_input_tokens
    return attributes


class HttpSpan:
    """The span of one HTTP request, up to the last byte of its answer."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.headers: Mapping[str, str] = inject(span)
        self._status = 0
        self._ended = not span.is_recording()

    def answered(self, status: int, version: str) -> None:
        """See `HttpObserver`."""
        if status and not self._ended:
            self._status = status
            self._span.add_event(names.HTTP_HEADERS)
            self._span.set_attribute(names.HTTP_STATUS, status)
            self._span.set_attribute(names.HTTP_VERSION, version.removeprefix("HTTP/"))

    def end(self, error: BaseException | None = None) -> None:
        """See `HttpObserver`."""
        if self._ended:
            return
        self._ended = True
        if self._status >= 400:
            # By the conventions for HTTP the status is the type of the error.
            note_error(self._span, str(self._status))
            error = None
        end_span(self._span, error, rpc=False)
