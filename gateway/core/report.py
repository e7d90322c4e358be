"""The account of a turn."""

from dataclasses import dataclass, field

from gateway.core.values import Usage


@dataclass(slots=True)
class ChunkAccount:
    """The account of one chunk; durations in microseconds, `first_frame_us` from the prompt."""

    index: int
    text: str
    reason: str
    held_us: int
    cache: str = "off"
    """`off`, `miss`, `memory`, `redis` or `shared`."""
    first_frame_us: int = 0
    audio_us: int = 0
    queue_us: int = 0
    synthesis_us: int = 0
    engine_us: int = 0
    """How long engines were busy with it."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where the time to first audio went. Durations in microseconds.

    `sum(stages.values()) + unattributed_us == ttfa_us`, exactly.
    """

    ttfa_us: int = 0
    stages: dict[str, int] = field(default_factory=dict)
    hops: dict[str, int] = field(default_factory=dict)
    """The stage `transport` by the service at the other end."""
    unattributed_us: int = 0


@dataclass(frozen=True, slots=True)
class TurnReport:
    """The whole account of a turn. Durations in microseconds from the prompt's arrival."""

    turn_id: str
    session_id: str
    outcome: str
    """`completed`, `interrupted`, `failed`, or `discarded` for a draft of which nobody is told."""
    text: str
    ttft_us: int
    attribution: Attribution
    leading_silence_us: int
    total_us: int
    audio_us: int
    underruns: int
    underrun_us: int
    degraded: tuple[str, ...]
    chunks: tuple[ChunkAccount, ...]
    reply_cache: str
    """`off`, `miss`, `memory` or `redis`."""
    usage: Usage | None
    characters: int
    heard: str
    """The text as far as it was heard: what the history keeps."""
    error: Exception | None
    tenant: str = ""
    variants: tuple[tuple[str, str], ...] = ()
    """Feature flags that had a say in the turn, and the variant that each gave it."""
    head_start_us: int = 0
    """How long before its confirmation a draft came, which is where durations begin; 0: it was none."""
    also_billed: tuple[Usage, ...] = ()
    """What else was asked for the reply and is billed: hedges, attempts that broke off."""
    cached_usage: Usage | None = None
    """What a reply from the cache consumed when it was made."""
    prompt_variant: str = ""
    """The named system prompt that it was made with; "" for one of the caller's own."""

    @property
    def engine_us(self) -> int:
        """How long engines were busy with the turn, as far as was told before its end."""
        return sum(chunk.engine_us for chunk in self.chunks)
