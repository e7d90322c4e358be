"""A collector that goes and comes back: one line each."""

import logging
from collections.abc import Iterator

from opentelemetry.sdk.trace.export import SpanExportResult
from structlog.testing import capture_logs

from voicemesh.runtime.otlp import Outages


def complain(outages: Outages, level: int, signal: str) -> bool:
    """Log as the SDK's exporters do; return whether the line is kept."""
    args = ("UNAVAILABLE", signal, "127.0.0.1:4317", 1.0)
    return outages.filter(logging.LogRecord("otlp", level, "f", 1, "%s %s %s %s", args, None))


def test_an_outage_is_one_warning_and_its_end_one_line_that_says_what_was_lost() -> None:
    outages = Outages()
    results: Iterator[SpanExportResult] = iter(
        [SpanExportResult.SUCCESS, *[SpanExportResult.FAILURE] * 3, *[SpanExportResult.SUCCESS] * 2]
    )
    export = outages.watched("traces", lambda _spans: next(results), SpanExportResult.SUCCESS)
    with capture_logs() as lines:
        export([])
        kept = []
        for _ in range(3):
            kept += [complain(outages, level, "traces") for level in (logging.WARNING, logging.ERROR)]
            export([])
        assert not lines
        export([])
        export([])
    assert kept == [True, *[False] * 5]
    (line,) = lines
    assert (line["log_level"], line["signal"], line["lost_batches"]) == ("info", "traces", 3)
    assert complain(outages, logging.ERROR, "traces"), "the next outage is told of"


def test_each_signal_has_its_own_outage_and_other_lines_are_kept() -> None:
    outages = Outages()
    assert complain(outages, logging.WARNING, "traces")
    assert complain(outages, logging.WARNING, "metrics")
    assert not complain(outages, logging.WARNING, "metrics")
    other = logging.LogRecord("otlp", logging.WARNING, "f", 1, "Exporter already shutdown", (), None)
    assert outages.filter(other)
    assert outages.filter(other)
