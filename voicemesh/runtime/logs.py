"""Structured logs: one JSON object a line on standard error, with trace and turn ids where there is a turn.

What a call is about is kept beside it, in the context that its tasks inherit: who logs in one of them, or
of a task of it that failed, need not know whose turn it was.
"""

import contextlib
import errno
import json
import logging
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final, TextIO, cast

import structlog
from opentelemetry.trace import Span, format_trace_id

from voicemesh.log_lines import for_people

Logger = Any
"""structlog's bound loggers have no useful static type: their methods are made at run time."""

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_ABOUT: ContextVar[dict[str, str] | None] = ContextVar("about", default=None)
"""What lines are about; one object for all tasks of a call, so that it can be told late."""
_MOST_DEEP: Final = 8
_NOBODY_READS: Final = (errno.EPIPE, errno.EBADF)
"""What is wrong with a standard error that nobody will ever read. A disk has room again some time."""
_FULL_S: Final = 1.0
"""How long a standard error is left alone that took nothing."""


class StandardError:
    """Standard error, as long as someone reads it.

    When the reader has gone, as a supervisor that was killed, logging must not fail: the process is
    about to drain, and every line of that would end it half-way. Where the disk is full it is tried again.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self.nowhere: TextIO | None = None
        """What stands for standard error while that takes nothing; None while it was never needed."""
        self._full: TextIO | None = None
        """What could not be written to, while that may pass."""
        self._again_s = 0.0

    def write(self, text: str) -> None:
        """Write `text` and flush it; or drop it, and what follows: for a second, or for good."""
        if self._full is not None:
            if self._now_s() < self._again_s:
                return
            sys.stderr, self._full = self._full, None
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in _NOBODY_READS:
                self._full = sys.stderr
                self._again_s = self._now_s() + _FULL_S
            # Replaced, not kept: Python flushes it at the exit, and a failure of that is status 120.
            if self.nowhere is None:
                self.nowhere = pathlib.Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for good
            sys.stderr = self.nowhere

    def flush(self) -> None:
        """Do nothing: `write` has."""


def configure(service: str, *, level: str, fmt: str, trace_url: str = "") -> None:
    """Set up logging for this process. The arguments are those of `ServerSettings`.

    `fmt` is "json", "console", or "auto" for the latter where standard error is a terminal.
    """

    def describe(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service
        for name, value in (_ABOUT.get() or {}).items():
            event.setdefault(name, value)
        if trace_url and event.get("trace_id"):
            event["trace_url"] = trace_url.replace("{trace_id}", str(event["trace_id"]))
        return event

    described: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        describe,
    ]
    terminal = sys.stderr.isatty()
    rendered: list[Any] = (
        [structlog.processors.format_exc_info, to_json]
        if fmt == "json" or (fmt == "auto" and not terminal)
        # The default shows the variables of each frame: keys, and what callers said.
        else [
            _escape,
            structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
    stream = cast("TextIO", StandardError())
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


@contextlib.contextmanager
def about(**fields: str) -> Iterator[None]:
    """Have lines that are logged inside, and by tasks that are begun inside, say what they are about."""
    token = _ABOUT.set(fields)
    try:
        yield
    finally:
        _ABOUT.reset(token)


def note(**fields: str) -> None:
    """Add to what the present call is about, for all its tasks; outside of one, do nothing."""
    known = _ABOUT.get()
    if known is not None:
        known.update({name: value for name, value in fields.items() if value})


def concerns() -> Mapping[str, str]:
    """Return what is worked on now, for lines that are logged later and elsewhere."""
    return _ABOUT.get() or {}


def to_json(_logger: Any, _method: str, event: structlog.typing.EventDict) -> str:
    """Write a line as JSON. Whatever its fields hold, it is one line, and it is valid."""
    try:
        return json.dumps(event, allow_nan=False)
    except Exception:  # noqa: BLE001 - a field's own code may raise anything, and the line must not be lost
        return json.dumps({_text(name): _plain(value, _MOST_DEEP) for name, value in event.items()})


def _plain(value: Any, deep: int) -> Any:
    """Return what JSON can have of a value."""
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, str):
        return str(value)
    if deep and isinstance(value, Mapping):
        return {_text(name): _plain(each, deep - 1) for name, each in value.items()}
    if deep and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each, deep - 1) for each in value]
    return _text(value)


def _text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception as error:  # noqa: BLE001 - as above
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def _escape(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Write what people need, control characters as escapes: no field must move a cursor, or end its line."""
    return {
        name: escaped(value) if isinstance(value, str) and name != "exception" else value
        for name, value in for_people(event).items()
    }


def escaped(text: str) -> str:
    """Return `text` with every character that is not printable written as an escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _add_module(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["module"] = event["_record"].name
    return event


def get_logger(name: str) -> Logger:
    """Return a logger for the module `name`."""
    return structlog.get_logger(module=name)


def with_span(logger: Logger, span: Span, **fields: Any) -> Logger:
    """Return `logger` with the trace id of `span` and further `fields` in each line."""
    return logger.bind(trace_id=format_trace_id(span.get_span_context().trace_id), **fields)
