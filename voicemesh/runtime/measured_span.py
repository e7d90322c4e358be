"""The span of a measurement, as OpenTelemetry takes it: in a context. No span is ever current in the mesh."""

from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import Span, set_span_in_context


class OfSpan(Context):
    """The context of what is measured in a span that was sampled.

    Attributes:
        ids: Of its trace, and its own.

    """

    def __init__(self, span: Span) -> None:
        super().__init__(set_span_in_context(span, Context()))
        told = span.get_span_context()
        self.ids = (told.trace_id, told.span_id)


NOWHERE: Final = Context({"voicemesh.span": None})
"""That of any other measurement. It holds something: for an empty one the SDK takes the current one."""


class SpanContexts:
    """Makes contexts: one for many measurements of the same span, as those of a turn are."""

    def __init__(self) -> None:
        self._last: tuple[Span | None, Context] = (None, NOWHERE)

    def __call__(self, span: Span | None) -> Context:
        """Return the context of a measurement in `span`; a span that was not sampled leads nowhere."""
        last, context = self._last
        if span is None:
            return NOWHERE
        if span is not last:
            context = OfSpan(span) if span.get_span_context().trace_flags.sampled else NOWHERE
            self._last = (span, context)
        return context
