"""The search: from what utilisation asks for, up to where the simulation keeps the objective.

fewest replicas that are busy for no more than the target ──> simulate ──> p95 within the objective? done
                                            ^                                │ no
                                            └── one more of what slow turns waited for most
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from voicemesh.capacity.arrivals import poisson
from voicemesh.capacity.demand import NODES, Load, Need, deciding, needs, turn_s
from voicemesh.capacity.events import TooLargeError
from voicemesh.capacity.manifests import Pod, nodes_for
from voicemesh.capacity.mesh import Layout
from voicemesh.capacity.profile import CPU, GPU, SERVICES, Profile, TurnSample
from voicemesh.capacity.simulation import Objective, Result, simulate
from voicemesh.capacity.turns import ENGINE, QUEUE

LATENCY: Final = "latency"
"""Why there are more than utilisation asks for."""
REQUESTS: Final = "what pods ask for"
"""Why there are more nodes than work asks for."""
_STEP: Final = 0.25
_FINE: Final = 0.04
"""Of replicas: what is less is not taken away one by one: a p95 of such samples does not tell it apart."""
_FAR: Final = 8
"""With so many times the replicas that utilisation asks for, an objective is out of reach."""
_SAMPLE: Final = 3000
"""Turns of a simulation, at least;"""
_LEAST_SOJOURNS: Final = 6
"""and it is as long as so many turns, so that what waits has time to show."""
_WARM: Final = 0.25
"""Of a simulation, that does not count."""
_MOST_REPLICAS: Final = 10_000
MOST_STEPS: Final = 4_000_000
"""Of all simulations of a plan in sum: half a minute or so. A count, so that every machine plans the same."""

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
    memory_mib: float | None = None
    """Of a node, for pods; None: enough."""
    pods: Mapping[str, Pod] | None = None
    """What a pod of each service asks for: nodes have room for it. None: nodes hold what they work."""
    max_turns: int = 256
    """Turns that a gateway runs at once."""
    arrivals: Arrivals = poisson
    least_s: float = 0.0
    """So long arrivals need to show all that they do: some bursts and the calm behind them, or a trace."""
    peak: float = 1.0
    """So many times their mean rate they keep for a while: where the search begins."""
    seed: int = 1
    most_steps: int = MOST_STEPS


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
    cut_short: bool = False
    """True where fewer replicas may do, and the search had no steps left to try them."""

    @property
    def at_once(self) -> float:
        """Turns at once."""
        return self.wanted.rate_per_s * self.turn_s


def plan(profile: Profile, wanted: Wanted) -> Plan:
    """Return the fewest replicas that keep the objective.

    Raises:
        UnreachableError: No number of them does.
        ValueError: The profile has no turns from the cache, and some were asked for; or there is too much to
            simulate.

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
    if sum(least.values()) > _MOST_REPLICAS:
        name = max(least, key=lambda each: least[each])
        raise ValueError(
            f"this takes {least[name]:,} {name}, and no more than {_MOST_REPLICAS:,} replicas are planned in "
            "all: ask for a part of the load, or for more turns in a gateway (--max-turns)"
        )
    begin = {
        name: max(least[name], *(_at_peak(need, wanted.peak).replicas(1.0) for need in of))
        for name, of in asked.items()
    }
    search = _Search(profile, wanted, asked, begin)
    result = search.up(floor_ms)
    result = search.down(least, result)
    counts, tried = search.counts, search.tried
    found = {name: _service(name, counts, least, asked[name], wanted) for name in (*SERVICES, NODES)}
    found[NODES] = _with_room(found, wanted)
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
        search.cut_short,
    )


