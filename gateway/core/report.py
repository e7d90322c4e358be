"""The account of a turn."""

from dataclasses import dataclass, field

from gateway.core.failovers import Failover
from gateway.core.values import Usage
from voicemesh.stages import STAGES


@dataclass(frozen=True, slots=True)
class Underrun:
    """The player had nothing to play. Durations in microseconds."""

    at_us: int
    """Prompt to its end: the next frame."""
    duration_us: int
    cause: str
    """The stage that took most of it; "" where the turn was held by design all the time."""


@dataclass(frozen=True, slots=True)
class ChunkPath:
    """Where the time to a chunk's first frame went. Durations in microseconds.

    `sum(stages.values()) + paced_us + unattributed_us == length_us`, exactly.
    """

    began_us: int
    """Prompt to where it begins."""
    length_us: int
    stages: dict[str, int]
    hops: dict[str, int]
    """The stage `transport` by the service at the other end."""
    paced_us: int = 0
    """It waited by design: enough audio was in hand, or the chunks before it came first."""
    unattributed_us: int = 0
    excess_us: int = 0
    """What services reported beyond the windows in which they were waited for; in no stage."""


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
    """Of the turn's first frame, to where it was handed to the caller's stream, as the time to first audio
    is; of later chunks, to where it was queued for the caller."""
    audio_us: int = 0
    queue_us: int = 0
    synthesis_us: int = 0
    engine_us: int = 0
    """How long engines were busy with it."""
    path: ChunkPath | None = None
    """The way of its first frame; None where it has no audio."""
    slack_us: int | None = None
    """Audio in hand when its first frame was queued, below zero where the player was dry for so long; None
    for the first chunk that was heard, and for one without audio."""
    underruns: int = 0
    """Those that ended with a frame of this chunk."""
    underrun_us: int = 0
    underrun_stages: dict[str, int] = field(default_factory=dict)
    """`underrun_us` by the stage to blame; what is missing was by design."""
    underrun_list: list[Underrun] = field(default_factory=list)
    """Each of them, as far as they are kept."""

    @property
    def underrun_cause(self) -> str:
        """The stage that most of `underrun_us` is to be blamed on; "": none."""
        return max(self.underrun_stages, key=self.underrun_stages.__getitem__, default="")


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
    excess_us: int = 0
    """What services reported beyond the windows in which they were waited for; in no stage."""

    @property
    def path(self) -> ChunkPath | None:
        """The same as the path of the chunk that the first frame belongs to; None where nothing was sent."""
        if not self.stages:
            return None
        return ChunkPath(
            began_us=0,
            length_us=self.ttfa_us,
            stages=self.stages,
            hops=self.hops,
            unattributed_us=self.unattributed_us,
            excess_us=self.excess_us,
        )


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
    priority: int = 0
    """As the contract numbers them."""
    prompt_variant: str = ""
    """The named system prompt that it was made with; "" for one of the caller's own."""
    degraded_why: tuple[str, ...] = ()
    """Why each of `degraded` was given up, in words; "" where nobody said."""
    failovers: tuple[Failover, ...] = ()
    """Streams that broke off and were opened anew, in order."""

    @property
    def engine_us(self) -> int:
        """How long engines were busy with the turn, as far as was told before its end."""
        return sum(chunk.engine_us for chunk in self.chunks)

    @property
    def underrun_stages(self) -> dict[str, int]:
        """`underrun_us` by the stage to blame, in the order of the path; what is missing was by design."""
        found: dict[str, int] = {}
        for chunk in self.chunks:
            for stage, late_us in chunk.underrun_stages.items():
                found[stage] = found.get(stage, 0) + late_us
        return {stage: found[stage] for stage in STAGES if stage in found}
