"""Turns as an exporter writes them: OTLP in JSON."""

from typing import Any

from voicemesh.critical_path import Turn
from voicemesh.critical_path import traces as names


def value(of: Any) -> dict[str, Any]:
    """Return a value as OTLP's JSON has it."""
    if isinstance(of, bool):
        return {"boolValue": of}
    if isinstance(of, int):
        return {"intValue": str(of)}
    if isinstance(of, float):
        return {"doubleValue": of}
    if isinstance(of, list):
        return {"arrayValue": {"values": [value(one) for one in of]}}
    return {"stringValue": of}


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return attributes as OTLP's JSON has them."""
    return [{"key": key, "value": value(of)} for key, of in attributes.items()]


def span(turn: Turn, **more: Any) -> dict[str, Any]:
    """Return the span of a turn; `more` are attributes, by name with "__" for "."."""
    began_ns = turn.began_unix_us * 1000
    events: list[dict[str, Any]] = []
    if turn.first is not None:
        chunk = {
            names.CHUNK_INDEX: 0,
            names.CHUNK_REASON: turn.first.reason,
            names.CHUNK_CACHE: turn.first.cache,
            names.CHUNK_AUDIO_MS: turn.first.audio_ms,
            names.CHUNK_FIRST_FRAME_MS: turn.ttfa_ms,
            names.CHUNK_UNDERRUN_MS: 0.0,
        }
        events.append({"name": names.CHUNK, "attributes": pairs(chunk)})
    for place, (stage, late_ms) in enumerate(turn.underrun_stages.items(), start=1):
        chunk = {
            names.CHUNK_INDEX: place,
            names.CHUNK_FIRST_FRAME_MS: turn.ttfa_ms + 1000,
            names.CHUNK_UNDERRUN_MS: late_ms,
            names.CHUNK_UNDERRUN_CAUSE: stage,
        }
        events.insert(0, {"name": names.CHUNK, "attributes": pairs(chunk)})
    if turn.retried:
        events.append({"name": names.RETRIED})
    if turn.failed_over:
        events.append({"name": names.FAILED_OVER})
    attributes = {
        names.TURN_ID: turn.turn_id,
        names.TENANT: turn.tenant,
        names.KIND: "text" if turn.own_words else "prompt",
        names.OUTCOME: turn.outcome,
        names.TTFA_MS: turn.ttfa_ms,
        names.TOTAL_MS: turn.total_ms,
        names.AUDIO_MS: turn.audio_ms,
        names.UNATTRIBUTED_MS: turn.unattributed_ms,
        names.UNDERRUNS: turn.underruns,
        names.UNDERRUN_MS: turn.underrun_ms,
        names.REPLY_CACHE: turn.reply_cache,
        names.PROVIDER: turn.provider,
        names.DEGRADED: list(turn.degraded),
        **{f"{names.HOP_MS}{hop}_ms": late_ms for hop, late_ms in turn.hops.items()},
        **{name: turn.stages.get(stage, 0.0) for stage, name in names.STAGE_MS.items()},
        **{name.replace("__", "."): of for name, of in more.items()},
    }
    return {
        "traceId": turn.trace_id or "0" * 31 + "1",
        "name": "turn",
        "kind": 2,
        "startTimeUnixNano": str(began_ns),
        "endTimeUnixNano": str(began_ns + round(turn.total_ms * 1e6)),
        "attributes": pairs(attributes),
        "events": events,
    }


def request(*spans: dict[str, Any]) -> dict[str, Any]:
    """Return an ExportTraceServiceRequest of one process."""
    resource = {"attributes": pairs({"service.name": "voicemesh-gateway"})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}
