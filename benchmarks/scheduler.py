"""The scheduler of a batching engine: what a decision costs, and what many streams get, in virtual time.

    .venv/bin/python -m benchmarks.scheduler

A stream speaks chunk after chunk as a listener hears them: each of 6 s (a text step, then windows of
302 ms), asked for 2 s before the last one ends. The engine's costs are a curve, not a measurement: a step
takes `base` and `each` more for each utterance in it, as a GPU's do. So the table is the same on any
machine, and says how a curve turns into latency; put in the figures of your own device.
"""

import argparse
import heapq
import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from services.tts.engines.base import Step
from services.tts.scheduling import Batch, Pause, Scheduler, Work

MS = 1_000_000
S = 1000 * MS
TEXT = Step("text", 128)
WINDOW = Step("decode", 54)
WINDOW_NS = 302 * MS
WINDOWS = 20
AHEAD_NS = 2 * S
"""The next chunk is asked for so long before the listener has heard the last one."""
WINDOW_LIMIT_NS = 5 * S
"""An utterance is made at most so far ahead of its listener."""


@dataclass
class Stream:
    """One listener."""

    name: str
    plays_until_ns: int = 0
    left: int = 0
    begun: bool = False
    asked_ns: int = 0
    chunk_started: bool = False
    work: Work | None = None


@dataclass
class Result:
    """What all streams got."""

    first_ms: list[float] = field(default_factory=list)
    later_ms: list[float] = field(default_factory=list)
    underruns: int = 0
    chunks: int = 0
    sizes: Counter[int] = field(default_factory=Counter)
    busy: float = 0.0


