"""The account of a turn: what the gateway measured, and what the caller saw of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from voicemesh.client.chunk_report import (
    ChunkReport,
    chunk_from_proto,
    hops_from_proto,
    ms,
    no_stages,
    rounded,
    stages_from_proto,
    stages_to_json,
)
from voicemesh.client.errors import VoiceMeshError, from_status
from voicemesh.client.names import CACHE_OUTCOMES, DEGRADATIONS, OUTCOMES, STAGES
from voicemesh.client.usage import Cost, cost_from_proto
from voicemesh.gateway.v1 import gateway_pb2
from voicemesh.stages import Stage

COMPLETED: Final = "completed"
INTERRUPTED: Final = "interrupted"
FAILED: Final = "failed"

CALLER_HOP: Final = "caller"
"""The hop between the gateway and the caller."""


@dataclass(frozen=True, kw_only=True)
class TurnReport:
    """The account of a turn. Times are in milliseconds since the prompt; 0 where nothing came.

    A turn's own events give the times as the caller saw them; `VoiceMesh.explain` gives those that
    the gateway saw. Either way the stages and `unattributed_ms` add up to `ttfa_ms`.

    Attributes:
        turn_id: The turn.
        session_id: The session.
        trace_id: The turn's trace, 32 hexadecimal digits.
        prompt: What was asked; "" for text that was spoken, and where it is not known.
        text: The reply, as far as it was written; for text that was spoken, that text.
        outcome: "completed", "interrupted" or "failed".
        error: Why it failed, or None.
        ttft_ms: To the first text of the reply.
        ttfa_ms: To the first frame.
        ttfa_audible_ms: To the first sample above silence.
        total_ms: To the end of the turn.
        head_start_ms: For a draft: how long before its confirmation it came. Times count from there.
        audio_ms: How long the audio lasts.
        underruns: Times that a player which starts at the first frame runs dry.
        underrun_ms: For how long in sum.
        degraded: What was given up, in order of appearance.
        degraded_why: Why each of these was given up, in words; "" where nobody said.
        failovers: Services ("llm", "chunker", "tts") whose stream broke off and was opened anew at another
            process, in order.
        stages: Every stage of `ttfa_ms`, in order of the path.
        unattributed_ms: What no stage accounts for.
        excess_ms: What services reported beyond the windows in which they were waited for; in no stage.
        attribution_violations: Rules of the attribution that the turn breaks, as far as they were checked.
        hops: The transport stage by hop.
        underrun_stages: `underrun_ms` as the gateway saw it, by the stage to blame.
        chunks: The chunks, in order.
        reply_cache: "hit", "similar" (that to another prompt), "miss" or "off".
        input_tokens: Tokens of the prompt.
        output_tokens: Tokens of the reply.
        cached_tokens: Those of `input_tokens` that the provider had in its cache.
        characters: Characters given to engines.
        engine_ms: How long engines were busy with the turn.
        cost: What the turn cost, by part, and what the caches saved.
        provider: Who answered, or made the cached reply.
        model: Its model, as it names it.
        prompt_variant: The named system prompt; "" for one of the caller's own, or a text that a flag gave
            (`variants` has which).
        variants: Feature flags that had a say in the turn, and the variant that each gave it.
        began_unix_us: Time of day at the gateway when the times begin, in microseconds since 1970.

    """

    turn_id: str
    session_id: str = ""
    trace_id: str = ""
    prompt: str = ""
    text: str = ""
    outcome: str = FAILED
    error: VoiceMeshError | None = None
    ttft_ms: float = 0.0
    ttfa_ms: float = 0.0
    ttfa_audible_ms: float = 0.0
    total_ms: float = 0.0
    head_start_ms: float = 0.0
    audio_ms: float = 0.0
    underruns: int = 0
    underrun_ms: float = 0.0
    degraded: tuple[str, ...] = ()
    degraded_why: tuple[str, ...] = ()
    failovers: tuple[str, ...] = ()
    stages: Mapping[Stage, float] = field(default_factory=no_stages)
    unattributed_ms: float = 0.0
    excess_ms: float = 0.0
    attribution_violations: tuple[str, ...] = ()
    hops: Mapping[str, float] = field(default_factory=dict)
    underrun_stages: Mapping[Stage, float] = field(default_factory=dict)
    chunks: tuple[ChunkReport, ...] = ()
    reply_cache: str = "off"
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    characters: int = 0
    engine_ms: float = 0.0
    cost: Cost = field(default_factory=Cost)
    provider: str = ""
    model: str = ""
    prompt_variant: str = ""
    variants: Mapping[str, str] = field(default_factory=dict)
    began_unix_us: int = 0

    @property
    def leading_silence_ms(self) -> float:
        """Silence at the start of the audio, behind `ttfa_ms`."""
        return max(self.ttfa_audible_ms - self.ttfa_ms, 0.0)

    @property
    def cost_usd(self) -> float | None:
        """What was paid; None where something has no price."""
        return None if self.cost.unpriced else self.cost.total_usd

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: stable names, every field and every stage always there, times in ms."""
        error = self.error
        return {
            "turn_id": self.turn_id,
            "trace_id": self.trace_id,
            "began_unix_us": self.began_unix_us,
            "prompt": self.prompt,
            "text": self.text,
            "outcome": self.outcome,
            "error": error and _error_to_json(error),
            "ttft_ms": rounded(self.ttft_ms),
            "ttfa_ms": rounded(self.ttfa_ms),
            "ttfa_audible_ms": rounded(self.ttfa_audible_ms),
            "total_ms": rounded(self.total_ms),
            "audio_ms": rounded(self.audio_ms),
            "underruns": self.underruns,
            "underrun_ms": rounded(self.underrun_ms),
            "degraded": list(self.degraded),
            "stages": stages_to_json(self.stages),
            "unattributed_ms": rounded(self.unattributed_ms),
            "chunks": [chunk.to_json() for chunk in self.chunks],
            "reply_cache": self.reply_cache,
            "tokens": {
                "input": self.input_tokens,
                "output": self.output_tokens,
                "cached": self.cached_tokens,
            },
            "characters": self.characters,
            "engine_ms": rounded(self.engine_ms),
            "cost_usd": self.cost_usd,
            "cost": self.cost.to_json(),
            "model": "/".join(name for name in (self.provider, self.model) if name),
            "prompt_variant": self.prompt_variant,
            "variants": dict(self.variants),
            "leading_silence_ms": rounded(self.leading_silence_ms),
            "hops": {hop: rounded(duration_ms) for hop, duration_ms in self.hops.items()},
            "underrun_stages": {
                stage.value: rounded(late_ms) for stage, late_ms in self.underrun_stages.items()
            },
            "excess_ms": rounded(self.excess_ms),
            "attribution_violations": list(self.attribution_violations),
            "degraded_why": list(self.degraded_why),
            "failovers": list(self.failovers),
        }


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What the caller saw of a turn. Times are in microseconds since it asked; None: did not come.

    Attributes:
        prompt: What it asked.
        text: The text that came, or that it gave.
        ttft_us: To the first text.
        ttfa_us: To the first frame.
        total_us: To the end.
        audio_us: How long the audio that came lasts; None where that cannot be told from its size.
        underruns: Times that its player would have run dry.
        underrun_us: For how long in sum.
        first_frame_us: Chunk index to its first frame.

    """

    prompt: str
    text: str
    ttft_us: int | None
    ttfa_us: int | None
    total_us: int
    audio_us: int | None
    underruns: int
    underrun_us: int
    first_frame_us: Mapping[int, int]


def report_from_proto(message: gateway_pb2.TurnReport) -> TurnReport:
    """Read a report with the times that the gateway saw."""
    cache = CACHE_OUTCOMES.get(message.reply_cache, "")
    return TurnReport(
        turn_id=message.turn_id,
        session_id=message.session_id,
        trace_id=message.trace_id,
        text=message.text,
        outcome=OUTCOMES.get(message.outcome) or FAILED,
        error=from_status(message.error) if message.HasField("error") else None,
        ttft_ms=message.ttft_us / 1000,
        ttfa_ms=message.ttfa_us / 1000,
        ttfa_audible_ms=(message.ttfa_us + message.leading_silence_us) / 1000 if message.ttfa_us else 0.0,
        total_ms=message.total_us / 1000,
        head_start_ms=message.head_start_us / 1000,
        audio_ms=message.audio_us / 1000,
        underruns=message.underruns,
        underrun_ms=message.underrun_us / 1000,
        degraded=tuple(DEGRADATIONS.get(what, "") for what in message.degraded),
        degraded_why=tuple(message.degraded_why),
        failovers=tuple(failover.service for failover in message.failovers),
        stages=stages_from_proto(message.stages),
        unattributed_ms=message.unattributed_us / 1000,
        excess_ms=message.excess_us / 1000,
        attribution_violations=tuple(message.attribution_violations),
        underrun_stages={
            Stage(name): late.duration_us / 1000
            for late in message.underrun_stages
            if (name := STAGES.get(late.stage))
        },
        hops=hops_from_proto(message.hops),
        chunks=tuple(chunk_from_proto(chunk) for chunk in message.chunks),
        reply_cache="off" if not cache else cache if cache in ("miss", "similar") else "hit",
        input_tokens=message.usage.input_tokens,
        output_tokens=message.usage.output_tokens,
        cached_tokens=message.usage.cached_input_tokens,
        characters=message.characters,
        engine_ms=message.engine_us / 1000,
        cost=cost_from_proto(message.cost),
        provider=message.provider,
        model=message.model,
        prompt_variant=message.prompt_variant,
        variants=dict(message.variants),
        began_unix_us=message.began_unix_us,
    )


def as_observed(report: TurnReport, seen: Observed) -> TurnReport:
    """Return `report` with the times that the caller saw.

    The caller sees the first frame later than the gateway sends it; the difference joins the
    transport stage (hop "caller"), so that the stages and `unattributed_ms` still add up to
    `ttfa_ms`. Without a first frame there is no time to cut: every stage is 0.
    """
    stages, hops = dict(report.stages), dict(report.hops)
    unattributed_ms = report.unattributed_ms
    ttfa_ms = ms(seen.ttfa_us)
    if seen.ttfa_us is None:
        stages, hops, unattributed_ms = no_stages(), {}, 0.0
    elif not report.ttfa_ms:
        # The stream broke before the gateway could give its account.
        stages, hops, unattributed_ms = no_stages(), {}, ttfa_ms
    else:
        on_the_way_ms = ttfa_ms - report.ttfa_ms
        # Below zero only where the gateway looked at its clock after the frame had arrived.
        hops[CALLER_HOP] = hops.get(CALLER_HOP, 0.0) + max(on_the_way_ms, 0.0)
        stages[Stage.TRANSPORT] += max(on_the_way_ms, 0.0)
        unattributed_ms += min(on_the_way_ms, 0.0)
    silence_ms = report.leading_silence_ms
    return replace(
        report,
        prompt=seen.prompt,
        text=report.text or seen.text,
        ttft_ms=ms(seen.ttft_us),
        ttfa_ms=ttfa_ms,
        ttfa_audible_ms=ttfa_ms + silence_ms if seen.ttfa_us is not None else 0.0,
        total_ms=ms(seen.total_us),
        audio_ms=report.audio_ms if seen.audio_us is None else ms(seen.audio_us),
        underruns=seen.underruns,
        underrun_ms=ms(seen.underrun_us),
        stages=stages,
        unattributed_ms=unattributed_ms,
        hops=hops,
        chunks=tuple(
            replace(chunk, first_frame_ms=ms(seen.first_frame_us.get(chunk.index))) for chunk in report.chunks
        ),
    )


def _error_to_json(error: VoiceMeshError) -> dict[str, str]:
    return {
        "code": error.code,
        "reason": error.reason,
        "limit": error.limit,
        "message": error.message,
    }
