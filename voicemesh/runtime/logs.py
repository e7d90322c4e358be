"""Structured logs: one JSON object a line on standard error, with trace ids where there is a turn."""

import logging
import sys
from typing import Any

import structlog
from opentelemetry.trace import Span, format_trace_id

Logger = Any
"""structlog's bound loggers have no useful static type: their methods are made at run time."""

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(service: str, *, level: str, fmt: str) -> None:
    """Set up logging for this process. `level` and `fmt` are those of `ServerSettings`."""
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if fmt == "json":
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        processors.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    # Libraries that use the standard logger speak up only when something is wrong.
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )


def get_logger(name: str) -> Logger:
    """Return a logger for the module `name`."""
    return structlog.get_logger(module=name)


def with_span(logger: Logger, span: Span, **fields: Any) -> Logger:
    """Return `logger` with the trace id of `span` and further `fields` in each line."""
    return logger.bind(trace_id=format_trace_id(span.get_span_context().trace_id), **fields)