class Simulation:
    """Lets listeners come over 5 s, and gives each one chunk after the other.

    Args:
        streams: How many.
        cost_ns: What a step costs, by the size of its batch.
        limit: Utterances in a step, at most.

    """

    def __init__(self, streams: int, cost_ns: Callable[[int], int], limit: int) -> None:
        self.result = Result()
        self._cost_ns = cost_ns
        self._scheduler = Scheduler(lambda step: limit if step is WINDOW else min(limit, 16))
        self._events: list[tuple[int, int, Stream]] = []
        self._numbers = itertools.count()
        self._owners: dict[Work, Stream] = {}
        draw = random.Random(streams)
        for n in range(streams):
            self._at(draw.randrange(5 * S), Stream(f"{n}"))

    def run(self, end_ns: int) -> Result:
        """Go on until `end_ns`; return what was heard."""
        now_ns = 0
        while now_ns < end_ns:
            while self._events and self._events[0][0] <= now_ns:
                when_ns, _, stream = heapq.heappop(self._events)
                self._event(stream, when_ns)
            decided = self._scheduler.next(now_ns)
            if isinstance(decided, Batch):
                began_ns, now_ns = now_ns, now_ns + self._cost_ns(decided.size)
                self._scheduler.ran(decided, began_ns, now_ns)
                self.result.sizes[len(decided.works)] += decided.step is WINDOW
                for work in decided.works:
                    self._made(work, decided.step, now_ns)
                continue
            nexts = [self._events[0][0]] if self._events else [end_ns]
            now_ns = min([*nexts, decided.until_ns] if isinstance(decided, Pause) else nexts)
        self.result.busy = self._scheduler.figures().busy_ns / now_ns
        return self.result

    def _at(self, time_ns: int, stream: Stream) -> None:
        heapq.heappush(self._events, (time_ns, next(self._numbers), stream))

    def _event(self, stream: Stream, when_ns: int) -> None:
        """Let a stream ask for a chunk, or go on with one that was far enough ahead."""
        if stream.work is not None:
            self._scheduler.ready(stream.work, WINDOW, when_ns, came=True)
            return
        in_hand_ns = max(0, stream.plays_until_ns - when_ns)
        stream.asked_ns, stream.left, stream.chunk_started = when_ns, WINDOWS, False
        stream.work = self._scheduler.add(stream.name, TEXT, when_ns, in_hand_ns)
        self._owners[stream.work] = stream
        self.result.chunks += 1

    def _made(self, work: Work, step: Step, now_ns: int) -> None:
        stream = self._owners[work]
        if step is TEXT:
            self._scheduler.ready(work, WINDOW, now_ns)
            return
        if not stream.chunk_started:
            stream.chunk_started = True
            waited = self.result.later_ms if stream.begun else self.result.first_ms
            waited.append((now_ns - stream.asked_ns) / MS)
        self.result.underruns += stream.begun and now_ns > stream.plays_until_ns
        stream.plays_until_ns = max(stream.plays_until_ns, now_ns) + WINDOW_NS
        stream.begun = True
        stream.left -= 1
        self._scheduler.made_audio(work, stream.plays_until_ns)
        if not stream.left:
            self._scheduler.drop(work, now_ns)
            del self._owners[work]
            stream.work = None
            self._at(max(now_ns, stream.plays_until_ns - AHEAD_NS), stream)
        elif stream.plays_until_ns - now_ns > WINDOW_LIMIT_NS:
            self._at(stream.plays_until_ns - WINDOW_LIMIT_NS, stream)
        else:
            self._scheduler.ready(work, WINDOW, now_ns)


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values are."""
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)] if values else math.nan


def decision_us(utterances: int, *, late: bool) -> float:
    """Return what one decision costs, with its bookkeeping, in microseconds of this machine."""
    scheduler = Scheduler(lambda _step: 32)
    draw = random.Random(1)
    for n in range(utterances):
        in_hand_ns = 0 if late else draw.randrange(S, 9 * S)
        scheduler.add(f"{n}", WINDOW, draw.randrange(MS), in_hand_ns)
    rounds, now_ns = 200, 10 * MS
    began = time.perf_counter()
    for _ in range(rounds):
        batch = scheduler.next(now_ns)
        assert isinstance(batch, Batch)
        scheduler.ran(batch, now_ns, now_ns + 4 * MS)
        now_ns += 4 * MS
        for work in batch.works:
            scheduler.made_audio(work, work.due_ns + WINDOW_NS)
            scheduler.ready(work, WINDOW, now_ns)
    return (time.perf_counter() - began) / rounds * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 50, 200, 1000, 2000])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--base-ms", type=float, default=1.5, help="a step, whatever is in it")
    parser.add_argument("--each-ms", type=float, default=0.09, help="each utterance in a step")
    parser.add_argument("--limit", type=int, default=64, help="utterances in a step, at most")
    args = parser.parse_args()

    def cost_ns(size: int) -> int:
        return int((args.base_ms + args.each_ms * size) * MS)

    print(f"a step costs {args.base_ms:g} + {args.each_ms:g} ms an utterance, at most {args.limit} at once")
    print(
        "virtual time; first: a stream's first chunk, later: its further ones, both to their first window\n"
    )
    head = ("streams", "chunks", "first p50", "p99", "later p50", "p99", "underruns", "mean batch", "busy")
    print(" ".join(f"{name:>10}" for name in head))
    for streams in args.streams:
        got = Simulation(streams, cost_ns, args.limit).run(int(args.seconds * S))
        mean = sum(size * count for size, count in got.sizes.items()) / max(1, got.sizes.total())
        cells = (
            f"{streams}",
            f"{got.chunks}",
            *(f"{percentile(got.first_ms, share):.1f} ms" for share in (0.5, 0.99)),
            *(f"{percentile(got.later_ms, share):.1f} ms" for share in (0.5, 0.99)),
            f"{got.underruns}",
            f"{mean:.1f}",
            f"{100 * got.busy:.0f}%",
        )
        print(" ".join(f"{cell:>10}" for cell in cells))
    print("\none decision with its bookkeeping, batches of 32, on this machine:")
    for utterances in (50, 2000):
        for late in (False, True):
            state = "all late" if late else "all with time"
            print(f"  {utterances:5} utterances, {state:13} {decision_us(utterances, late=late):8.0f} us")


if __name__ == "__main__":
    main()
