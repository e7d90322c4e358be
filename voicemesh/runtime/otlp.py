"""OTLP's exporters, which say once that the collector has gone, and once that it is back.

The SDK's own log a warning and an error for each batch, every few seconds, as long as it is away.
"""

import logging
import threading
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, TypeVar

from opentelemetry.exporter.otlp.proto.grpc import exporter as grpc_exporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.trace.export import SpanExportResult

from voicemesh.runtime.logs import get_logger

Result = TypeVar("Result", bound=Enum)

_log = get_logger(__name__)
_SIGNALS: Final = ("traces", "metrics")


class Outages(logging.Filter):
    """Lets one line through for each outage of a signal's collector, and counts what is lost meanwhile.

    Exports run on the SDK's threads, one for each signal.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._away: dict[str, int] = {}
        """Signals whose collector is away, and the batches that were lost of each."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep a line that begins an outage, and what is of no signal."""
        args = record.args if isinstance(record.args, tuple) else ()
        signal = next((name for name in _SIGNALS if name in args), "")
        if not signal or record.levelno < logging.WARNING:
            return True
        with self._lock:
            begins = signal not in self._away
            self._away.setdefault(signal, 0)
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return begins

    def ended(self, signal: str, *, well: bool) -> None:
        """Note the end of an export."""
        with self._lock:
            if not well:
                self._away[signal] = self._away.get(signal, 0) + 1
                return
            lost = self._away.pop(signal, None)
        if lost is not None:
            _log.info("the collector is back", signal=signal, lost_batches=lost)

    def watched(self, signal: str, export: Callable[..., Result], success: Result) -> Callable[..., Result]:
        """Return `export`, whose ends are noted."""

        def watched(*args: Any, **options: Any) -> Result:
            result = export(*args, **options)
            self.ended(signal, well=result is success)
            return result

        return watched


_outages: Final = Outages()
grpc_exporter.logger.addFilter(_outages)


def span_exporter() -> OTLPSpanExporter:
    """Return the exporter of spans that the environment asks for."""
    exporter = OTLPSpanExporter()
    watched = _outages.watched("traces", exporter.export, SpanExportResult.SUCCESS)
    exporter.export = watched  # type: ignore[method-assign] # a subclass could do no more
    return exporter


def metric_exporter() -> OTLPMetricExporter:
    """Return the exporter of metrics that the environment asks for."""
    exporter = OTLPMetricExporter()
    watched = _outages.watched("metrics", exporter.export, MetricExportResult.SUCCESS)
    exporter.export = watched  # type: ignore[method-assign] # as above
    return exporter
