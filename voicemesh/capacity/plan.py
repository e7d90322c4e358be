"""The search: from what utilisation asks for, up to where the simulation keeps the objective.

fewest replicas that are busy for no more than the target ──> simulate ──> p95 within the objective? done
                                            ^                                │ no
                                            └── one more of what slow turns waited for most
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from voicemesh.capacity.arrivals import poisson
from voicemesh.capacity.demand import NODES, Load, Need, deciding, needs, turn_s
from voicemesh.capacity.mesh import Layout
from voicemesh.capacity.profile import GPU, SERVICES, Profile, TurnSample
from voicemesh.capacity.simulation import Result, simulate
from voicemesh.capacity.turns import QUEUE

LATENCY: Final = "latency"
"""Why there are more than utilisation asks for."""
_STEP: Final = 0.25
_FAR: Final = 8
"""With so many times the replicas that utilisation asks for, an objective is out of reach."""
_SAMPLE: Final = 3000
"""Turns of a simulation, at least;"""
_LEAST_SOJOURNS: Final = 6
"""and it is as long as so many turns, so that what waits has time to show."""
_WARM: Final = 0.25
"""Of a simulation, that does not count."""

Arrivals = Callable[[float, random.Random], Iterator[float]]
"""Gives the moments of arrivals at a mean rate."""


class UnreachableError(ValueError):
    """No number of replicas keeps the objective. The text says why, and what would."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked for."""

    rate_per_s: float
    """Turns that begin in a second."""
    objective_ms: float
    """The percentile of the time to first audio is to be no more."""
    percent: float = 95.0
    utilisation: float = 0.7
    """No resource is to be busy for more than this share of the time."""
    spare: int = 0
    """So many replicas of each service, and nodes, more than that takes: they may be lost."""
    cached: float = 0.0
    """Share of turns that the cache gives."""
    cores: float
    """Of a node."""
    max_turns: int = 256
    """Turns that a gateway runs at once."""
    arrivals: Arrivals = poisson
    seed: int = 1


@dataclass(frozen=True)
class Service:
    """Replicas of one service, or nodes."""

    name: str
    replicas: int
    """All of them, spare ones included."""
    because: str
    """What decides: a resource, or `LATENCY`."""
    need: Need
    busy: float
    """Share of that resource that is used without the spare ones."""


@dataclass(frozen=True)
class Plan:
    """What it takes."""

    wanted: Wanted
    profile: Profile
    services: Sequence[Service]
    nodes: Service
    gpus: int
    turn_s: float
    """Mean length of a turn: prompt to the end of its audio."""
    result: Result
    """Of the simulation without the spare replicas."""
    floor_ms: float
    """The percentile where nothing is waited for."""
    simulated: int = field(default=1)
    """Layouts that were tried."""

    @property
    def at_once(self) -> float:
        """Turns at once."""
        return self.wanted.rate_per_s * self.turn_s


def plan(profile: Profile, wanted: Wanted) -> Plan:
    """Return the fewest replicas that keep the objective.

    Raises:
        UnreachableError: No number of them does.
        ValueError: The profile has no turns from the cache, and some were asked for.

    """
    if wanted.cached and profile.cached is None:
        raise ValueError(f"the profile {profile.name} has no turns that were in the cache")
    load = Load(wanted.rate_per_s, wanted.cached)
    floor_ms = floor(profile, wanted)
    if floor_ms > wanted.objective_ms:
        raise UnreachableError(_why_not(profile, wanted, floor_ms))
    asked = needs(profile, load, cores=wanted.cores, max_turns=wanted.max_turns)
    least = {
        name: deciding(of, wanted.utilisation).replicas(wanted.utilisation) for name, of in asked.items()
    }
    search = _Search(profile, wanted, asked, dict(least))
    result = search.up(floor_ms)
    result = search.down(least, result)
    counts, tried = search.counts, search.tried
    found = {name: _service(name, counts, least, asked[name], wanted) for name in (*SERVICES, NODES)}
    tts = found["tts"].replicas
    return Plan(
        wanted,
        profile,
        [found[name] for name in SERVICES],
        found[NODES],
        tts * profile.engine.workers if profile.engine.kind == GPU else 0,
        turn_s(profile, load),
        result,
        floor_ms,
        tried,
    )


class _Search:
    """Layouts that are tried, one after the other."""

    def __init__(
        self, profile: Profile, wanted: Wanted, asked: Mapping[str, list[Need]], counts: dict[str, int]
    ) -> None:
        self._profile = profile
        self._wanted = wanted
        self._asked = asked
        self.counts = counts
        self.tried = 0

    def up(self, floor_ms: float) -> Result:
        """Have more of what slow turns wait for until the objective is kept."""
        wanted, least = self._wanted, dict(self.counts)
        while not self._keeps(result := self._try(self.counts)):
            name = _tight(result, self._asked, self.counts, wanted.percent)
            self.counts[name] += max(1, round(self.counts[name] * _STEP))
            if self.counts[name] > _FAR * least[name] + _FAR:
                raise UnreachableError(
                    f"p{wanted.percent:g} stays at {result.percentile(wanted.percent):.0f} ms with {_FAR} "
                    f"times the {name} that {wanted.utilisation:.0%} utilisation asks for; without any "
                    f"waiting it would be {floor_ms:.0f} ms"
                )
        return result

    def down(self, least: Mapping[str, int], result: Result) -> Result:
        """Give back what was more than it took."""
        for name, low in least.items():
            low_count, high = low, self.counts[name]
            while low_count < high:
                middle = (low_count + high) // 2
                tried = self._try({**self.counts, name: middle})
                if self._keeps(tried):
                    high, result = middle, tried
                else:
                    low_count = middle + 1
            self.counts[name] = high
        return result

    def _keeps(self, result: Result) -> bool:
        wanted = self._wanted
        return result.percentile(wanted.percent) <= wanted.objective_ms and not result.refused

    def _try(self, counts: Mapping[str, int]) -> Result:
        self.tried += 1
        return _try(self._profile, self._wanted, counts)


