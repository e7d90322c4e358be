"""Turns from spans: what the gateway's span `turn` says of one, in OTLP's JSON form.

The names are those of `voicemesh.runtime.trace_names`, which the installed client has not; a test holds them
together. Only the span of the turn is read, so that no two spans have to be in memory at once.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from voicemesh.critical_path.turns import FirstChunk, Turn
from voicemesh.stages import STAGES

TURN_SPAN: Final = "turn"
TURN_ID: Final = "voicemesh.turn_id"
TENANT: Final = "voicemesh.tenant"
KIND: Final = "voicemesh.turn.kind"
OUTCOME: Final = "voicemesh.outcome"
TTFA_MS: Final = "voicemesh.ttfa_ms"
TOTAL_MS: Final = "voicemesh.total_ms"
UNATTRIBUTED_MS: Final = "voicemesh.unattributed_ms"
AUDIO_MS: Final = "voicemesh.audio_ms"
HEAD_START_MS: Final = "voicemesh.head_start_ms"
REPLY_CACHE: Final = "voicemesh.reply_cache"
UNDERRUNS: Final = "voicemesh.underruns"
UNDERRUN_MS: Final = "voicemesh.underrun_ms"
DEGRADED: Final = "voicemesh.degraded"
PROVIDER: Final = "gen_ai.provider.name"
RETRIED: Final = "voicemesh.retried"
FAILED_OVER: Final = "voicemesh.failed_over"
CHUNK: Final = "voicemesh.chunk"
CHUNK_INDEX: Final = "voicemesh.chunk_index"
CHUNK_REASON: Final = "voicemesh.chunk.reason"
CHUNK_CACHE: Final = "voicemesh.chunk.cache"
CHUNK_AUDIO_MS: Final = "voicemesh.chunk.audio_ms"
CHUNK_FIRST_FRAME_MS: Final = "voicemesh.chunk.first_frame_ms"
CHUNK_UNDERRUN_MS: Final = "voicemesh.chunk.underrun_ms"
CHUNK_UNDERRUN_CAUSE: Final = "voicemesh.chunk.underrun_cause"
HOP_MS: Final = "voicemesh.hop."
"""What the name of a hop follows, and `_ms` that."""
STAGE_MS: Final = {stage.value: f"voicemesh.stage.{stage.value}_ms" for stage in STAGES}

_OUTCOMES: Final = frozenset({"completed", "interrupted", "failed"})
_MOST_MS: Final = 1e12


class BadSpanError(ValueError):
    """A span of a turn that cannot be read; the text says which attribute is wrong, and how."""


def spans_of(request: Any) -> Iterator[Mapping[str, Any]]:
    """Give the spans of an ExportTraceServiceRequest, as JSON has them.

    Raises:
        BadSpanError: It is none.

    """
    if not isinstance(request, dict):
        raise BadSpanError("is no JSON object")
    if "resourceSpans" not in request:
        if request.keys() & {"resourceMetrics", "resourceLogs", "resourceProfiles"}:
            return  # a file may hold every signal
        raise BadSpanError(
            'has no "resourceSpans": OTLP in JSON is needed, as the collector\'s file exporter writes'
        )
    for resource in _list(request, "resourceSpans"):
        for scope in _list(resource, "scopeSpans"):
            for span in _list(scope, "spans"):
                if not isinstance(span, dict):
                    raise BadSpanError('"spans" holds what is no object')
                yield span


def turn_of(span: Mapping[str, Any]) -> Turn | None:
    """Return the turn that a span is of; None for another span, and for a turn that did not run.

    Raises:
        BadSpanError: It is a turn's, and says what cannot be.

    """
    if span.get("name") != TURN_SPAN:
        return None
    values = _attributes(span)
    turn_id, outcome = values.get(TURN_ID), values.get(OUTCOME)
    if not isinstance(turn_id, str) or not isinstance(outcome, str) or outcome not in _OUTCOMES:
        return None  # another program's span, a refusal, or a draft that nobody wanted
    ttfa_ms = _milliseconds(values, TTFA_MS)
    began_ns, ended_ns = _nanoseconds(span, "startTimeUnixNano"), _nanoseconds(span, "endTimeUnixNano")
    head_start_ms = _milliseconds(values, HEAD_START_MS)
    if TOTAL_MS in values:
        total_ms = _milliseconds(values, TOTAL_MS)
    else:
        # Of an earlier version: both times are of one clock.
        total_ms = max((ended_ns - began_ns) / 1e6 - head_start_ms, 0.0)
    events = [
        (event.get("name"), _attributes(event)) for event in _list(span, "events") if isinstance(event, dict)
    ]
    names = {name for name, _ in events}
    chunks = [chunk for name, chunk in events if name == CHUNK]
    return Turn(
        turn_id=turn_id,
        outcome=outcome,
        ttfa_ms=ttfa_ms,
        total_ms=total_ms,
        stages={stage: _milliseconds(values, name) for stage, name in STAGE_MS.items()},
        unattributed_ms=_milliseconds(values, UNATTRIBUTED_MS, signed=True),
        hops={
            name.removeprefix(HOP_MS).removesuffix("_ms"): _milliseconds(values, name)
            for name in values
            if name.startswith(HOP_MS)
        },
        began_unix_us=round(began_ns / 1000 + head_start_ms * 1000),
        trace_id=_text(span.get("traceId")),
        tenant=_text(values.get(TENANT)),
        own_words=values.get(KIND) == "text",
        reply_cache=_text(values.get(REPLY_CACHE)) or "off",
        provider=_text(values.get(PROVIDER)),
        first=_first_chunk(chunks),
        audio_ms=_milliseconds(values, AUDIO_MS),
        underruns=round(_milliseconds(values, UNDERRUNS)),
        underrun_ms=_milliseconds(values, UNDERRUN_MS),
        underrun_stages=_blamed(chunks),
        degraded=_texts(values.get(DEGRADED)),
        retried=RETRIED in names,
        failed_over=FAILED_OVER in names,
    )


def _first_chunk(chunks: list[dict[str, Any]]) -> FirstChunk | None:
    """Return the chunk of the first audio: the first that was heard, as far as they say."""
    heard = [chunk for chunk in chunks if _milliseconds(chunk, CHUNK_FIRST_FRAME_MS)] or chunks[:1]
    if not heard:
        return None
    first = min(heard, key=lambda chunk: _number(chunk.get(CHUNK_INDEX)) or 0.0)
    return FirstChunk(
        reason=_text(first.get(CHUNK_REASON)),
        cache=_text(first.get(CHUNK_CACHE)),
        audio_ms=_milliseconds(first, CHUNK_AUDIO_MS),
    )


def _blamed(chunks: list[dict[str, Any]]) -> dict[str, float]:
    """Return the time of underruns by stage: that of a chunk all for the stage that has most of it."""
    blamed: dict[str, float] = {}
    for chunk in chunks:
        if cause := _text(chunk.get(CHUNK_UNDERRUN_CAUSE)):
            blamed[cause] = blamed.get(cause, 0.0) + _milliseconds(chunk, CHUNK_UNDERRUN_MS)
    return blamed


def _list(holder: Any, name: str) -> list[Any]:
    found = holder.get(name) if isinstance(holder, dict) else holder
    if found is None:
        return []
    if not isinstance(found, list):
        raise BadSpanError(
            f'"{name}" is no array' if isinstance(holder, dict) else f"{str(holder)[:40]!r} is no object"
        )
    return found


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for pair in _list(holder, "attributes"):
        if isinstance(pair, dict) and isinstance(pair.get("key"), str):
            found[pair["key"]] = _value(pair.get("value"))
    return found


def _value(value: Any) -> Any:
    """Return a value of OTLP as Python has it; whole numbers come as strings, for they have 64 bits."""
    if not isinstance(value, dict):
        return None
    for kind in ("stringValue", "doubleValue", "boolValue"):
        if kind in value:
            return value[kind]
    if "intValue" in value:
        return _number(value["intValue"])
    if isinstance(array := value.get("arrayValue"), dict):
        return [_value(one) for one in _list(array, "values")]
    return None


def _number(value: Any) -> float | None:
    """Return a number, also one that is written as a string; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _milliseconds(values: Mapping[str, Any], name: str, *, signed: bool = False) -> float:
    if name not in values:
        return 0.0
    number = _number(values[name])
    if number is None or abs(number) > _MOST_MS or (number < 0 and not signed):
        raise BadSpanError(f"{name}: {str(values[name])[:40]!r} is no {'number' if signed else 'duration'}")
    return number


def _nanoseconds(span: Mapping[str, Any], name: str) -> int:
    value = span.get(name, 0)
    if isinstance(value, bool) or not str(value).isdecimal() or len(str(value)) > 20:
        raise BadSpanError(f"{name}: {str(value)[:40]!r} is no time in nanoseconds")
    return int(value)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
