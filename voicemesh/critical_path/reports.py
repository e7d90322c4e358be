"""A turn from the JSON form of its report, as `ask --json` and `bench --json` print it."""

from collections.abc import Mapping
from typing import Any

from voicemesh.critical_path.turns import FirstChunk, Turn
from voicemesh.stages import Stage


def turn_from(report: Mapping[str, Any], tenant: str = "") -> Turn:
    """Return the turn of a report; what an older version has not written is not known of it.

    Raises LookupError, TypeError or AttributeError where it is no report.
    """
    stages, chunks = report["stages"], report["chunks"]
    # Where the first ones gave no audio, another one was waited for.
    first = next((chunk for chunk in chunks if chunk["audio_ms"]), chunks[0] if chunks else None)
    provider = report.get("model", "").partition("/")[0]
    asked = stages.get(Stage.LLM_CONNECT, 0.0) + stages.get(Stage.LLM_TTFT, 0.0)
    return Turn(
        turn_id=report["turn_id"],
        outcome=report["outcome"],
        ttfa_ms=report["ttfa_ms"],
        total_ms=report["total_ms"],
        stages=stages,
        unattributed_ms=report["unattributed_ms"],
        hops=report.get("hops", {}),
        began_unix_us=report.get("began_unix_us", 0),
        trace_id=report.get("trace_id", ""),
        tenant=tenant,
        # A report does not say how the turn began.
        own_words=report["reply_cache"] == "off" and not provider and not asked,
        reply_cache=report["reply_cache"],
        provider=provider,
        first=FirstChunk(first["reason"], first["cache"], first["audio_ms"]) if first is not None else None,
        audio_ms=report["audio_ms"],
        underruns=report["underruns"],
        underrun_ms=report.get("underrun_ms", 0.0),
        underrun_stages=report.get("underrun_stages", {}),
        degraded=tuple(report["degraded"]),
    )