def floor(profile: Profile, wanted: Wanted) -> float:
    """Return the percentile of the time to first audio where no turn waits for another, in ms."""
    weighted = [(turn.alone_ms, (1 - wanted.cached) / len(profile.made.turns)) for turn in profile.made.turns]
    if profile.cached is not None and wanted.cached:
        share = wanted.cached / len(profile.cached.turns)
        weighted += [(turn.alone_ms, share) for turn in profile.cached.turns]
    below = 0.0
    for alone_ms, weight in sorted(weighted):
        below += weight
        if below >= wanted.percent / 100 - 1e-9:
            return alone_ms
    return max(weighted)[0]


def layout_of(wanted: Wanted, counts: Mapping[str, int]) -> Layout:
    """Return what is simulated."""
    return Layout(
        replicas={name: counts[name] for name in SERVICES},
        nodes=counts[NODES],
        cores=wanted.cores,
        max_turns=wanted.max_turns,
    )


def _try(profile: Profile, wanted: Wanted, counts: Mapping[str, int]) -> Result:
    made = profile.made
    # What is not heard is made as fast as engines can: turns end sooner than they are listened to.
    usual_s = sum(turn.alone_ms + turn.lease_ms for turn in made.turns) / len(made.turns) / 1000
    end_s = max(_SAMPLE / wanted.rate_per_s, _LEAST_SOJOURNS * usual_s)
    chance = random.Random(f"{wanted.seed} arrivals")  # noqa: S311 - keeps no secret
    return simulate(
        profile,
        layout_of(wanted, counts),
        wanted.arrivals(wanted.rate_per_s, chance),
        seed=wanted.seed,
        end_s=end_s,
        warm_s=_WARM * end_s,
        cached=wanted.cached,
    )


def _tight(result: Result, asked: Mapping[str, list[Need]], counts: Mapping[str, int], percent: float) -> str:
    """Return what there should be more of: what slow turns waited for most, or where they were refused."""
    for name in result.slow_waits(percent):
        if name == QUEUE:
            return "tts"
        if name in SERVICES:
            # A process waits for its own event loop, or with others for the cores of its node.
            own = max(need.busy(counts[name]) for need in asked[name] if need.resource == "CPU")
            return NODES if asked[NODES][0].busy(counts[NODES]) >= own else name
    return max(SERVICES, key=lambda name: max(need.busy(counts[name]) for need in asked[name]))


def _service(
    name: str, counts: Mapping[str, int], least: Mapping[str, int], of: list[Need], wanted: Wanted
) -> Service:
    need = deciding(of, wanted.utilisation)
    because = LATENCY if counts[name] > least[name] else need.resource
    return Service(name, counts[name] + wanted.spare, because, need, need.busy(counts[name]))


def _why_not(profile: Profile, wanted: Wanted, floor_ms: float) -> str:
    """Say which stage keeps an objective out of reach."""
    turns = [*profile.made.turns]
    slow = [turn for turn in turns if turn.alone_ms >= floor_ms] or turns
    parts = {name: sum(map(part, slow)) / len(slow) for name, part in _PARTS.items()}
    largest = max(parts, key=lambda name: parts[name])
    told = ", ".join(f"{name} {ms:.0f} ms" for name, ms in sorted(parts.items(), key=lambda each: -each[1]))
    return (
        f"p{wanted.percent:g} of {wanted.objective_ms:g} ms is out of reach with any number of replicas: "
        f"where nobody waits it is {floor_ms:.0f} ms, most of it {largest} ({told}). {_ADVICE[largest]}"
    )


_PARTS: Final[dict[str, Callable[[TurnSample], float]]] = {
    "the model": lambda turn: turn.llm_ms,
    "the hold of the first chunk": lambda turn: turn.hold_ms,
    "the engine's first frame": lambda turn: turn.chunks[0].first_ms if turn.chunks else 0.0,
    "the mesh": lambda turn: sum(turn.path_ms.values()),
}
_ADVICE: Final = {
    "the model": "Ask a model with a shorter time to its first token, or give more from the cache",
    "the hold of the first chunk": "Cut the first chunk sooner (docs/chunks.md)",
    "the engine's first frame": "Take a voice with a shorter time to its first frame, or another device",
    "the mesh": "Record a profile on a faster machine, or look for what is slow with `voicemesh explain`",
}
