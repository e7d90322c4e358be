"""What every process measures of itself: its event loop, CPU, memory, files, and which build it is."""

import asyncio
import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Final

from voicemesh.runtime.instruments import Declared, Instrument, Kind
from voicemesh.runtime.metrics import Metrics, Observed

LOOP_LAG: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.process.event_loop.lag",
    unit="s",
    description="How late the event loop wakes what sleeps, looked at twice a second.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
CPU_TIME: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="process.cpu.time",
    unit="s",
    description="CPU time of the process, without its child processes.",
    labels={"cpu.mode": ("user", "system")},
)
MEMORY: Final = Instrument(
    kind=Kind.GAUGE,
    name="process.memory.usage",
    unit="By",
    description="Memory that the process holds (resident).",
)
FILES: Final = Instrument(
    kind=Kind.GAUGE,
    name="process.open_file_descriptor.count",
    unit="{file_descriptor}",
    description="File descriptors that the process has open.",
)
BUILD: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.build.info",
    unit="1",
    description="1; its labels say which build runs.",
    labels={"version": Declared(1), "python": Declared(1)},
)

_EVERY_S: Final = 0.5
_STATM: Final = Path("/proc/self/statm")
_DESCRIPTORS: Final = Path("/dev/fd")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class ProcessMetrics:
    """Measures this process from `start` to `stop`; where metrics are off it does nothing.

    Args:
        metrics: Of this process.

    """

    def __init__(self, metrics: Metrics) -> None:
        self._on = metrics.on
        self._lag = metrics.histogram(LOOP_LAG)
        self._timer: asyncio.TimerHandle | None = None
        metrics.observe(CPU_TIME, _cpu_time)
        metrics.observe(MEMORY, _memory)
        metrics.observe(FILES, _files)
        build = {"version": version(), "python": platform.python_version()}
        metrics.observe(BUILD, lambda: [(1, build)])

    def start(self) -> None:
        """Begin to look at the event loop that runs."""
        if self._on:
            self._sleep(asyncio.get_running_loop())

    def stop(self) -> None:
        """Look at it no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _sleep(self, loop: asyncio.AbstractEventLoop) -> None:
        due_s = loop.time() + _EVERY_S
        self._timer = loop.call_at(due_s, self._wake, loop, due_s)

    def _wake(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        self._lag.record(max(0.0, loop.time() - due_s))
        self._sleep(loop)


def version() -> str:
    """Return the version of voicemesh; "unknown" where it runs from files that nobody installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("voicemesh")
    return "unknown"


def _cpu_time() -> Observed:
    times = os.times()
    return [(times.user, {"cpu.mode": "user"}), (times.system, {"cpu.mode": "system"})]


def _memory() -> Observed:
    """Return what is resident; nothing where the system does not tell (Linux does)."""
    try:
        return [(int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES, {})]
    except OSError:
        return []


def _files() -> Observed:
    """Return how many are open, without the one that is needed to look."""
    try:
        return [(len(os.listdir(_DESCRIPTORS)) - 1, {})]  # noqa: PTH208 - as many objects would be made of them
    except OSError:
        return []
