"""A stepped engine in virtual time: what it costs is written down, and every decision is looked at.

streams ── arrive, are cancelled ──> scheduler ──> batch ──> time goes on by its cost ──> …
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from services.tts.engines.base import Step
from services.tts.scheduling import AHEAD_NS, SOON_NS, WAIT_NS, Batch, Pause, Scheduler, Work

MS = 1_000_000
S = 1000 * MS
TEXT = Step("text", 64)
DECODE = Step("decode", 300)


@dataclass
class Stream:
    """One utterance, as a script has it."""

    caller: str = "a"
    arrives_ns: int = 0
    in_hand_ns: int = 0
    steps: tuple[Step, ...] = (TEXT, DECODE, DECODE)
    audio_ns: int = 300 * MS
    """Of each step `decode`."""
    cancel_ns: int | None = None

    at: int = 0
    work: Work | None = None
    made_ns: int = 0
    first_ns: int | None = None
    ended_ns: int | None = None
    failed: bool = False
    underrun_ns: int = 0
    ran_ns: list[int] = field(default_factory=list)

    @property
    def step(self) -> Step:
        return self.steps[self.at]


def kind(work: Work, now_ns: int) -> int:
    """Return the class of a work: 0 late, 1 soon, 2 ahead, 3 free."""
    slack = work.due_ns - now_ns
    return 0 if slack <= 0 else 1 if slack <= SOON_NS else 2 if slack <= AHEAD_NS else 3


class Scripted:
    """Runs streams to their ends.

    Args:
        streams: The script.
        limit: Utterances at once, for any step.
        cost: (step, size of the batch) → nanoseconds.
        memory: Utterances that fit, for any step.

    """

    def __init__(
        self,
        streams: Iterable[Stream],
        limit: int = 8,
        cost: Callable[[Step, int], int] = lambda _step, size: (4 + size) * MS,
        memory: int = 1024,
    ) -> None:
        self.streams = sorted(streams, key=lambda stream: stream.arrives_ns)
        self.limit = limit
        self.cost = cost
        self.memory = memory
        self.scheduler = Scheduler(lambda _step: limit)
        self.now_ns = 0
        self.idle_ns = 0
        self.ready: dict[Work, Stream] = {}
        self.batches: list[tuple[int, Batch]] = []
        self.pauses: list[Pause] = []
        self._coming = list(self.streams)

    def run(self) -> "Scripted":
        for _ in range(200_000):
            self._events()
            decided = self.scheduler.next(self.now_ns)
            if isinstance(decided, Batch):
                self._look_at(decided)
                self._run(decided)
            elif (until := self._idle(decided)) is not None:
                self.idle_ns += until - self.now_ns
                self.now_ns = until
            else:
                assert all(stream.ended_ns is not None for stream in self.streams)
                return self
        raise AssertionError("it never ends")

    def _events(self) -> None:
        """Let in what has come, and take out what was cancelled."""
        while self._coming and self._coming[0].arrives_ns <= self.now_ns:
            stream = self._coming.pop(0)
            stream.work = self.scheduler.add(stream.caller, stream.step, stream.arrives_ns, stream.in_hand_ns)
            self.ready[stream.work] = stream
        for work, stream in list(self.ready.items()):
            if stream.cancel_ns is not None and stream.cancel_ns <= self.now_ns:
                del self.ready[work]
                self._end(stream)

    def _idle(self, pause: Pause | None) -> int | None:
        """Return when something happens next; with anything ready only a pause may get here."""
        nexts = [self._coming[0].arrives_ns] if self._coming else []
        if pause is not None:
            assert self.limit > 1
            assert len(self.ready) < self.limit
            assert self.now_ns < pause.until_ns <= min(work.ready_ns for work in self.ready) + WAIT_NS
            assert all(work.due_ns > pause.until_ns for work in self.ready), "a deadline suffers from a wait"
            assert len({work.step for work in self.ready}) == 1, "something else could run"
            self.pauses.append(pause)
            nexts.append(pause.until_ns)
            nexts += [s.cancel_ns for s in self.ready.values() if s.cancel_ns is not None]
        else:
            assert not self.ready, "idle, and something could run"
        return max(min(nexts), self.now_ns) if nexts else None

    def _look_at(self, batch: Batch) -> None:
        now_ns = self.now_ns
        chosen = set(batch.works)
        assert 1 <= len(chosen) == len(batch.works) <= batch.size <= self.limit
        assert all(work in self.ready and work.step == batch.step for work in chosen)
        leader = min(chosen, key=lambda work: (kind(work, now_ns), work.due_ns))
        worst = max(kind(work, now_ns) for work in chosen)
        for work in self.ready.keys() - chosen:
            same = work.step == batch.step
            if same:
                assert kind(work, now_ns) >= worst, "a less urgent one went along instead"
            # It may let partners catch up, where that makes nobody late.
            ends_ns = now_ns + self.cost(batch.step, batch.size)
            if not same and ends_ns <= work.ready_ns + WAIT_NS and ends_ns < work.due_ns:
                continue
            mine, theirs = kind(leader, now_ns), kind(work, now_ns)
            assert theirs >= mine, "a deadline inversion"
            if mine == theirs == 1:
                assert (leader.due_ns, not leader.first) <= (work.due_ns, not work.first)
            if mine == theirs == 2:
                assert (not leader.first, leader.due_ns) <= (not work.first, work.due_ns) or any(
                    other.first for other in chosen
                )

    def _run(self, batch: Batch) -> None:
        streams = [self.ready.pop(work) for work in batch.works]
        if batch.size > self.memory:
            self.now_ns += MS
            alone = self.scheduler.did_not_fit(batch, self.now_ns)
            for stream in streams:
                assert stream.work is not None
                if stream.work is alone:
                    stream.failed = True
                    self._end(stream)
                else:
                    self.ready[stream.work] = stream
            return
        began_ns = self.now_ns
        self.batches.append((began_ns, batch))
        self.now_ns += self.cost(batch.step, batch.size)
        self.scheduler.ran(batch, began_ns, self.now_ns)
        for stream in streams:
            self._advance(stream, batch.step, began_ns)

    def _advance(self, stream: Stream, step: Step, began_ns: int) -> None:
        work = stream.work
        assert work is not None
        stream.ran_ns.append(began_ns)
        stream.at += 1
        if step.stage == "decode":
            if stream.first_ns is None:
                stream.first_ns = self.now_ns
            else:
                stream.underrun_ns += max(0, self.now_ns - work.due_ns)
            stream.made_ns += stream.audio_ns
            self.scheduler.made_audio(work, stream.first_ns + stream.in_hand_ns + stream.made_ns)
        if stream.at == len(stream.steps):
            self._end(stream)
        else:
            self.scheduler.ready(work, stream.step, self.now_ns)
            self.ready[work] = stream

    def _end(self, stream: Stream) -> None:
        assert stream.work is not None
        stream.ended_ns = self.now_ns
        self.scheduler.drop(stream.work, self.now_ns)
