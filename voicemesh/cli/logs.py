"""Reads the log lines of the mesh's processes and makes them legible."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from voicemesh.log_lines import for_people

_LOUD: Final = frozenset({"warning", "error", "critical"})
_SHOWN_ELSEWHERE: Final = frozenset({"level", "event", "timestamp", "service", "module", "exception"})


@dataclass(frozen=True)
class LogLine:
    """One line that a process wrote.

    Attributes:
        service: The process.
        level: "debug", "info", "warning", "error"; "" for a line that is no log record.
        text: For people.
        time: When, as the process says; "" where it does not.
        raw: The record as it was written; "" for a line that is none.

    """

    service: str
    level: str
    text: str
    time: str = ""
    raw: str = ""

    @property
    def is_loud(self) -> bool:
        """True where people should see it unasked: warnings, errors, and what is no log record."""
        return not self.level or self.level in _LOUD


def parse(service: str, line: str) -> LogLine:
    """Read a line: a JSON record, or anything else, which is kept as it is but for what a terminal obeys."""
    record = _record(line)
    if record is None:
        return LogLine(service, "", _escaped(line))
    fields = [
        f"{_escaped(key)}={_short(value)}"
        for key, value in for_people(record).items()
        if key not in _SHOWN_ELSEWHERE
    ]
    text = "  ".join([_escaped(str(record["event"])), *fields])
    if record.get("exception"):
        text += "\n" + "\n".join(map(_escaped, str(record["exception"]).split("\n")))
    return LogLine(
        service,
        _escaped(str(record.get("level", "info"))),
        text,
        time=str(record.get("timestamp", "")),
        raw=line,
    )


def clock(time: str, now: datetime) -> str:
    """Return the time of day of a line, to the millisecond, here; `now` where it says none."""
    try:
        at = datetime.fromisoformat(time)
    except ValueError:
        at = now
    return at.astimezone(now.tzinfo).strftime("%H:%M:%S.%f")[:-3]


def as_record(line: LogLine, now: datetime) -> str:
    """Return a line as a JSON record: as it was written, or made into one."""
    if line.raw:
        return line.raw
    return json.dumps(
        {
            "event": line.text,
            "level": line.level or "warning",
            "timestamp": now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "service": line.service,
        }
    )


def _record(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "event" in record else None


def _short(value: object) -> str:
    return _escaped(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _escaped(text: str) -> str:
    """Return `text` with what is not printable as an escape: no field may move a terminal's cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
