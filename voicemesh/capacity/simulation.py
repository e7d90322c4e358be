"""Turns that come to a simulated mesh, event by event in virtual time, and what they hear.

Every turn is a measured one, drawn from the profile by the seed. Arrivals and turns are drawn apart from what
the mesh does, so that two layouts are asked for the same (common random numbers).
"""

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from voicemesh.capacity.events import MS, Events, S, TooLargeError
from voicemesh.capacity.mesh import Behind, Layout, Mesh
from voicemesh.capacity.profile import Profile
from voicemesh.capacity.turns import Heard, Turn


@dataclass(frozen=True)
class Result:
    """What a run gave."""

    turns: Sequence[Heard]
    """Those that began in the window, in that order."""
    busy: dict[str, float]
    """Share of time that a replica of each service worked while turns came; `worker`: slots were leased."""
    nodes_busy: float
    """The same of cores."""
    at_once: float
    """Turns at once in the mean over the whole run, each from its prompt to the end of its synthesis."""
    sojourn_ms: float
    """How long that was in the mean, of all turns that began."""
    run_s: float
    """Until the last turn had ended."""
    ended: int
    """Turns that began and ended, those before the window with them."""
    steps: int
    """Things that happened: what it took to find out."""
    missed: bool = False
    """True where it ended early, as its objective was missed for certain; `turns` are those heard by then."""

    @property
    def ttfa_ms(self) -> list[float]:
        """Times to first audio of turns that were not refused, in order."""
        return sorted(turn.ttfa_ms for turn in self.turns if not turn.refused)

    @property
    def refused(self) -> float:
        """Share of turns that were refused."""
        return sum(turn.refused for turn in self.turns) / max(1, len(self.turns))

    @property
    def dry(self) -> float:
        """Share of turns whose player ran dry."""
        return sum(turn.late_chunks > 0 for turn in self.turns) / max(1, len(self.turns))

    def percentile(self, percent: float) -> float:
        """Return a percentile of the time to first audio in ms."""
        return percentile(self.ttfa_ms, percent)

    def slow_waits(self, percent: float = 95) -> dict[str, float]:
        """Return what turns at or above a percentile waited for in the mean, in ms, the longest first."""
        slow_ms = self.percentile(percent)
        slow = [turn for turn in self.turns if not turn.refused and turn.ttfa_ms >= slow_ms]
        sums: dict[str, float] = {}
        for turn in slow:
            for name, ms in turn.waits.items():
                sums[name] = sums.get(name, 0.0) + ms
        return {name: sums[name] / len(slow) for name in sorted(sums, key=lambda name: -sums[name])}


@dataclass(frozen=True)
class Objective:
    """What a simulation need not go on without."""

    percent: float
    ms: float
    """The percentile of the time to first audio is to be no more, and no turn refused."""


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile of sorted values, linear between the closest ranks; 0 of none."""
    if not values:
        return 0.0
    place = (len(values) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def simulate(
    profile: Profile,
    layout: Layout,
    arrivals: Iterable[float],
    *,
    seed: int,
    end_s: float,
    warm_s: float = 0.0,
    cached: float = 0.0,
    picks: Sequence[int] | None = None,
    most_steps: int | None = None,
    objective: Objective | None = None,
) -> Result:
    """Let turns come until `end_s`, and all of them end.

    Args:
        profile: What turns take.
        layout: What there is.
        arrivals: When turns come, in seconds, in order.
        seed: Of everything that is drawn here.
        end_s: None comes from then on.
        warm_s: Turns before that do not count.
        cached: Share of turns that are in the cache; the profile has such turns.
        picks: Which measured turn each one is, in order of arrival; without it they are drawn.
        most_steps: It is not to take more than so many; None: as many as it takes.
        objective: It ends as soon as this is missed whatever else comes; None: it goes on to its end.

    Raises:
        TooLargeError: It takes more.

    """
    draw = random.Random(f"{seed} turns")  # noqa: S311 - keeps no secret
    chance = random.Random(f"{seed} mesh")  # noqa: S311 - the same
    events = Events(most_steps)
    mesh = Mesh(profile, layout, chance, events)
    made, given = profile.made, profile.cached
    behind_made = Behind.of(made)
    behind_given = Behind.of(given) if given is not None else behind_made
    turns: list[Heard] = []
    times_ns = _moments(arrivals, end_s, most_steps)
    coming = enumerate(times_ns)
    counted = sum(at_ns >= warm_s * S for at_ns in times_ns)
    verdict = _Verdict(events, objective, counted) if objective is not None else None

    def next_one() -> None:
        number, at_ns = next(coming, (0, None))
        if at_ns is not None:
            events.at(at_ns, lambda: arrive(number))

    def arrive(number: int) -> None:
        heard = Heard(events.now_ns / MS)
        told: Callable[[], None] = _nothing
        if events.now_ns >= warm_s * S:
            turns.append(heard)
            if verdict is not None:
                told = partial(verdict.told, heard)
        hit = draw.random() < cached and given is not None
        kind = given if hit and given is not None else made
        drawn = draw.randrange(len(kind.turns))
        sample = kind.turns[drawn if picks is None else picks[number % len(picks)]]
        gateway = chance.choice(mesh.gateways)
        if gateway.turns < layout.max_turns:
            behind = behind_given if hit else behind_made
            Turn(mesh, f"{number}", sample, behind, gateway, heard, told).begin()
        else:
            heard.refused = True
            told()
        if verdict is None or not verdict.missed:
            next_one()

    next_one()
    events.run()
    span_ns = max(end_s, 1e-9) * S
    missed = verdict is not None and verdict.missed
    return Result(
        turns=[heard for heard in turns if heard.refused or heard.ttfa_ms] if missed else turns,
        busy=mesh.busy(span_ns),
        nodes_busy=mesh.nodes_busy(span_ns),
        at_once=mesh.within.total_ns() / max(events.now_ns, 1),
        sojourn_ms=mesh.sojourn_ns / max(1, mesh.ended) / MS,
        run_s=events.now_ns / S,
        ended=mesh.ended,
        steps=events.happened,
        missed=missed,
    )


def _moments(arrivals: Iterable[float], end_s: float, most: int | None) -> list[int]:
    """Return when turns come, in nanoseconds. Each takes a step at least: more than `most` are too many."""
    times = itertools.takewhile(lambda at_s: at_s < end_s, arrivals)
    found = [round(at_s * S) for at_s in itertools.islice(times, None if most is None else most + 1)]
    if most is not None and len(found) > most:
        raise TooLargeError
    return found


class _Verdict:
    """Whether an objective is missed already: with so many late turns no others can make up for them."""

    def __init__(self, events: Events, objective: Objective, turns: int) -> None:
        self.missed = False
        self._events = events
        self._objective_ms = objective.ms
        # Their percentile lies between these two ranks, so it is late where the lower one is.
        self._left = turns - int((turns - 1) * objective.percent / 100)

    def told(self, heard: Heard) -> None:
        """Take a turn that counts."""
        if heard.ttfa_ms > self._objective_ms:
            self._left -= 1
        if heard.refused or self._left <= 0:
            self.missed = True
            self._events.end()


def _nothing() -> None:
    """Take a turn that does not count."""
