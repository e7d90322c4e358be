"""Cuts the time to a chunk's first frame into the stages of `voicemesh.stages`.

A walk goes along the critical path of a frame, on the gateway's clock alone. Each step takes the time up
to the next mark and gives it to a stage; it begins where the step before it ended, so steps are
contiguous and never overlap, whatever marks come. That of the turn's first frame:

    received ─admission─ admitted ─call─ history ─gateway─ ─call─ reply cache ─gateway─ ─call─ first delta
      ─llm_text─ delta that completes the chunk ─call─ chunk ─gateway─ ─call─ audio cache ─gateway─
      ─tts_synthesis, if another turn has it made─ ─call─ first frame made ─gateway─ first frame sent

A later chunk's begins where the text of the last one heard before it was complete, and may wait by design:

    text of the one before ─llm_text─ delta that completes the chunk ─call─ chunk
      ─paced: enough is in hand, or it is not its turn─ ─call─ audio cache ─call─ first frame made
      ─behind: the chunk before it is not complete─ queued for the caller

A *call* is a window between a message that went out and the one that answers it. What the answer
says the service took goes to that service's stages; the rest of the window is `transport`, so no two
clocks are ever compared. Where services report more than the window holds, the window is all they get,
and the rest is `excess_us`; where a mark is missing, what it would explain is `unattributed`, and so is
the window of an LLM or TTS service that says nothing of what it took. All of it is shown, not hidden. A
lookup that was given up has no answer: its window is its stage's.

A draft that was confirmed counts from its confirmation: what happened before takes nothing, and of a
call that was under way, the part behind it counts.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.core.report import Attribution, ChunkPath
from voicemesh.stages import STAGES, Stage

PACED: Final = "paced"
"""Owner of time that a chunk waited by design, before its audio was asked for."""
BEHIND: Final = "behind"
"""The same while its audio was there, and that of the chunk before it was not all sent."""
NOBODY: Final = ""
"""Owner of time that no mark explains."""
_TELLING: Final = frozenset({"llm", "tts"})
"""Services that cannot do their work in no time: where one reports nothing, its window is nobody's."""


class Step(NamedTuple):
    """Time on a path, and whose it is: a stage, or one of the owners above."""

    owner: str
    hop: str
    """For transport: the service at the other end."""
    start_ns: int
    end_ns: int


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
    paced_ns: int = 0
    """It was let go on, after it had waited: for the player, or for its turn."""
    looked_up_ns: int = 0
    """The audio cache was asked."""
    cache_answered_ns: int = 0
    cache_us: int = 0
    followed_ns: int = 0
    """The first audio came that another turn is having made; or nobody is making it any more."""
    ordered_ns: int = 0
    """The lookup of a chunk before it was answered, behind its own: engines are asked in order."""
    asked_ns: int = 0
    """The TTS service was asked."""
    first_frame_ns: int = 0
    """Arrival of the chunk's first audio."""
    queue_us: int = 0
    synthesis_us: int = 0
    framed_ns: int = 0
    """Enough had arrived for a first frame: what the cache gives is cut into frames here."""
    behind_ns: int = 0
    """The chunk before it was complete, behind its own first frame."""
    queued_ns: int = 0
    """The first frame was queued for the caller."""
    source: Stage = Stage.TTS_SYNTHESIS
    """The stage that its audio comes from: an engine, also one that another turn has asked, or the cache."""

    @property
    def text_ns(self) -> int:
        """When its text was complete."""
        return self.needed_ns or self.cut_ns


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


