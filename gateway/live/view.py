"""A turn as the page is told of it: JSON, with its texts only where they may be shown."""

from typing import Any, Final

from gateway.live.series import PARTS, UNATTRIBUTED, TurnFigures
from gateway.record import REFUSED, TurnBegun, TurnEnded
from voicemesh.client.errors import from_status
from voicemesh.client.names import STAGES
from voicemesh.client.report import report_from_proto
from voicemesh.gateway.v1 import gateway_pb2 as pb

RUNNING: Final = "running"
_TEXTS: Final = frozenset({"prompt", "text"})
"""Fields that say what was asked or said."""


def running(begun: TurnBegun) -> dict[str, Any]:
    """Return the row of a turn that runs."""
    return {
        "turn_id": begun.turn_id,
        "tenant": begun.tenant,
        "trace_id": begun.trace_id,
        "voice": begun.voice,
        "kind": begun.kind,
        "began_ms": begun.began_unix_us / 1000,
        "outcome": RUNNING,
    }


def ended(turn: TurnEnded, begun: TurnBegun | None) -> dict[str, Any]:
    """Return the row of a turn that ended; `begun` is None for one that nobody saw begin."""
    message = turn.report()
    report = report_from_proto(message)
    asked = [chunk.cache for chunk in message.chunks if chunk.cache]
    return {
        "turn_id": turn.turn_id,
        "tenant": turn.tenant,
        "trace_id": report.trace_id,
        "voice": begun.voice if begun else "",
        "kind": begun.kind if begun else "",
        "began_ms": turn.began_unix_us / 1000,
        "outcome": turn.outcome,
        "error": report.error and {"reason": report.error.reason, "message": report.error.message},
        "ttft_ms": report.ttft_ms,
        "ttfa_ms": report.ttfa_ms,
        "ttfa_audible_ms": report.ttfa_audible_ms,
        "total_ms": report.total_ms,
        "audio_ms": report.audio_ms,
        "underruns": report.underruns,
        "degraded": list(report.degraded),
        "parts": _parts(message),
        "reply_cache": report.reply_cache,
        "chunks": len(report.chunks),
        "chunks_asked": len(asked),
        "chunks_found": sum(cache != pb.CACHE_OUTCOME_MISS for cache in asked),
    }


def whole(turn: TurnEnded, begun: TurnBegun | None, prompt: str, *, texts: bool) -> dict[str, Any]:
    """Return all that is known of a turn that ended: the JSON of its report, and what its row has."""
    message = turn.report()
    report = report_from_proto(message)
    told = report.to_json()
    if prompt:
        told["prompt"] = prompt
    if not texts:
        told = without_texts(told)
    row = ended(turn, begun)
    return {
        **told,
        **{name: row[name] for name in ("tenant", "voice", "kind", "began_ms", "outcome", "parts")},
        "session_id": report.session_id,
        "head_start_ms": report.head_start_ms,
    }


def figures(turn: TurnEnded) -> TurnFigures:
    """Return what is counted of a turn."""
    message = turn.report()
    heard = message.ttfa_us > 0 and turn.outcome != REFUSED
    chunks = [chunk.cache for chunk in message.chunks if chunk.cache]
    return TurnFigures(
        outcome=turn.outcome,
        parts=_parts(message) if heard else (),
        total_ms=turn.total_us / 1000,
        underruns=message.underruns,
        reply_asked=bool(message.reply_cache),
        reply_found=message.reply_cache not in (0, pb.CACHE_OUTCOME_MISS),
        audio_asked=len(chunks),
        audio_found=sum(cache != pb.CACHE_OUTCOME_MISS for cache in chunks),
        audio_ms=message.audio_us / 1000,
        cost_usd=message.cost_usd,
        reason=from_status(message.error).reason if message.HasField("error") else "",
    )


def without_texts(told: Any) -> Any:
    """Return JSON with every text of a prompt or a reply left out, at any depth."""
    if isinstance(told, dict):
        return {name: None if name in _TEXTS else without_texts(value) for name, value in told.items()}
    if isinstance(told, list):
        return [without_texts(value) for value in told]
    return told


def _parts(message: pb.TurnReport) -> list[float]:
    """Return what the first audio's time is made of, by `PARTS`; [] where there was none."""
    if not message.ttfa_us:
        return []
    known = {STAGES.get(each.stage, ""): each.duration_us / 1000 for each in message.stages}
    known[UNATTRIBUTED] = message.unattributed_us / 1000
    return [known.get(name, 0.0) for name in PARTS]
