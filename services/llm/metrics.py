"""What the LLM service measures: its questions to providers, and what it did where those fail or are late.

Names and labels are those of the conventions for generative AI, where there are any.

    LlmMetrics.watch(ChatSpans) ── attempt ──> MeteredChat(ChatSpan): both hear of each attempt
"""

from collections.abc import Callable, Mapping, Sequence

from opentelemetry.trace import Span

from services.llm import instruments
from services.llm.core.candidates import ANY_MODEL, ListedProvider
from services.llm.core.figures import Figures
from services.llm.core.model import (
    AttemptObserver,
    Finished,
    FinishReason,
    HttpObserver,
    Observer,
    Provider,
    ProviderRequest,
    Timing,
)
from voicemesh.runtime.breaker_metrics import observe_breakers
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import MeshError
from voicemesh.runtime.instruments import OTHER
from voicemesh.runtime.metrics import Metrics, Observed


class LlmMetrics:
    """The instruments of the service.

    Args:
        metrics: Of this process.
        clock: For durations.
        figures: What was done about providers.
        providers: The list.

    """

    def __init__(
        self, metrics: Metrics, clock: Clock, figures: Figures, providers: Sequence[ListedProvider]
    ) -> None:
        self._on = metrics.on
        self._clock = clock
        self._duration = metrics.histogram(instruments.DURATION)
        self._first_chunk = metrics.histogram(instruments.TO_FIRST_CHUNK)
        self._tokens = metrics.histogram(instruments.TOKENS)
        self._models = {
            model
            for listed in providers
            for model in (listed.provider.model, *listed.spec.models)
            if model != ANY_MODEL
        }

        def retries() -> Observed:
            return [
                (count, {"provider": provider, "error.type": reason})
                for (provider, reason), count in figures.retried.items()
            ]

        def hedges() -> Observed:
            return [(figures.hedges_won, {"won": True}), (figures.hedges_lost, {"won": False})]

        metrics.observe(instruments.RETRIES, retries)
        metrics.observe(instruments.HEDGES, hedges)
        metrics.observe(instruments.FAILOVERS, lambda: [(figures.fallbacks, {})])
        metrics.observe(instruments.CONTINUATIONS, lambda: [(figures.resumed, {})])
        observe_breakers(metrics, lambda: [(listed.name, listed.breaker.state) for listed in providers])

    def watch(self, observer: Observer, span: Callable[[], Span]) -> Observer:
        """Return what hears of attempts in the place of `observer`, measures them, and tells it.

        `span` returns the span of the call, which an exemplar leads to.
        """
        return _MeteredChats(self, observer, span) if self._on else observer

    def labels_of(self, provider: Provider, request: ProviderRequest) -> Mapping[str, str]:
        """Return what a question is counted by. A model that only its caller named is `other`."""
        return {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider.name,
            "gen_ai.request.model": request.model if request.model in self._models else OTHER,
        }

    def now_ns(self) -> int:
        """Return the time, in nanoseconds."""
        return self._clock.now_ns()

    def first_chunk(self, took_ns: int, labels: Mapping[str, str], span: Span) -> None:
        """Take the first text of a reply."""
        self._first_chunk.record(took_ns / 1e9, labels, span)

    def ended(
        self,
        took_ns: int,
        labels: Mapping[str, str],
        span: Span,
        finished: Finished | None,
        error: BaseException | None,
    ) -> None:
        """Take the end of an attempt."""
        cancelled = finished is not None and finished.reason is FinishReason.CANCELLED
        if not cancelled:
            failed = "" if error is None else _error_type(error)
            self._duration.record(took_ns / 1e9, {**labels, "error.type": failed}, span)
        if finished is not None and finished.usage is not None:
            usage = finished.usage
            self._tokens.record(usage.input_tokens, {**labels, "gen_ai.token.type": "input"}, span)
            self._tokens.record(usage.output_tokens, {**labels, "gen_ai.token.type": "output"}, span)


def _error_type(error: BaseException) -> str:
    return error.reason if isinstance(error, MeshError) else type(error).__name__


class _MeteredChats:
    """Watches one generation."""

    def __init__(self, metrics: LlmMetrics, inner: Observer, span: Callable[[], Span]) -> None:
        self._metrics = metrics
        self._inner = inner
        self._span = span

    def attempt(self, provider: Provider, request: ProviderRequest, number: int) -> AttemptObserver:
        """See `Observer`."""
        labels = self._metrics.labels_of(provider, request)
        inner = self._inner.attempt(provider, request, number)
        return _MeteredChat(self._metrics, inner, labels, self._span())

    def event(self, name: str, provider: str, error_type: str = "") -> None:
        """See `Observer`."""
        self._inner.event(name, provider, error_type)


class _MeteredChat:
    """Watches one attempt."""

    def __init__(
        self, metrics: LlmMetrics, inner: AttemptObserver, labels: Mapping[str, str], span: Span
    ) -> None:
        self.wants_text = inner.wants_text
        self._metrics = metrics
        self._inner = inner
        self._labels = labels
        self._span = span
        self._asked_ns = metrics.now_ns()

    def first_text(self, timing: Timing) -> None:
        """See `AttemptObserver`."""
        self._metrics.first_chunk(self._metrics.now_ns() - self._asked_ns, self._labels, self._span)
        self._inner.first_text(timing)

    def http(self, method: str, url: str) -> HttpObserver:
        """See `AttemptObserver`."""
        return self._inner.http(method, url)

    def end(self, finished: Finished | None, error: BaseException | None, text: str = "") -> None:
        """See `AttemptObserver`."""
        took_ns = self._metrics.now_ns() - self._asked_ns
        self._metrics.ended(took_ns, self._labels, self._span, finished, error)
        self._inner.end(finished, error, text)
