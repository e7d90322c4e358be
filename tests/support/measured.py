"""Metrics of a service under test, and what an exporter would read of them."""

from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from voicemesh.runtime.exemplars import make_provider
from voicemesh.runtime.instruments import Instrument
from voicemesh.runtime.metrics import LiveMetrics


@dataclass(frozen=True)
class Distribution:
    """What a histogram has of one combination of labels."""

    count: int
    sum: float
    trace_ids: tuple[str, ...]
    """Of its exemplars."""


class Measured:
    """Live metrics that a test reads. Needs a running loop."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._provider = make_provider([self._reader])
        self.metrics = LiveMetrics(self._provider)

    def points(self, instrument: Instrument) -> dict[tuple[str, ...], Any]:
        """Read an instrument: the values of its labels, in the order of their names, to what they have.

        That is a number, or the `Distribution` of a histogram; nothing of what never was measured.
        """
        data: Any = self._reader.get_metrics_data()
        return {
            tuple(value for _, value in sorted(point.attributes.items())): _value(point)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == instrument.name
            for point in metric.data.data_points
        }

    def value(self, instrument: Instrument, *labels: str) -> Any:
        """Read an instrument for one combination of labels."""
        return self.points(instrument)[labels]

    def close(self) -> None:
        """End it."""
        self._provider.shutdown()


def _value(point: Any) -> Any:
    if isinstance(point, HistogramDataPoint):
        traces = tuple(f"{exemplar.trace_id:032x}" for exemplar in point.exemplars if exemplar.trace_id)
        return Distribution(point.count, point.sum, traces)
    return point.value