def _at_peak(need: Need, peak: float) -> Need:
    return replace(need, units=need.units * peak)


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
        self.cut_short = False
        self._steps_left = wanted.most_steps

    def up(self, floor_ms: float) -> Result:
        """Have more of what slow turns wait for until the objective is kept."""
        wanted, least = self._wanted, dict(self.counts)
        last_ms: float | None = None
        while True:
            try:
                result = self._try(self.counts)
            except TooLargeError:
                raise self._too_large(last_ms, floor_ms) from None
            if self._keeps(result):
                return result
            last_ms = result.percentile(wanted.percent)
            name = _tight(result, self._profile, self._asked, self.counts, wanted.percent)
            self.counts[name] += max(1, round(self.counts[name] * _STEP))
            if self.counts[name] > _FAR * least[name] + _FAR:
                raise UnreachableError(
                    f"p{wanted.percent:g} stays at {result.percentile(wanted.percent):.0f} ms with {_FAR} "
                    f"times the {name} that {wanted.utilisation:.0%} utilisation asks for; without any "
                    f"waiting it would be {floor_ms:.0f} ms"
                )

    def down(self, least: Mapping[str, int], result: Result) -> Result:
        """Give back what was more than it took."""
        for name, low in least.items():
            low_count, high = low, self.counts[name]
            while high - low_count > _FINE * high:
                middle = (low_count + high) // 2
                try:
                    tried = self._try({**self.counts, name: middle})
                except TooLargeError:
                    self.cut_short = True
                    self.counts[name] = high
                    return result
                if self._keeps(tried):
                    high, result = middle, tried
                else:
                    low_count = middle + 1
            self.counts[name] = high
        return result

    def _keeps(self, result: Result) -> bool:
        wanted = self._wanted
        late = result.percentile(wanted.percent) > wanted.objective_ms
        return not (late or result.missed or result.refused)

    def _try(self, counts: Mapping[str, int]) -> Result:
        result = _try(self._profile, self._wanted, counts, self._steps_left)
        self._steps_left = max(0, self._steps_left - result.steps)
        self.tried += 1
        return result

    def _too_large(self, last_ms: float | None, floor_ms: float) -> ValueError:
        wanted = self._wanted
        if last_ms is not None:
            return UnreachableError(
                f"gave up at {self.tried} layouts, the last with a p{wanted.percent:g} of {last_ms:.0f} ms: "
                f"{wanted.objective_ms:g} ms is close to the {floor_ms:.0f} ms of who waits for nobody, or "
                "the load is too large to simulate so often. Allow more time, or ask for a part of the load"
            )
        what = f"{wanted.rate_per_s:g} turns a second"
        if wanted.least_s:
            what += f" for the {_span_s(self._profile, wanted):,.0f} s that the arrivals need"
        return ValueError(
            f"{what} with {self._profile.made.audio_s:.0f} s of audio each are more than is simulated. Ask "
            "for a part of the load, as a tenth, and take so many times its replicas; of long bursts ask for "
            "their rate itself, without --bursts"
        )


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


def _span_s(profile: Profile, wanted: Wanted) -> float:
    """Return for how long turns come to a simulation."""
    made = profile.made
    # What is not heard is made as fast as text and engines come: turns end sooner than they are listened to.
    usual_s = sum(
        turn.alone_ms + max(turn.lease_ms, *(chunk.asked_ms + chunk.lease_ms for chunk in turn.chunks))
        if turn.chunks
        else turn.alone_ms
        for turn in made.turns
    ) / (len(made.turns) * 1000)
    return max(_SAMPLE / wanted.rate_per_s, _LEAST_SOJOURNS * usual_s, wanted.least_s / (1 - _WARM))


def _try(profile: Profile, wanted: Wanted, counts: Mapping[str, int], most_steps: int) -> Result:
    end_s = _span_s(profile, wanted)
    chance = random.Random(f"{wanted.seed} arrivals")  # noqa: S311 - keeps no secret
    return simulate(
        profile,
        layout_of(wanted, counts),
        wanted.arrivals(wanted.rate_per_s, chance),
        seed=wanted.seed,
        end_s=end_s,
        warm_s=_WARM * end_s,
        cached=wanted.cached,
        most_steps=most_steps,
        objective=Objective(wanted.percent, wanted.objective_ms),
    )


def _tight(
    result: Result,
    profile: Profile,
    asked: Mapping[str, list[Need]],
    counts: Mapping[str, int],
    percent: float,
) -> str:
    """Return what there should be more of: what slow turns waited for most, or where they were refused."""
    for name in result.slow_waits(percent):
        if name == QUEUE:
            return "tts"
        if name == ENGINE:
            # A device has others' leases; an engine that works waits for the cores of its node.
            return NODES if profile.engine.kind == CPU else "tts"
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


def _with_room(found: Mapping[str, Service], wanted: Wanted) -> Service:
    """Return nodes that have room for what all pods ask for, spare ones included."""
    nodes = found[NODES]
    if wanted.pods is None:
        return nodes
    replicas = {name: found[name].replicas for name in SERVICES}
    count = nodes_for(wanted.pods, replicas, wanted.cores, wanted.memory_mib) + wanted.spare
    if count <= nodes.replicas:
        return nodes
    return replace(nodes, replicas=count, because=REQUESTS, busy=nodes.need.busy(count - wanted.spare))


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
