"""What is told of layouts of replicas: how many callers fill one, which rate it keeps, a turn's CPU.

What the figures mean is said in `benchmarks.replicas`, which measures them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.meshes import percentile
from tests.support.mesh import SERVICES
from voicemesh.cli.bench_loads import arrivals_of
from voicemesh.cli.bench_report import steps_of

LOAD: Final = "load tool"
COLUMNS: Final = (*SERVICES, LOAD)
_MOST_CALLERS: Final = 200
"""A gateway lets in 256 turns."""
_MORE: Final = 1.5
_GROWS: Final = 1.04
"""Fewer times as many turns a second with `_MORE` callers are no more: so much is chance."""


@dataclass(frozen=True)
class Window:
    """What became of turns that came one behind the other. Rates are turns a second."""

    asked_per_s: float
    good_per_s: float
    """Those that were heard within the objective."""
    ttfa_p95_ms: float | None
    """Of those that did not fail; None: all did."""
    turns: int


@dataclass(frozen=True)
class Used:
    """What a load took, in seconds of CPU."""

    by_service: dict[str, float]
    tool_s: float
    all_s: float
    """What the machine did, for whomever."""
    took_s: float
    """Of the clock."""

    def per_turn_ms(self, turns: int, start_s: float) -> dict[str, float]:
        """Return what a turn took, by service; `start_s` is what a load tool takes without any."""
        used = {**self.by_service, LOAD: max(0.0, self.tool_s - start_s)}
        return {name: round(1000 * seconds / max(1, turns), 2) for name, seconds in used.items()}

    def others(self) -> float:
        """Return the cores that others used."""
        return max(0.0, self.all_s - sum(self.by_service.values()) - self.tool_s) / self.took_s


@dataclass
class Found:
    """What was found out about one layout. Rates are turns a second; None: it was not found out."""

    layout: str
    most_per_s: float | None = None
    callers: int = 0
    """That did it."""
    grew: bool = True
    """Whether the last of the callers that were tried did more than those before: more may do more."""
    full_p95_ms: float = 0.0
    """Of the time to first audio, of those callers."""
    cpu_ms: dict[str, float] = field(default_factory=dict)
    """A turn's, by service, and of the load tool."""
    cores: float = 0.0
    others: float = 0.0
    kept_per_s: float | None = None
    good_per_s: float | None = None
    kept_p95_ms: float | None = None
    because: str = "time was up"
    """Why a row is not whole, or the last rate was too much."""
    loads: list[dict[str, Any]] = field(default_factory=list)
    """Each that was tried."""

    def full(
        self, callers: int, per_s: float, p95_ms: float, cpu_ms: dict[str, float], others: float
    ) -> None:
        """Take what so many callers did; only the best of them counts."""
        if self.most_per_s is not None and per_s <= self.most_per_s:
            return
        self.most_per_s, self.callers, self.full_p95_ms = per_s, callers, p95_ms
        self.cpu_ms, self.others = cpu_ms, others
        self.cores = per_s * sum(cpu_ms.values()) / 1000


class Growing:
    """How many callers are tried next, until more of them do no more."""

    def __init__(self, first: int) -> None:
        self.next: int | None = first
        """None: it is known."""
        self.callers = first
        """The fewest that do about what can be done."""
        self.grew = True
        """Whether the last ones did more than those before; True before any did."""
        self._most = 0.0

    def tell(self, per_s: float) -> None:
        """Say how many turns a second they did."""
        assert self.next is not None
        self.grew = per_s > _GROWS * self._most
        if self.grew:
            self.callers, self._most = self.next, per_s
        more = round(self.next * _MORE)
        self.next = more if self.grew and more <= _MOST_CALLERS else None


def window(turns: Sequence[Mapping[str, Any]], fills: int, objective_ms: float) -> Window:
    """Return what became of the turns of an open loop that came behind the first `fills`.

    The last to come ends the window, and is not in it. At least two must be left.
    """
    came = sorted(turns, key=lambda turn: float(turn["run"]["due_s"]))[fills:]
    seconds = came[-1]["run"]["due_s"] - came[0]["run"]["due_s"]
    heard_ms = [float(turn["ttfa_ms"]) for turn in came[:-1] if turn["outcome"] == "completed"]
    return Window(
        asked_per_s=(len(came) - 1) / seconds,
        good_per_s=sum(ms <= objective_ms for ms in heard_ms) / seconds,
        ttfa_p95_ms=percentile(heard_ms, 95) if heard_ms else None,
        turns=len(came) - 1,
    )


def missed(result: Mapping[str, Any], found: Window, objective_ms: float) -> str:
    """Return why a rate was too much; "": it was kept."""
    (step,) = steps_of(result)
    if step.unfinished:
        return f"{step.unfinished} turns had not ended when time was up"
    if errors := result["summary"]["errors"]:
        return f"{errors} turns failed"
    if found.ttfa_p95_ms is None or found.ttfa_p95_ms > objective_ms:
        return f"p95 of {found.ttfa_p95_ms or 0:.0f} ms"
    if (came := arrivals_of(step)) is not None and came.falls_behind:
        return f"a backlog grew, from {came.under_way[0]} to {came.under_way[1]} turns"
    return ""


def head() -> Iterator[str]:
    """Yield the lines above the table."""
    names = " ".join(f"{name:>9}" for name in (*SERVICES, "mesh", LOAD))
    yield (
        f"{'':<15} {'full/s':>8} {'callers':>7} {'p95 ms':>7} {'kept/s':>7} {'good/s':>7} {'p95 ms':>7}  "
        f"CPU of a turn in ms: {names} {'cores':>6} {'others':>6}"
    )


def row(found: Found) -> Iterator[str]:
    """Yield the lines of a layout in the table."""
    if found.most_per_s is None:
        yield f"{found.layout:<15} not measured: {found.because}"
        return
    most = f"{'>' if found.grew else ''}{found.most_per_s:.1f}"
    kept = [
        "-" if value is None else f"{value:.{digits}f}"
        for value, digits in ((found.kept_per_s, 1), (found.good_per_s, 1), (found.kept_p95_ms, 0))
    ]
    used = [found.cpu_ms[name] for name in SERVICES]
    cells = " ".join(f"{ms:>9.1f}" for ms in (*used, sum(used), found.cpu_ms[LOAD]))
    yield (
        f"{found.layout:<15} {most:>8} {found.callers:>7} {found.full_p95_ms:>7.0f} "
        f"{' '.join(f'{cell:>7}' for cell in kept)}  {'':<20} {cells} "
        f"{found.cores:>6.2f} {found.others:>6.2f}"
    )
    if found.because:
        yield f"{'':<15} no rate was kept: {found.because}"
    if found.grew:
        yield f"{'':<15} more callers may do more: time was up, or they failed"
