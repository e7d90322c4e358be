"""The span that a measurement leads to, and the last such measurement of each bucket.

OpenTelemetry's own filter and reservoirs look the span up twice in a context that is made for each
measurement, walk the buckets one by one, and draw lots for what a counter keeps: some 40% of what a
measurement costs. Here the context is made once for a span, and the last measurement stays.
"""

import bisect
import os
import threading
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import Exemplar, ExemplarFilter, ExemplarReservoir, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.util.types import Attributes

from voicemesh.runtime.measured_span import OfSpan

_FILTER: Final = "OTEL_METRICS_EXEMPLAR_FILTER"
_BY_TRACE: Final = ("", "trace_based")


def make_provider(readers: Sequence[MetricReader], resource: Resource | None = None) -> MeterProvider:
    """Return a provider whose measurements lead to spans; OpenTelemetry's own filters can be asked for.

    `OTEL_METRICS_EXEMPLAR_FILTER` names one: `always_on`, `always_off`, or `trace_based`, the default.
    """
    by_trace = os.environ.get(_FILTER, "").strip().lower() in _BY_TRACE
    return MeterProvider(
        metric_readers=readers,
        resource=resource,
        shutdown_on_exit=False,
        exemplar_filter=_OfSampledSpans() if by_trace else None,
        # No aggregation is named: that is for the instrument, and for whoever exports.
        views=[View(instrument_name="*", exemplar_reservoir_factory=_reservoir_of)],
    )


def _reservoir_of(_aggregation: type[Any]) -> Any:
    # Any: it is typed as a function of a dict, and called with keywords.
    return _Last


class _OfSampledSpans(ExemplarFilter):
    """Keeps what was measured in a span that was sampled."""

    def should_sample(
        self,
        value: float,  # noqa: ARG002 - as OpenTelemetry asks
        time_unix_nano: int,  # noqa: ARG002 - as above
        attributes: Attributes,  # noqa: ARG002 - as above
        context: Context,
    ) -> bool:
        return isinstance(context, OfSpan)


class _Last(ExemplarReservoir):
    """Keeps the last measurement of each bucket; where there are none, the last `size`."""

    def __init__(self, boundaries: Sequence[float] = (), size: int = 1, **_other: Any) -> None:
        self._boundaries = boundaries
        self._size = size
        self._offered = 0
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[float, int, int | None, int | None]] = {}

    def offer(
        self,
        value: float,
        time_unix_nano: int,
        attributes: Attributes,  # noqa: ARG002 - below
        context: Context,
    ) -> None:
        """Keep a measurement; `attributes` are those of its series, for no view leaves any out."""
        trace_id, span_id = context.ids if isinstance(context, OfSpan) else (None, None)
        with self._lock:
            if self._boundaries:
                place = bisect.bisect_left(self._boundaries, value)
            else:
                place = self._offered % self._size
                self._offered += 1
            self._kept[place] = (value, time_unix_nano, trace_id, span_id)

    def collect(self, point_attributes: Attributes) -> list[Exemplar]:  # noqa: ARG002 - as in `offer`
        """Return what is kept, and begin anew."""
        with self._lock:
            kept, self._kept, self._offered = self._kept, {}, 0
        return [
            Exemplar({}, value, at, span_id, trace_id)
            for _, (value, at, trace_id, span_id) in sorted(kept.items())
        ]
