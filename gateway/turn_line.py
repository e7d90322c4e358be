"""The one line of the log that each turn has: its fields, always all of them, under names that stay."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.core.report import TurnReport
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.status import reason_of

EVENTS: Final = {
    "completed": "turn ended",
    "interrupted": "turn ended",
    "failed": "turn failed",
    "refused": "turn refused",
    "discarded": "draft discarded",
}
"""How the line is called, by how the turn ended."""

FIELDS: Final[Mapping[str, str]] = {
    "turn_id": "the turn; `voicemesh explain` takes it",
    "trace_id": "its trace, 32 hexadecimal digits",
    "session_id": "its conversation; empty for a text of `Speak` and of a batch",
    "tenant": "whose it is; empty for the one without a name",
    "outcome": "`completed`, `interrupted`, `failed`, `refused`; `discarded`: a draft that nobody wanted",
    "reason": "why it failed or was refused, as in its `ErrorInfo`; else null",
    "llm_latency_ms": "prompt to the first text of the reply",
    "tts_latency_ms": "the first chunk's wait for a replica, and from there to its first frame",
    "ttfa_ms": "prompt to the first frame",
    "total_latency_ms": "prompt to the end of the turn",
    "audio_ms": "length of the audio",
    "leading_silence_ms": "silence at its start",
    "unattributed_ms": "part of `ttfa_ms` that no stage accounts for",
    "stages_ms": "`ttfa_ms` by stage, those that took time",
    "underruns": "times that a player which starts at the first frame ran dry",
    "underrun_ms": "for how long in sum",
    "llm_tokens": "tokens of prompt and reply",
    "llm_input_tokens": "tokens of the prompt",
    "llm_output_tokens": "tokens of the reply",
    "tts_chars": "characters given to engines",
    "tts_chunks": "chunks that were cut",
    "engine_ms": "how long engines were busy",
    "cost_usd": "what it cost; null where something has no price",
    "saved_usd": "what the caches saved",
    "unpriced": "what has no price",
    "cache_hit": "true where the reply came from the cache",
    "reply_cache": "`off`, `miss`, `memory`, `redis` or `similar`",
    "audio_cache_hits": "chunks whose audio came from the cache, or was made for somebody else",
    "degraded": "what was given up, in order",
    "degraded_why": "why each of these was given up, in words",
    "variants": "feature flags that had a say, and the variant that each gave",
}
"""Each field, and what it is. Those of time are in milliseconds."""
_LISTS: Final = ("unpriced", "degraded", "degraded_why")


def fields_of(report: TurnReport, told: pb.TurnReport) -> dict[str, Any]:
    """Return the fields of a turn that ran, as the gateway saw it; ids are bound to the logger."""
    first = report.chunks[0] if report.chunks else None
    usage, attribution = report.usage, report.attribution
    tokens = (usage.input_tokens, usage.output_tokens) if usage else (0, 0)
    return {
        "outcome": report.outcome,
        "reason": reason_of(told.error) if report.outcome == "failed" else None,
        "llm_latency_ms": report.ttft_us / 1000,
        "tts_latency_ms": (first.queue_us + first.synthesis_us) / 1000 if first is not None else 0.0,
        "ttfa_ms": attribution.ttfa_us / 1000,
        "total_latency_ms": report.total_us / 1000,
        "audio_ms": report.audio_us / 1000,
        "leading_silence_ms": report.leading_silence_us / 1000,
        "unattributed_ms": attribution.unattributed_us / 1000,
        "stages_ms": {str(stage): took_us / 1000 for stage, took_us in attribution.stages.items() if took_us},
        "underruns": report.underruns,
        "underrun_ms": report.underrun_us / 1000,
        "llm_tokens": sum(tokens),
        "llm_input_tokens": tokens[0],
        "llm_output_tokens": tokens[1],
        "tts_chars": report.characters,
        "tts_chunks": len(report.chunks),
        "engine_ms": report.engine_us / 1000,
        "cost_usd": None if told.cost.unpriced else told.cost_usd,
        "saved_usd": told.cost.saved_usd,
        "unpriced": list(told.cost.unpriced),
        "cache_hit": report.reply_cache in ("memory", "redis", "similar"),
        "reply_cache": report.reply_cache,
        "audio_cache_hits": sum(chunk.cache in ("memory", "redis", "shared") for chunk in report.chunks),
        "degraded": list(report.degraded),
        "degraded_why": list(report.degraded_why),
        "variants": dict(report.variants),
    }


def fields_of_refused(reason: str) -> dict[str, Any]:
    """Return the fields of a turn that could not begin: nothing took time, and nothing was used."""
    empty: dict[str, Any] = {
        name: [] if name in _LISTS else {} if name in ("stages_ms", "variants") else 0
        for name in FIELDS
        if name not in ("turn_id", "trace_id", "session_id", "tenant")
    }
    return {
        **empty,
        "outcome": "refused",
        "reason": reason,
        "cost_usd": 0.0,
        "cache_hit": False,
        "reply_cache": "off",
    }