class Walk:
    """Steps from `start_ns` to `end_ns`, each from where the last one ended."""

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self.start_ns = self.at_ns = start_ns
        self.end_ns = max(start_ns, end_ns)
        self.steps: list[Step] = []
        self.hops: list[str] = []
        """The services that were called, in order."""
        self.excess_ns = 0

    def spend(self, owner: str, until_ns: int, hop: str = "") -> None:
        """Give the time up to `until_ns` to `owner`; a mark that is past, or 0, takes nothing."""
        until_ns = min(until_ns, self.end_ns)
        if until_ns > self.at_ns:
            self.steps.append(Step(owner, hop, self.at_ns, until_ns))
            self.at_ns = until_ns

    def call(self, hop: str, asked_ns: int, answered_ns: int, reported_us: dict[Stage, int]) -> None:
        """Cross the window of a call; does nothing for one that was not made, or is past."""
        if not asked_ns or answered_ns < self.at_ns:
            return
        self.hops.append(hop)
        self.spend(Stage.GATEWAY, asked_ns)
        answered_ns = min(answered_ns, self.end_ns)
        if hop in _TELLING and not any(reported_us.values()):
            self.spend(NOBODY, answered_ns)
            return
        left_ns = answered_ns - self.at_ns
        past_ns = max(0, self.at_ns - asked_ns)  # this much of the work was done in time that has an owner
        taken: list[tuple[Stage, int]] = []
        for stage, duration_us in reported_us.items():
            early_ns = min(past_ns, duration_us * 1000)
            past_ns -= early_ns
            duration_ns = duration_us * 1000 - early_ns
            taken.append((stage, min(duration_ns, left_ns)))
            self.excess_ns += max(0, duration_ns - left_ns)
            left_ns -= taken[-1][1]
        # There and back: what the service did lies between, nobody knows where exactly.
        self.spend(Stage.TRANSPORT, self.at_ns + left_ns // 2, hop)
        for stage, duration_ns in taken:
            self.spend(stage, self.at_ns + duration_ns)
        self.spend(Stage.TRANSPORT, answered_ns, hop)

    def end(self, *, known: bool) -> None:
        """Give what is left to the gateway where it is `known` to be there, else to nobody."""
        self.spend(Stage.GATEWAY if known else NOBODY, self.end_ns)

    def sums(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the microseconds of each owner, every stage among them, and of transport by hop.

        They add up to the whole exactly: what is rounded is where a step begins and ends, not how long it is.
        """
        owners: dict[str, int] = dict.fromkeys((*STAGES, PACED, BEHIND, NOBODY), 0)
        hops = dict.fromkeys(self.hops, 0)
        for owner, hop, start_ns, end_ns in self.steps:
            duration_us = (end_ns - self.start_ns) // 1000 - (start_ns - self.start_ns) // 1000
            owners[owner] += duration_us
            if hop:
                hops[hop] += duration_us
        return owners, hops


def walk_turn(turn: TurnMarks, chunk: ChunkMarks) -> Walk:
    """Walk from `turn.received_ns` to `turn.first_frame_sent_ns`; the first frame is of `chunk`."""
    walk = Walk(turn.received_ns, turn.first_frame_sent_ns)
    walk.spend(Stage.ADMISSION, turn.admitted_ns)
    walk.call("cache", turn.history_asked_ns, turn.history_answered_ns, {Stage.HISTORY: turn.history_us})
    walk.call("cache", turn.reply_asked_ns, turn.reply_answered_ns, {Stage.REPLY_CACHE: turn.reply_us})
    walk.call(
        "llm",
        turn.llm_asked_ns,
        turn.first_text_ns,
        {Stage.LLM_CONNECT: turn.connect_us, Stage.LLM_TTFT: turn.ttft_us},
    )
    walk.spend(Stage.GATEWAY, turn.first_text_ns)
    # Where chunks before it gave no audio, engines were at work on them all the while: nothing was in hand.
    _walk_chunk(walk, chunk, paced=Stage.TTS_SYNTHESIS, behind=Stage.TTS_SYNTHESIS)
    return walk


def walk_later(received_ns: int, before: ChunkMarks, chunk: ChunkMarks) -> Walk:
    """Walk to `chunk.queued_ns` from where the text of `before`, heard last before it, was complete."""
    walk = Walk(max(received_ns, before.text_ns), chunk.queued_ns)
    if not chunk.needed_ns:
        walk.spend(PACED, chunk.cut_ns)  # of a cached reply: the first chunk goes before it
    _walk_chunk(walk, chunk, paced=PACED, behind=BEHIND)
    return walk


def _walk_chunk(walk: Walk, chunk: ChunkMarks, *, paced: str, behind: str) -> None:
    walk.spend(Stage.LLM_TEXT, chunk.needed_ns)
    walk.call("chunker", chunk.fed_ns, chunk.cut_ns, {Stage.CHUNK_HOLD: chunk.held_us})
    walk.spend(paced, chunk.paced_ns)
    walk.call("cache", chunk.looked_up_ns, chunk.cache_answered_ns, {Stage.AUDIO_CACHE: chunk.cache_us})
    # Another turn's engine is at work: its queue is in it, too.
    walk.spend(Stage.TTS_SYNTHESIS, chunk.followed_ns)
    walk.spend(Stage.AUDIO_CACHE, chunk.ordered_ns)
    walk.call(
        "tts",
        chunk.asked_ns,
        chunk.first_frame_ns,
        {Stage.TTS_QUEUE: chunk.queue_us, Stage.TTS_SYNTHESIS: chunk.synthesis_us},
    )
    # Else no mark says where the frame came from.
    arrived = bool(chunk.first_frame_ns) and walk.at_ns == max(chunk.first_frame_ns, walk.start_ns)
    if arrived:
        walk.spend(chunk.source, chunk.framed_ns)
        walk.spend(behind, chunk.behind_ns)
    walk.end(known=arrived)


def attribute(turn: TurnMarks, chunk: ChunkMarks) -> Attribution:
    """Return where the time from `turn.received_ns` to `turn.first_frame_sent_ns` went.

    `chunk` is the chunk that the first frame belongs to.
    """
    walk = walk_turn(turn, chunk)
    owners, hops = walk.sums()
    return Attribution(
        ttfa_us=(walk.end_ns - walk.start_ns) // 1000,
        stages={stage: owners[stage] for stage in STAGES},
        hops=hops,
        unattributed_us=owners[NOBODY],
        excess_us=walk.excess_ns // 1000,
    )


def path_of(walk: Walk, received_ns: int) -> ChunkPath:
    """Return the account of a later chunk's walk."""
    owners, hops = walk.sums()
    return ChunkPath(
        began_us=(walk.start_ns - received_ns) // 1000,
        length_us=(walk.end_ns - walk.start_ns) // 1000,
        stages={stage: owners[stage] for stage in STAGES},
        hops=hops,
        paced_us=owners[PACED] + owners[BEHIND],
        unattributed_us=owners[NOBODY],
        excess_us=walk.excess_ns // 1000,
    )
