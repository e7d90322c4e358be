"""One load of a bench, and whether the mesh kept up with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

from voicemesh.cli.bench_figures import Turn
from voicemesh.cli.stats import percentile

_FEWEST_TURNS: Final = 20
"""Turns from which on it is judged whether a rate was kept up with."""
_BEHIND: Final = 0.2
"""Share of the arrivals by which what is under way grows where a mesh falls behind."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One load of a run, as it is in the JSON form.

    Attributes:
        load: The load, in words.
        concurrency: Callers of a closed loop; None for an open one.
        rate_per_s: Turns a second of an open loop; None for a closed one.
        summary: Its summary.
        turns: Its turns.
        late_ms: How late the tool began turns: `p50`, `p95`, `p99`, `max`.
        unfinished: Turns that had not ended when the run was cut short.
        most_in_flight: Most that were under way at one time.
        held_back: Turns that waited in the tool because so many were.
        cut_short: True where the time limit ended it.
        warmup_failed: Turns ahead of it that failed.
        loop_late_ms: How late the tool's event loop was, likewise.
        tenant: Whose turns they were; "" for that of who names none.

    """

    load: str
    concurrency: int | None
    rate_per_s: float | None
    summary: Mapping[str, Any]
    turns: Sequence[Turn]
    late_ms: Mapping[str, float]
    unfinished: int = 0
    most_in_flight: int = 0
    held_back: int = 0
    cut_short: bool = False
    warmup_failed: int = 0
    loop_late_ms: Mapping[str, float]
    tenant: str = ""


@dataclass(frozen=True)
class Arrivals:
    """The second half of the time in which turns of an open loop came.

    The first half fills the mesh: turns that take two seconds end two seconds behind those that come. And
    behind the last arrival the mesh empties: who divides by the whole run finds it slower than it is.

        due      | | | | | | | | | |
        ended            | | | | | | | | | |
                 |<-- fills -->|<- this one ->|<- empties ->|

    Attributes:
        asked_per_s: Turns a second that came.
        answered_per_s: Turns a second that ended.
        under_way: How many were under way at its beginning, and at its end.
        falls_behind: True where that rose by more than chance explains: the mesh does not keep up.

    """

    asked_per_s: float
    answered_per_s: float
    under_way: tuple[int, int]
    falls_behind: bool


def arrivals_of(step: Step) -> Arrivals | None:
    """Return what became of the arrivals of an open loop.

    None for a closed loop, and where the run cannot tell: too few turns, moments that were not kept, or so
    short that its first turns were still under way in the middle of it.
    """
    runs = [turn["run"] for turn in step.turns if turn.get("run", {}).get("due_s") is not None]
    if not step.rate_per_s or len(runs) < _FEWEST_TURNS:
        return None
    runs = sorted(runs, key=lambda run: run["due_s"])
    first_s, last_s = runs[0]["due_s"], runs[-1]["due_s"]
    half_s = (last_s - first_s) / 2
    middle_s = last_s - half_s
    early = runs[: max(len(runs) // 10, 5)]
    if percentile([run["ended_s"] - run["due_s"] for run in early], 0.5) >= half_s:
        return None
    # Those that had not ended when the run was cut short are the last ones to come.
    came = sum(run["due_s"] > middle_s for run in runs) + step.unfinished
    before = sum(run["due_s"] <= middle_s < run["ended_s"] for run in runs)
    after = sum(run["ended_s"] > last_s for run in runs) + step.unfinished
    grown = after - before
    return Arrivals(
        asked_per_s=came / half_s,
        answered_per_s=(came - grown) / half_s,
        under_way=(before, after),
        # As many as come by chance may be under way more: the count of an open loop varies by its root.
        falls_behind=grown > max(_BEHIND * came, 2 * sqrt(before) + 1),
    )
