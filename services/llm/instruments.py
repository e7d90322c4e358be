"""What the LLM service measures. `docs/metrics.md` says it for people, and is made from this."""

from collections.abc import Mapping
from typing import Final

from voicemesh.runtime.instruments import Declared, Instrument, Kind, Values

_ERRORS: Final = (
    "LLM_UNAVAILABLE",
    "LLM_RATE_LIMITED",
    "LLM_KEY_REFUSED",
    "LLM_REQUEST_REFUSED",
    "UNKNOWN_MODEL",
    "DEADLINE_EXCEEDED",
)
_CHAT: Final[Mapping[str, Values]] = {
    "gen_ai.operation.name": ("chat",),
    "gen_ai.provider.name": Declared(6),
    "gen_ai.request.model": Declared(8),
}
DURATION: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="gen_ai.client.operation.duration",
    unit="s",
    description="Of a question to a provider, until its answer ended or failed; not of what was cancelled.",
    labels={**_CHAT, "error.type": _ERRORS},
    buckets=(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
TO_FIRST_CHUNK: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="gen_ai.client.operation.time_to_first_chunk",
    unit="s",
    description="From a question to the first text of a reply that was told.",
    labels=_CHAT,
    buckets=(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
TOKENS: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="gen_ai.client.token.usage",
    unit="{token}",
    description="Tokens of a question and of its answer, where the provider told them.",
    labels={**_CHAT, "gen_ai.token.type": ("input", "output")},
    buckets=(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864),
)
RETRIES: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.llm.retries",
    unit="{retry}",
    description="Questions to a provider that had just failed, by why it had.",
    labels={"provider": Declared(16), "error.type": _ERRORS},
)
FAILOVERS: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.llm.failovers",
    unit="{failover}",
    description="Questions to another provider, because one before it failed or was left alone.",
)
HEDGES: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.llm.hedges",
    unit="{hedge}",
    description="First texts that were late and asked of a second provider, by whether that was faster.",
    labels={"won": ("true", "false")},
)
CONTINUATIONS: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.llm.continuations",
    unit="{continuation}",
    description="Replies that broke off behind their first text and went on.",
)
