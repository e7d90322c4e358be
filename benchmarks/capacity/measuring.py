"""A mesh under measurement: what each load gave, and the CPU time of every process."""

import resource
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import psutil

from benchmarks.meshes import RunningMesh, percentile
from voicemesh.capacity.profile import CALLER, SERVICES, WORKER

_SETTLE_S: Final = 2.0
_IDLE_S: Final = 8.0


@dataclass(frozen=True)
class Loaded:
    """What one load gave."""

    result: dict[str, Any]
    """As `voicemesh bench --json` told it."""
    cpu_ms: dict[str, float]
    """CPU time of a turn by process, without what the mesh takes idle."""
    slots: float
    """Engine seconds in a second."""
    others: float = 0.0
    """Share of the machine's CPUs that neither the mesh nor the load tool had, and that was not idle."""

    @property
    def turns(self) -> list[dict[str, Any]]:
        """Every turn."""
        return [turn for turn in self.result["turns"] if turn["outcome"] == "completed"]

    @property
    def engine_s(self) -> float:
        """Engine seconds of a turn."""
        return sum(float(turn["engine_ms"]) for turn in self.turns) / 1000 / max(1, len(self.turns))

    @property
    def degraded(self) -> dict[str, int]:
        """How many turns gave up what."""
        return dict(Counter(what for turn in self.result["turns"] for what in set(turn["degraded"])))

    @property
    def per_s(self) -> float:
        """Turns that ended in a second, in the middle of the run: it has to fill, and to empty."""
        ended_s = sorted(turn["run"]["ended_s"] for turn in self.turns)
        low, high = len(ended_s) // 5, len(ended_s) - 1 - len(ended_s) // 5
        return (high - low) / float(ended_s[high] - ended_s[low])

    def ttfa(self, percent: float) -> float:
        """Return a percentile of the time to first audio in ms."""
        return percentile([float(turn["ttfa_ms"]) for turn in self.turns], percent)


class Measuring:
    """A mesh under measurement.

    Args:
        mesh: It.
        path: File with the prompts.

    """

    def __init__(self, mesh: RunningMesh, path: str) -> None:
        self._mesh = mesh
        self._path = path
        self._idle = dict.fromkeys((*SERVICES, WORKER), 0.0)
        self._start_s = 0.0

    def settle(self, turns: int, *, cached: bool = False) -> None:
        """Warm everything, and learn what the mesh and a start of the load tool take without turns."""
        self.load("--turns", str(turns), "--concurrency", "4", cached=cached)
        before, began_s = self._cpu_s(), time.perf_counter()
        time.sleep(_IDLE_S)
        idle_s = time.perf_counter() - began_s
        self._idle = {name: (s - before[name]) / idle_s for name, s in self._cpu_s().items()}
        # A run of one turn, twice: what a start costs is what does not grow with turns.
        self._start_s = min(self._tool_s(1) for _ in range(2))

    def _tool_s(self, turns: int) -> float:
        before_s = _children_s()
        self._mesh.bench("--turns", str(turns), "--prompts", self._path, "--no-cache")
        return _children_s() - before_s

    def load(self, *arguments: str, cached: bool = False) -> Loaded:
        """Put a load on it."""
        before, tool_s, began_s = self._cpu_s(), _children_s(), time.perf_counter()
        all_s, own_s = _machine_s(), self._own_s()
        cache = ("--mix", "cached=1") if cached else ("--no-cache",)
        result = self._mesh.bench("--prompts", self._path, *cache, *arguments)
        time.sleep(_SETTLE_S)
        took_s = time.perf_counter() - began_s
        turns = max(1, len(result["turns"]))
        used = {
            name: max(0.0, s - before[name] - self._idle[name] * took_s) * 1000 / turns
            for name, s in self._cpu_s().items()
        }
        used[CALLER] = max(0.0, _children_s() - tool_s - self._start_s) * 1000 / turns
        others_s = _machine_s() - all_s - (self._own_s() - own_s)
        others = max(0.0, others_s / took_s / (psutil.cpu_count() or 1))
        wall_s = result["summary"]["wall_s"]
        engine_s = sum(turn["engine_ms"] for turn in result["turns"]) / 1000
        return Loaded(result, used, engine_s / wall_s if wall_s else 0.0, others)

    def _cpu_s(self) -> dict[str, float]:
        """Return CPU seconds of every process of the mesh until now."""
        found = {}
        for name, (own, *workers) in self._mesh.processes().items():
            times = own.cpu_times()
            found[name] = times.user + times.system
            if name == "tts":
                of = [worker.cpu_times() for worker in workers]
                found[WORKER] = sum(each.user + each.system for each in of)
        return found

    def _own_s(self) -> float:
        """Return CPU seconds of all that was started for the measurement, and of this process."""
        supervisor = psutil.Process(self._mesh.pids["gateway"]).parent()
        times = [psutil.Process().cpu_times(), *((supervisor.cpu_times(),) if supervisor else ())]
        mine_s = sum(float(each.user + each.system) for each in times)
        return mine_s + _children_s() + sum(self._cpu_s().values())


def _machine_s() -> float:
    """Return CPU seconds of everything on this machine, what a host took for others included."""
    found = psutil.cpu_times()
    return sum(
        float(getattr(found, name, 0.0)) for name in ("user", "nice", "system", "irq", "softirq", "steal")
    )


def _children_s() -> float:
    """Return CPU seconds of processes that this one started and that have ended: load tools."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
