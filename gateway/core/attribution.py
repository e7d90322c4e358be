"""Cuts a turn's time to first audio into the stages of `voicemesh.stages`.

A cursor walks along the critical path of the first frame, on the gateway's clock alone. Each step
takes the time up to the next mark and gives it to a stage:

    received ─admission─ admitted ─call─ history ─gateway─ ─call─ reply cache ─gateway─ ─call─ first delta
      ─llm_text─ delta that completes the chunk ─call─ chunk ─gateway─ ─call─ audio cache ─gateway─
      ─tts_synthesis, if another turn has it made─ ─call─ first frame made ─gateway─ first frame sent

A *call* is a window between a message that went out and the one that answers it. What the answer
says the service took goes to that service's stages; the rest of the window is `transport`, so no two
clocks are ever compared. Where services report more than the window holds, transport is 0 and the
excess is a negative `unattributed`; where a mark is missing, what it would explain is a positive one.
Either is shown, not hidden.

A draft that was confirmed counts from its confirmation: what happened before takes nothing, and of a
call that was under way, the part behind it counts.
"""

from dataclasses import dataclass

from gateway.core.report import Attribution
from voicemesh.stages import STAGES, Stage


@dataclass(slots=True)
class ChunkMarks:
    """Times of one chunk on the gateway's clock, in nanoseconds; 0 where a step did not happen."""

    needed_ns: int = 0
    """Arrival of the text that completed the chunk."""
    fed_ns: int = 0
    """That text was given to the chunker."""
    cut_ns: int = 0
    """Arrival of the chunk."""
    held_us: int = 0
    looked_up_ns: int = 0
    """The audio cache was asked."""
    cache_answered_ns: int = 0
    cache_us: int = 0
    followed_ns: int = 0
    """The first audio came that another turn is having made; or nobody is making it any more."""
    asked_ns: int = 0
    """The TTS service was asked."""
    first_frame_ns: int = 0
    """Arrival of the chunk's first frame."""
    queue_us: int = 0
    synthesis_us: int = 0


@dataclass(slots=True)
class TurnMarks:
    """Times of a turn up to its chunks, in nanoseconds; 0 where a step did not happen."""

    received_ns: int
    admitted_ns: int = 0
    history_asked_ns: int = 0
    history_answered_ns: int = 0
    history_us: int = 0
    reply_asked_ns: int = 0
    reply_answered_ns: int = 0
    reply_us: int = 0
    llm_asked_ns: int = 0
    first_text_ns: int = 0
    connect_us: int = 0
    ttft_us: int = 0
    first_frame_sent_ns: int = 0


class _Cursor:
    def __init__(self, start_ns: int) -> None:
        self.start_ns = self.at_ns = start_ns
        self.stages: dict[str, int] = dict.fromkeys(STAGES, 0)  # nanoseconds until the end
        self.hops: dict[str, int] = {}
        self.unattributed_ns = 0

    def spend(self, stage: Stage, until_ns: int) -> None:
        """Give the time up to `until_ns` to `stage`; a mark that is past, or 0, takes nothing."""
        if until_ns > self.at_ns:
            self.stages[stage] += until_ns - self.at_ns
            self.at_ns = until_ns

    def call(self, hop: str, asked_ns: int, answered_ns: int, reported_us: dict[Stage, int]) -> None:
        """Cross the window of a call; does nothing for one that was not made."""
        if not asked_ns or answered_ns < self.at_ns:
            return
        self.spend(Stage.GATEWAY, asked_ns)
        transport_ns = answered_ns - self.at_ns
        over_ns = max(0, self.start_ns - asked_ns)  # this much of the work was done before the time began
        for stage, duration_us in reported_us.items():
            early_ns = min(over_ns, duration_us * 1000)
            over_ns -= early_ns
            self.stages[stage] += duration_us * 1000 - early_ns
            transport_ns -= duration_us * 1000 - early_ns
        if transport_ns >= 0:
            self.stages[Stage.TRANSPORT] += transport_ns
            self.hops[hop] = self.hops.get(hop, 0) + transport_ns
        else:
            self.unattributed_ns += transport_ns
        self.at_ns = answered_ns


def attribute(turn: TurnMarks, chunk: ChunkMarks) -> Attribution:
    """Return where the time from `turn.received_ns` to `turn.first_frame_sent_ns` went.

    `chunk` is the chunk that the first frame belongs to. Nanoseconds are rounded down to
    microseconds stage by stage; what the rounding takes is given to the gateway's stage, so that the
    sum is exact.
    """
    cursor = _Cursor(turn.received_ns)
    cursor.spend(Stage.ADMISSION, turn.admitted_ns)
    cursor.call("cache", turn.history_asked_ns, turn.history_answered_ns, {Stage.HISTORY: turn.history_us})
    cursor.call("cache", turn.reply_asked_ns, turn.reply_answered_ns, {Stage.REPLY_CACHE: turn.reply_us})
    cursor.call(
        "llm",
        turn.llm_asked_ns,
        turn.first_text_ns,
        {Stage.LLM_CONNECT: turn.connect_us, Stage.LLM_TTFT: turn.ttft_us},
    )
    cursor.spend(Stage.GATEWAY, turn.first_text_ns)
    cursor.spend(Stage.LLM_TEXT, chunk.needed_ns)
    cursor.call("chunker", chunk.fed_ns, chunk.cut_ns, {Stage.CHUNK_HOLD: chunk.held_us})
    cursor.call("cache", chunk.looked_up_ns, chunk.cache_answered_ns, {Stage.AUDIO_CACHE: chunk.cache_us})
    # Another turn's engine is at work: its queue is in it, too.
    cursor.spend(Stage.TTS_SYNTHESIS, chunk.followed_ns)
    cursor.call(
        "tts",
        chunk.asked_ns,
        chunk.first_frame_ns,
        {Stage.TTS_QUEUE: chunk.queue_us, Stage.TTS_SYNTHESIS: chunk.synthesis_us},
    )
    if chunk.first_frame_ns and cursor.at_ns == max(chunk.first_frame_ns, turn.received_ns):
        cursor.spend(Stage.GATEWAY, turn.first_frame_sent_ns)
    else:
        # No mark says where the frame came from: the rest is nobody's.
        cursor.unattributed_ns += max(0, turn.first_frame_sent_ns - cursor.at_ns)
    return _finish(cursor, turn)


def _finish(cursor: _Cursor, turn: TurnMarks) -> Attribution:
    ttfa_us = (turn.first_frame_sent_ns - turn.received_ns) // 1000
    stages = {stage: duration_ns // 1000 for stage, duration_ns in cursor.stages.items()}
    unattributed_us = -(-cursor.unattributed_ns // 1000)
    stages[Stage.GATEWAY] += ttfa_us - sum(stages.values()) - unattributed_us
    hops = {hop: duration_ns // 1000 for hop, duration_ns in cursor.hops.items()}
    return Attribution(ttfa_us=ttfa_us, stages=stages, hops=hops, unattributed_us=unattributed_us)
