"""Judges every turn as it ends, and follows memory and descriptors of every process."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import psutil

from benchmarks.soak.checks import Seen, Trend, Violation, problems, trend
from benchmarks.soak.faults import Faults
from benchmarks.soak.lab import Lab, References
from benchmarks.soak.load import REFUSED

MB: Final = 2**20
_SAMPLE_S: Final = 2.0
_GATEWAY_LOST: Final = "SERVICE_UNAVAILABLE"
_REFUSALS: Final = frozenset({"TOO_MANY_TURNS", "QUEUE_FULL"})
"""What a busy machine may say; told of, and no failure of the mesh."""
_FAULTY_LINES: Final = ("Traceback", "cannot take a message", "cannot end in order", "never retrieved")


class Watch:
    """Takes what was seen.

    Args:
        lab: What is watched.
        references: The audio that ought to be heard.
        faults: What is broken on purpose.
        now_s: Seconds since the start.

    Attributes:
        ends: Turns by how they ended.
        sorts: Turns by their sort.
        degraded: Turns by what they gave up.
        violations: What must not be.
        chunks: Chunks whose audio was compared.
        underruns_ms: The longest silence of each turn, among those that had a fault beside them.

    """

    def __init__(self, lab: Lab, references: References, faults: Faults, now_s: Callable[[], float]) -> None:
        self.ends: Counter[str] = Counter()
        self.sorts: Counter[str] = Counter()
        self.degraded: Counter[str] = Counter()
        self.violations: list[Violation] = []
        self.chunks = 0
        self.gaps_ms: list[float] = []
        self._lab = lab
        self._references = references
        self._faults = faults
        self._now_s = now_s
        self._queue: asyncio.Queue[Seen] = asyncio.Queue()
        self._memory: dict[str, list[tuple[float, float]]] = {}
        self._descriptors: dict[str, list[tuple[float, float]]] = {}

    def take(self, seen: Seen) -> None:
        """Take a turn that has ended."""
        self._queue.put_nowait(seen)

    async def judge(self) -> None:
        """Judge turns, for ever."""
        while True:
            seen = await self._queue.get()
            await self._judge(seen)
            self._queue.task_done()

    async def judged(self) -> None:
        """Wait until every turn that was taken is judged."""
        await self._queue.join()

    async def _judge(self, seen: Seen) -> None:
        texts = list(seen.said.values())
        references = await self._references.of(seen.voice, texts) if texts else {}
        touching = self._faults.touching(seen.began_s, seen.ended_s)
        found = problems(seen, references)
        found += _unexpected_end(seen, [(fault.kind, fault.target) for fault in touching])
        turn_id = seen.report.turn_id if seen.report else ""
        names = tuple(fault.name for fault in touching)
        self.violations += [Violation(rule, what, turn_id, seen.ended_s, names) for rule, what in found]
        self.sorts[seen.sort] += 1
        self.chunks += len(references)
        self.ends[_end(seen)] += 1
        if seen.report is not None:
            self.degraded.update(set(seen.report.degraded))
            if touching and (
                underruns := [one.duration_ms for c in seen.report.chunks for one in c.underrun_list]
            ):
                self.gaps_ms.append(max(underruns))

    # ------------------------------------------------------------ processes

    async def sample(self) -> None:
        """Follow memory and descriptors, for ever."""
        while True:
            for name, process in self._lab.processes().items():
                with contextlib.suppress(psutil.NoSuchProcess):
                    now_s = self._now_s()
                    self._memory.setdefault(name, []).append((now_s, process.memory_info().rss / MB))
                    self._descriptors.setdefault(name, []).append((now_s, process.num_fds()))
            await asyncio.sleep(_SAMPLE_S)

    def trends(self, warm_s: float) -> dict[str, dict[str, Trend]]:
        """Return how memory (MB) and descriptors of each process moved behind its first `warm_s` seconds."""
        found: dict[str, dict[str, Trend]] = {}
        for figure, series in (("memory", self._memory), ("descriptors", self._descriptors)):
            for name, samples in series.items():
                warm = [sample for sample in samples if sample[0] >= samples[0][0] + warm_s]
                if (moved := trend(warm)) is not None:
                    found.setdefault(name, {})[figure] = moved
        return found

    def read_logs(self) -> None:
        """Look for what no log should have."""
        self.violations += [
            Violation("log", f"{name}: {line[:400]}")
            for name, line in self._lab.log()
            if any(part in line for part in _FAULTY_LINES)
        ]


def _unexpected_end(seen: Seen, faults: list[tuple[str, str]]) -> list[tuple[str, str]]:
    error = seen.error
    if seen.sort == REFUSED:
        told = error.reason if error else "nothing"
        return [] if told == "UNKNOWN_VOICE" else [("typed errors", f"no UNKNOWN_VOICE but {told}")]
    if error is None or error.reason in _REFUSALS:
        return []
    # Behind the first frame nobody can ask again for a turn whose gateway is gone.
    if _gateway_touched(faults) and error.reason == _GATEWAY_LOST and seen.frames:
        return []
    return [("no failed turn", f"{seen.sort}: {error.code} {error}")]


def _gateway_touched(faults: list[tuple[str, str]]) -> bool:
    return any(target.startswith("gateway") for _, target in faults)


def _end(seen: Seen) -> str:
    if seen.error is not None:
        return f"failed: {seen.error.reason}"
    return seen.report.outcome if seen.report is not None else "left"


def as_json(moved: Trend) -> dict[str, Any]:
    """Return a trend for a report."""
    return {
        "over_s": round(moved.over_s),
        "first": round(moved.first, 1),
        "last": round(moved.last, 1),
        "per_hour": round(moved.per_hour, 2),
        "from": round(moved.low, 2),
        "to": round(moved.high, 2),
    }
