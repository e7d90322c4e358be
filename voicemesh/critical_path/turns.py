"""A turn as the analysis takes it, wherever it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from voicemesh.stages import STAGES

UNATTRIBUTED: Final = "unattributed"
SPEAKING: Final = "speaking"
"""From the first audio to the end of the turn: the part of its whole time that is no stage."""
PARTS: Final = (*(stage.value for stage in STAGES), UNATTRIBUTED, SPEAKING)
"""What the time of a turn is cut into, in order of the path."""

ASKED: Final = "the model wrote the reply"
CACHED: Final = "the reply was cached"
OWN_WORDS: Final = "the caller brought the words"
KINDS: Final = (ASKED, CACHED, OWN_WORDS)
"""Turns that can be compared with one another: each has a path of its own."""

_HITS: Final = frozenset({"hit", "memory", "redis", "shared", "similar"})


@dataclass(frozen=True, slots=True)
class FirstChunk:
    """The chunk that the first audio belongs to.

    Attributes:
        reason: Why it was cut there, as in `voicemesh.client.ChunkReport`; "" where that is not known.
        cache: Where its audio came from: "memory", "redis", "shared", "miss"; "" where that is not known.
        audio_ms: How long it is; 0 where that is not known.

    """

    reason: str = ""
    cache: str = ""
    audio_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that ended. Times in milliseconds since the prompt.

    Attributes:
        turn_id: The turn.
        outcome: "completed", "interrupted" or "failed".
        ttfa_ms: To the first frame; 0 where there was none.
        total_ms: To the end; 0 where that is not known.
        stages: What `ttfa_ms` was spent on, by the names of `voicemesh.stages`; missing ones took nothing.
        unattributed_ms: What no stage accounts for.
        hops: The stage `transport` by hop; empty where that is not known.
        began_unix_us: Time of day when it began, in microseconds since 1970; 0 where that is not known.
        trace_id: Its trace; "" for none.
        tenant: Whose it is.
        own_words: True where no model was asked: the caller brought the words.
        reply_cache: "off", "miss", or where the reply came from: "hit", "memory", "redis", "similar".
        provider: Who answered, and with which model; "" where that is not known.
        first: The chunk of the first audio; None where that is not known.
        audio_ms: How long its audio lasts.
        underruns: Times that the player ran dry.
        underrun_ms: For how long in sum.
        underrun_stages: `underrun_ms` by the stage to blame; what is missing is nobody's, or not known.
        degraded: What was given up.
        retried: The model was asked again.
        failed_over: Another model answered than the first.

    """

    turn_id: str
    outcome: str
    ttfa_ms: float
    total_ms: float
    stages: Mapping[str, float]
    unattributed_ms: float = 0.0
    hops: Mapping[str, float] = field(default_factory=dict)
    began_unix_us: int = 0
    trace_id: str = ""
    tenant: str = ""
    own_words: bool = False
    reply_cache: str = "off"
    provider: str = ""
    first: FirstChunk | None = None
    audio_ms: float = 0.0
    underruns: int = 0
    underrun_ms: float = 0.0
    underrun_stages: Mapping[str, float] = field(default_factory=dict)
    degraded: tuple[str, ...] = ()
    retried: bool = False
    failed_over: bool = False

    @property
    def kind(self) -> str:
        """What it can be compared with: one of `KINDS`."""
        if self.reply_cache in _HITS:
            return CACHED
        return OWN_WORDS if self.own_words else ASKED

    def parts(self) -> tuple[float, ...]:
        """Return its time by part, in the order of `PARTS`; the last one is 0 where the end is not known."""
        speaking_ms = max(self.total_ms - self.ttfa_ms, 0.0) if self.total_ms else 0.0
        return (*(self.stages.get(stage, 0.0) for stage in STAGES), self.unattributed_ms, speaking_ms)
