"""The account of a chunk: what it waited for, and where its first frame's time went."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from voicemesh.client.names import CACHE_OUTCOMES, CHUNK_REASONS, STAGES
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2
from voicemesh.stages import STAGES as STAGES_IN_ORDER
from voicemesh.stages import Stage


def no_stages() -> dict[Stage, float]:
    """Return every stage with no time in it, in order."""
    return dict.fromkeys(STAGES_IN_ORDER, 0.0)


@dataclass(frozen=True, kw_only=True)
class Underrun:
    """The player had nothing to play.

    Attributes:
        at_ms: Prompt to its end, which is the next frame, in milliseconds.
        duration_ms: How long it lasted, in milliseconds.
        cause: The stage that took most of that time; None where the turn was held by design.

    """

    at_ms: float
    duration_ms: float
    cause: Stage | None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"at_ms": rounded(self.at_ms), "duration_ms": rounded(self.duration_ms), "cause": self.cause}


@dataclass(frozen=True, kw_only=True)
class ChunkReport:
    """The account of one chunk.

    Attributes:
        index: Position in the turn, from 0.
        text: What was said.
        reason: Why it was cut there: "sentence", "clause", "phrase", "words", "limit", "deadline" or "flush".
        held_ms: How long the chunker held it, in milliseconds.
        cache: Where its audio came from: "memory", "redis", "shared", or "miss" for audio that was made.
        first_frame_ms: Prompt to its first frame, in milliseconds; 0 where there was none. As the gateway
            saw it, that is `path_began_ms + path_ms`, and for the turn's first frame `ttfa_ms` of the turn;
            as the caller saw it, when the frame arrived.
        audio_ms: Its audio, in milliseconds.
        queue_ms: How long it waited for a replica, in milliseconds.
        synthesis_ms: Replica to first frame, in milliseconds.
        stages: The path of its first frame by stage, in milliseconds: with `paced_ms` and `unattributed_ms`
            they add up to `path_ms`. That of the turn's first frame is the turn's; that of a later one begins
            where the text of the chunk before it was complete.
        paced_ms: What it waited by design: enough audio was in hand, or the chunks before it came first.
        unattributed_ms: What nothing of the path accounts for.
        hops: The transport stage of the path by hop.
        path_began_ms: Prompt to where the path begins.
        path_ms: The path, up to when the gateway queued the first frame, or for the turn's first frame,
            handed it to the caller's stream.
        slack_ms: Audio in hand when its first frame was queued; below zero: the player was dry for that long.
            None for the first chunk that was heard, and for one without audio.
        underruns: Underruns that ended with a frame of it, as the gateway saw them.
        underrun_ms: For how long in sum.
        underrun_cause: The stage that most of that is to be blamed on; None where none is.
        underrun_list: Each of them, as far as the gateway kept them.

    """

    index: int
    text: str
    reason: str
    held_ms: float
    cache: str
    first_frame_ms: float
    audio_ms: float
    queue_ms: float = 0.0
    synthesis_ms: float = 0.0
    stages: Mapping[Stage, float] = field(default_factory=no_stages)
    paced_ms: float = 0.0
    unattributed_ms: float = 0.0
    hops: Mapping[str, float] = field(default_factory=dict)
    path_began_ms: float = 0.0
    path_ms: float = 0.0
    slack_ms: float | None = None
    underruns: int = 0
    underrun_ms: float = 0.0
    underrun_cause: Stage | None = None
    underrun_list: tuple[Underrun, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "index": self.index,
            "text": self.text,
            "reason": self.reason,
            "held_ms": rounded(self.held_ms),
            "cache": self.cache,
            "first_frame_ms": rounded(self.first_frame_ms),
            "audio_ms": rounded(self.audio_ms),
            "queue_ms": rounded(self.queue_ms),
            "synthesis_ms": rounded(self.synthesis_ms),
            "stages": stages_to_json(self.stages),
            "paced_ms": rounded(self.paced_ms),
            "unattributed_ms": rounded(self.unattributed_ms),
            "hops": {hop: rounded(duration_ms) for hop, duration_ms in self.hops.items()},
            "path_began_ms": rounded(self.path_began_ms),
            "path_ms": rounded(self.path_ms),
            "slack_ms": None if self.slack_ms is None else rounded(self.slack_ms),
            "underruns": self.underruns,
            "underrun_ms": rounded(self.underrun_ms),
            "underrun_cause": self.underrun_cause,
            "underrun_list": [underrun.to_json() for underrun in self.underrun_list],
        }


def chunk_from_proto(message: gateway_pb2.ChunkReport) -> ChunkReport:
    """Read the account of a chunk."""
    return ChunkReport(
        index=message.index,
        text=message.text,
        reason=CHUNK_REASONS.get(message.reason, ""),
        held_ms=message.held_us / 1000,
        cache=CACHE_OUTCOMES.get(message.cache) or "miss",
        first_frame_ms=message.first_frame_us / 1000,
        audio_ms=message.audio_us / 1000,
        queue_ms=message.queue_us / 1000,
        synthesis_ms=message.synthesis_us / 1000,
        stages=stages_from_proto(message.stages),
        paced_ms=message.paced_us / 1000,
        unattributed_ms=message.unattributed_us / 1000,
        hops=hops_from_proto(message.hops),
        path_began_ms=message.path_began_us / 1000,
        path_ms=message.path_us / 1000,
        slack_ms=message.slack_us / 1000 if message.HasField("slack_us") else None,
        underruns=message.underruns,
        underrun_ms=message.underrun_us / 1000,
        underrun_cause=_stage(message.underrun_cause),
        underrun_list=tuple(
            Underrun(
                at_ms=underrun.at_us / 1000,
                duration_ms=underrun.duration_us / 1000,
                cause=_stage(underrun.cause),
            )
            for underrun in message.underrun_list
        ),
    )


def _stage(number: common_pb2.Stage.ValueType) -> Stage | None:
    name = STAGES.get(number)  # a later version may know more
    return Stage(name) if name else None


def stages_from_proto(durations: Iterable[common_pb2.StageDuration]) -> dict[Stage, float]:
    """Read the durations of stages; those that are not told are 0."""
    stages = no_stages()
    for duration in durations:
        stage = _stage(duration.stage)
        if stage is not None:
            stages[stage] += duration.duration_us / 1000
    return stages


def hops_from_proto(hops: Iterable[gateway_pb2.HopDuration]) -> dict[str, float]:
    """Read transport by hop."""
    return {hop.hop: hop.duration_us / 1000 for hop in hops}


def stages_to_json(stages: Mapping[Stage, float]) -> dict[str, float]:
    """Return every stage by its name, in order."""
    return {stage.value: rounded(stages.get(stage, 0.0)) for stage in STAGES_IN_ORDER}


def ms(microseconds: int | None) -> float:
    """Return milliseconds; 0 for what did not come."""
    return (microseconds or 0) / 1000


def rounded(milliseconds: float) -> float:
    """Round to whole microseconds, as they were measured."""
    return round(milliseconds, 3)
