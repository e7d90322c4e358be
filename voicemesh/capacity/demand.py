"""What a load asks of each resource, and the fewest replicas that have as much: the beginning of a plan."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from voicemesh.capacity.profile import CALLER, CPU, GPU, SERVICES, WORKER, Kind, Profile

NODES: Final = "nodes"
"""Among what can be too few, beside `SERVICES`."""
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Load:
    """What is asked for."""

    rate_per_s: float
    """Turns that begin in a second."""
    cached: float
    """Share of them that is given from the cache."""


@dataclass(frozen=True)
class Need:
    """What keeps replicas of one service, or nodes, as busy as they may be."""

    resource: str
    """`CPU`, `engine slots`, `places of turns`, or `cores`."""
    units: float
    """How many of it are busy in the mean."""
    each: float
    """How many of it one replica has."""

    def replicas(self, utilisation: float) -> int:
        """Return how many replicas are busy for no more than that share of their time."""
        return max(1, math.ceil(self.units / self.each / utilisation - _ROUNDING))

    def busy(self, replicas: int) -> float:
        """Return for which share of their time so many are busy."""
        return self.units / self.each / replicas


def cpu_s(profile: Profile, load: Load, name: str) -> float:
    """Return CPU seconds of a process for a turn in the mean."""
    given = profile.cached.cpu_ms.get(name, 0.0) if profile.cached is not None else 0.0
    return (profile.made.cpu_ms.get(name, 0.0) * (1 - load.cached) + given * load.cached) / 1000


def turn_s(profile: Profile, load: Load) -> float:
    """Return how long a turn is in the mean: prompt to the end of its audio, heard as it is spoken."""

    def of(kind: Kind) -> float:
        return sum(turn.alone_ms for turn in kind.turns) / len(kind.turns) / 1000

    given_s = of(profile.cached) if profile.cached is not None else 0.0
    return of(profile.made) * (1 - load.cached) + given_s * load.cached + profile.made.audio_s


def cores_of(profile: Profile, load: Load, name: str) -> float:
    """Return how many cores the pods of a service use in the mean, in sum."""
    workers = cpu_s(profile, load, WORKER) if name == "tts" else 0.0
    return load.rate_per_s * (cpu_s(profile, load, name) + workers)


def counted(profile: Profile, load: Load) -> Mapping[str, float]:
    """Return what the autoscaler counts of each service in the mean, in sum: docs/scaling.md says what."""
    turns = profile.made.turns
    written_ms = sum(turn.llm_ms + (turn.chunks[-1].asked_ms if turn.chunks else 0.0) for turn in turns)
    made_per_s = load.rate_per_s * (1 - load.cached)
    streams = made_per_s * written_ms / len(turns) / 1000
    turns_at_once = load.rate_per_s * turn_s(profile, load)
    return {
        "gateway": turns_at_once,
        "llm": streams,
        "chunker": streams,
        "tts": made_per_s * profile.made.lease_s / (profile.engine.workers * profile.engine.units()),
        "cache": turns_at_once,
    }


def needs(profile: Profile, load: Load, *, cores: float, max_turns: int) -> Mapping[str, list[Need]]:
    """Return what each service needs, and nodes: of several, whichever asks for more replicas decides."""
    found = {name: [Need("CPU", load.rate_per_s * cpu_s(profile, load, name), 1.0)] for name in SERVICES}
    # Heard as spoken, a turn has its place nearly until the caller has heard it all.
    at_once = load.rate_per_s * turn_s(profile, load)
    found["gateway"].append(Need("places of turns", at_once, max_turns))
    engine = profile.engine
    leases = load.rate_per_s * (1 - load.cached) * profile.made.lease_s
    found["tts"].append(Need("engine slots", leases, engine.workers * engine.units()))
    all_cpu_s = sum(cpu_s(profile, load, name) for name in (*SERVICES, WORKER))
    found[NODES] = [Need("cores", load.rate_per_s * all_cpu_s, cores)]
    return found


def deciding(of: list[Need], utilisation: float) -> Need:
    """Return the one that asks for the most replicas."""
    return max(of, key=lambda need: (need.replicas(utilisation), need.units / need.each))


def per_core(profile: Profile, load: Load) -> float:
    """Return the turns a second that one core can do, if it does nothing else and never waits."""
    return 1 / sum(cpu_s(profile, load, name) for name in (*SERVICES, WORKER))


def per_engine(profile: Profile) -> float:
    """Return the turns a second that the engines of one TTS process can speak, all of them made."""
    return profile.engine.workers * profile.engine.units() / profile.made.lease_s


def is_stand_in(profile: Profile) -> bool:
    """Say whether the engine only waits: its figures are nobody's."""
    return profile.engine.kind not in (CPU, GPU)


__all__ = [
    "CALLER",
    "NODES",
    "Load",
    "Need",
    "cores_of",
    "counted",
    "cpu_s",
    "deciding",
    "is_stand_in",
    "needs",
    "per_core",
    "per_engine",
    "turn_s",
]
