"""What the gateway measures of turns. `docs/metrics.md` says it for people, and is made from this."""

from typing import Final

from gateway.core.invariant import Rule
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.instruments import DURATION_S, LATENCY_S, Declared, Instrument, Kind
from voicemesh.runtime.status import known_reasons
from voicemesh.stages import STAGES

KINDS: Final = ("prompt", "text", "background")
"""Who answers, the LLM or the caller; `background` where nobody listens as it comes: a batch, warming."""
CACHE_RESULTS: Final = ("memory", "redis", "shared", "similar", "miss")
_STAGES: Final = tuple(str(stage) for stage in STAGES)
_REASONS: Final = tuple(sorted(known_reasons()))
_DEGRADATIONS: Final = tuple(
    name.removeprefix("DEGRADATION_").lower() for name, number in pb.Degradation.items() if number
)
_TENANT: Final = {"voicemesh.tenant": Declared(8)}
"""Only those that `VOICEMESH_GATEWAY_METRICS_TENANTS` lists; missing where it lists none."""

TURNS: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.turns",
    unit="{turn}",
    description="Turns that ended; error.type is the reason of those that failed.",
    labels={
        "outcome": ("completed", "interrupted", "failed", "discarded"),
        "kind": KINDS,
        "error.type": _REASONS,
    },
)
ACTIVE: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.turn.active",
    unit="{turn}",
    description="Turns that run now.",
)
REFUSALS: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.turn.refusals",
    unit="{turn}",
    description="Turns that could not begin, by reason; they are not among voicemesh.turns.",
    labels={"error.type": _REASONS},
)
ACCESS_REFUSALS: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.access.refusals",
    unit="{call}",
    description="Calls that were refused at the edges: without a good key or token, or not allowed by it.",
    labels={"error.type": ("PERMISSION_DENIED", "TOO_MANY_CALLS", "UNAUTHENTICATED")},
)
ADMISSION_LIMIT: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.admission.limit",
    unit="{turn}",
    description="Turns that this gateway lets run at once, as it has learned of the mesh.",
)
ADMISSION_PLACES: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.admission.places",
    unit="{turn}",
    description="Turns that run, by what they cost: one that is given from the cache counts a tenth.",
)
ADMISSION_LATENESS: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.admission.lateness",
    unit="s",
    description="How late load made the audio of turns, but for the latest, when that was last judged.",
)
ADMISSION_CUTS: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.admission.cuts",
    unit="{cut}",
    description="Times that the limit was lowered.",
)
ADMISSION_STEPS: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.admission.steps",
    unit="{step}",
    description="Steps of VOICEMESH_GATEWAY_BROWNOUT that are taken now.",
)
BARGE_INS: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.turn.barge_ins",
    unit="{turn}",
    description="Turns that their caller spoke over: by an interrupt, or by the next prompt.",
)
DURATION: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.turn.duration",
    unit="s",
    description="Prompt to the end of the turn: last frame queued, or interrupted.",
    labels={"outcome": ("completed", "interrupted", "failed"), "kind": KINDS},
    buckets=DURATION_S,
)
FIRST_AUDIO: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.turn.time_to_first_audio",
    unit="s",
    description="Prompt to the first frame (TTFA), of turns that somebody listens to.",
    labels={"kind": KINDS, "reply_cache": ("off", *CACHE_RESULTS), **_TENANT},
    buckets=LATENCY_S,
)
FIRST_TOKEN: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.turn.time_to_first_token",
    unit="s",
    description="Prompt to the first text of a reply that the LLM wrote (TTFT), at the gateway.",
    buckets=LATENCY_S,
)
LEADING_SILENCE: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.turn.leading_silence",
    unit="s",
    description="First sample to the first sample above silence; behind the TTFA, not in it.",
    buckets=LATENCY_S,
)
STAGE: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.turn.stage.duration",
    unit="s",
    description="A stage of the TTFA, of turns that went through it.",
    labels={"stage": _STAGES},
    buckets=LATENCY_S,
)
UNATTRIBUTED: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.turn.unattributed",
    unit="s",
    description="How far the stages of a TTFA are from it, in either direction.",
    buckets=LATENCY_S,
)
SLO: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.turn.slo",
    unit="{turn}",
    description="Turns by whether their TTFA met VOICEMESH_GATEWAY_TTFA_OBJECTIVE_MS.",
    labels={"met": ("true", "false"), **_TENANT},
)
OBJECTIVE: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.turn.time_to_first_audio.objective",
    unit="s",
    description="VOICEMESH_GATEWAY_TTFA_OBJECTIVE_MS, for who draws it beside the TTFA.",
)
UNDERRUNS: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.turn.underruns",
    unit="{underrun}",
    description="Times that a player which starts at the first frame ran dry, by the stage to blame, if any.",
    labels={"stage": _STAGES},
)
UNDERRUN: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.turn.underrun.duration",
    unit="s",
    description="How long it was dry each time, by the stage to blame, if any.",
    labels={"stage": _STAGES},
    buckets=LATENCY_S,
)
DEGRADATIONS: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.turn.degradations",
    unit="{turn}",
    description="Turns that gave something up, by what.",
    labels={"what": _DEGRADATIONS},
)
FAILOVERS: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.turn.failovers",
    unit="{failover}",
    description="Streams of turns that broke off and were opened anew at another process, by service.",
    labels={"voicemesh.peer": ("llm", "chunker", "tts")},
)
AUDIO: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.turn.audio",
    unit="s",
    description="Audio that was sent to callers.",
    labels={"kind": KINDS, **_TENANT},
)
CHARACTERS: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.turn.characters",
    unit="{character}",
    description="Characters that engines were asked to speak.",
    labels=_TENANT,
)
COST: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.turn.cost",
    unit="USD",
    description="What turns cost, as far as there are prices.",
    labels={"part": ("llm", "speech"), **_TENANT},
)
SAVED: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.turn.saved",
    unit="USD",
    description="What turns would have cost more without the caches of the mesh.",
    labels=_TENANT,
)
VIOLATIONS: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.turn.attribution.violations",
    unit="{violation}",
    description="Turns whose stages do not add up, by the rule that is broken.",
    labels={"rule": tuple(rule.value for rule in Rule)},
)
LOOKUPS: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.cache.lookups",
    unit="{lookup}",
    description="What turns asked the cache for, and where it was.",
    labels={"kind": ("reply", "audio"), "result": CACHE_RESULTS},
)
