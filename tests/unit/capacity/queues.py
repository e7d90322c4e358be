"""Profiles that are textbook queues, and what textbooks say of those."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from voicemesh.capacity.arrivals import poisson
from voicemesh.capacity.mesh import Layout
from voicemesh.capacity.pods import TtsLimits
from voicemesh.capacity.profile import (
    SERVICES,
    TIMERS,
    ChunkSample,
    Engine,
    Kind,
    Profile,
    TurnSample,
)
from voicemesh.capacity.simulation import Result, simulate

ENDLESS = TtsLimits(max_queued_chunks=10**9, max_lateness_ms=0)
ONE_OF_EACH = dict.fromkeys(SERVICES, 1)
MEASURED = {"at": "2026-01-01", "machine": {"cpu": "none", "cpus": 2}, "command": "none"}


def profile(
    leases_ms: Sequence[float],
    *,
    slots: int = 1,
    workers: int = 1,
    kind: str = TIMERS,
    cpu_ms: dict[str, float] | None = None,
    path_ms: dict[str, float] | None = None,
    llm_ms: float = 0.0,
    first_ms: float = 0.0,
    slowdown: Sequence[float] = (),
) -> Profile:
    """Turns of one chunk each, with these leases; a second of audio."""
    turns = [
        TurnSample(llm_ms, 0.0, path_ms or {}, (ChunkSample(0.0, 1000.0, min(first_ms, ms), ms),))
        for ms in leases_ms
    ]
    engine = Engine("test:test", kind, "none", workers, slots, slowdown)
    return Profile("test", MEASURED, engine, Kind(cpu_ms or {}, turns))


def exponential(mean_ms: float, count: int = 20_000) -> list[float]:
    """Draws whose mean is exact."""
    chance = random.Random(7)
    drawn = [chance.expovariate(1.0) for _ in range(count)]
    scale = mean_ms * count / sum(drawn)
    return [ms * scale for ms in drawn]


def layout(**given: object) -> Layout:
    """One of each, without limits."""
    return replace(Layout(replicas=ONE_OF_EACH, max_turns=10**9, tts=ENDLESS), **given)  # type: ignore[arg-type]


def run(of: Profile, busy: float, *, turns: int = 20_000, seed: int = 1, **given: object) -> Result:
    """Keep the slots of one process so busy."""
    rate_per_s = busy * of.engine.slots * of.engine.workers / of.made.lease_s
    arrivals = poisson(rate_per_s, random.Random(seed))
    end_s = turns / rate_per_s
    return simulate(of, layout(**given), arrivals, seed=seed, end_s=end_s, warm_s=end_s / 20)


def mean_and_error(values: Sequence[float], batches: int = 25) -> tuple[float, float]:
    """The mean, and its standard error by the means of batches: waits that follow each other are alike."""
    size = len(values) // batches
    means = [sum(values[at * size : (at + 1) * size]) / size for at in range(batches)]
    mean = sum(means) / batches
    return mean, math.sqrt(sum((each - mean) ** 2 for each in means) / (batches - 1) / batches)


def erlang_c(servers: int, busy: float) -> float:
    """The chance to wait in M/M/c (Erlang, 1917)."""
    offered = servers * busy
    blocked = 1.0
    for count in range(1, servers + 1):  # Erlang B, by its recursion
        blocked = offered * blocked / (count + offered * blocked)
    return blocked / (1 - busy * (1 - blocked))


def m_m_c_wait(servers: int, busy: float, mean: float) -> float:
    """The mean wait in M/M/c."""
    return erlang_c(servers, busy) * mean / (servers * (1 - busy))


def m_d_c_wait(servers: int, busy: float, lasts: float) -> float:
    """The mean wait in M/D/c: what is there a service time later is what could not be served, and who came.

    The stationary distribution of X' = max(X - c, 0) + A with A Poisson (Crommelin, 1932), by iteration; who
    waits is (X - c)+ in the mean, and Little's law turns it into a time.
    """
    arrive = servers * busy
    most = 60 * servers
    coming = [math.exp(-arrive)]
    for count in range(1, most):
        coming.append(coming[-1] * arrive / count)
    here = [1.0] + [0.0] * (most - 1)
    before = math.inf
    while True:
        rest = [sum(here[: servers + 1]), *here[servers + 1 :]]
        here = [
            sum(rest[left] * coming[there - left] for left in range(min(there, len(rest) - 1) + 1))
            for there in range(most)
        ]
        waiting = sum((there - servers) * chance for there, chance in enumerate(here) if there > servers)
        if abs(waiting - before) < 1e-9:
            return waiting / arrive * lasts
        before = waiting
