"""Structured logs: one JSON object a line on standard error, with trace ids where there is a turn."""

import logging
import os
import pathlib
import sys
from typing import Any, TextIO, cast

import structlog
from opentelemetry.trace import Span, format_trace_id

Logger = Any
"""structlog's bound loggers have no useful static type: their methods are made at run time."""

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _StandardError:
    """Standard error, as long as someone reads it.

    When the reader has gone, as a supervisor that was killed, logging must not fail: the process is
    about to drain, and every line of that would end it half-way.
    """

    def write(self, text: str) -> None:
        """Write `text` and flush it, or drop it, and all that follows."""
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            # Replaced, not kept: Python flushes it at the exit, and a failure of that is status 120.
            sys.stderr = pathlib.Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for good

    def flush(self) -> None:
        """Do nothing: `write` has."""


def configure(service: str, *, level: str, fmt: str) -> None:
    """Set up logging for this process. `level` and `fmt` are those of `ServerSettings`."""

    def add_service(
        _logger: Any, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    described: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_service,
    ]
    rendered: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if fmt == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    stream = cast("TextIO", _StandardError())
    structlog.configure(
        processors=described + rendered,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
    )
    # Libraries that use the standard logger speak up only when something is wrong, in the same form.
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_add_module, *described],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def _add_module(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["module"] = event["_record"].name
    return event


def get_logger(name: str) -> Logger:
    """Return a logger for the module `name`."""
    return structlog.get_logger(module=name)


def with_span(logger: Logger, span: Span, **fields: Any) -> Logger:
    """Return `logger` with the trace id of `span` and further `fields` in each line."""
    return logger.bind(trace_id=format_trace_id(span.get_span_context().trace_id), **fields)
