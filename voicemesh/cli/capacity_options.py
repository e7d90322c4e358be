"""`voicemesh capacity`: from its options to what is asked of a plan."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from voicemesh.capacity.arrivals import bursty, cycle_s, poisson, read_trace, trace
from voicemesh.capacity.demand import Load, turn_s
from voicemesh.capacity.manifests import manifests
from voicemesh.capacity.model import Model, lognormal, read_model, with_model
from voicemesh.capacity.plan import Arrivals, Wanted
from voicemesh.capacity.prices import Prices, check, read_prices
from voicemesh.capacity.profile import Profile
from voicemesh.capacity.stretch import stretched

_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s)?")
_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%?")
_MOST_RATE: Final = 100_000.0
_BURST_S: Final = 10.0
_BURSTS: Final = 3
"""So many, with the calm behind them, show what bursts do."""
_LONGEST_MS: Final = 3_600_000.0
_MIB_A_GIB: Final = 1024


@dataclass(frozen=True, kw_only=True)
class CapacityOptions:
    """What was asked for, as it was given; see `voicemesh capacity --help`."""

    turns: float | None
    rate_per_s: float | None
    callers: float | None
    think: str
    p95: str
    ttft: str
    tokens_per_s: float | None
    model_from: Path | None
    cached: str
    speech_s: float | None
    utilisation: str
    spare: int
    profile: str
    max_turns: int
    prices: Path | None
    node_cores: float | None
    node_gib: float | None
    node_usd: float | None
    gpu_usd: float | None
    llm_usd: float | None
    bursts: str
    trace: Path | None
    seed: int
    as_json: bool

    @property
    def own_model(self) -> bool:
        """Whether it was said when a model's first tokens come."""
        return bool(self.ttft) or self.model_from is not None


def profile_of(options: CapacityOptions, profile: Profile) -> Profile:
    """Return a profile as the options change it. Raises ValueError."""
    if options.speech_s is not None:
        _within("--speech-s", options.speech_s, 0.1, 3600)
        profile = stretched(profile, options.speech_s)
    model = _model(options)
    return profile if model is None else with_model(profile, model, options.seed)


def wanted_of(options: CapacityOptions, profile: Profile) -> Wanted:
    """Return what is asked of a plan. Raises ValueError."""
    cached = _share("--cached", options.cached, 0, 100)
    utilisation = _share("--utilisation", options.utilisation, 1, 98)
    objective_ms = time_ms("--p95", options.p95)
    rate_per_s = _rate(options, turn_s(profile, Load(1.0, cached)))
    cores = prices_of(options).node_cores or profile.measured["machine"].get("cpus")
    if not cores:
        raise ValueError("--node-cores: the profile does not say how many cores its machine has")
    if options.node_gib is not None:
        _within("--node-gib", options.node_gib, 0.1, 100_000)
    arrivals, least_s, peak = _arrivals(options, rate_per_s)
    return Wanted(
        rate_per_s=rate_per_s,
        objective_ms=objective_ms,
        utilisation=utilisation,
        spare=options.spare,
        cached=cached,
        cores=float(cores),
        memory_mib=None if options.node_gib is None else options.node_gib * _MIB_A_GIB,
        pods=manifests().of(profile),
        max_turns=options.max_turns,
        arrivals=arrivals,
        least_s=least_s,
        peak=peak,
        seed=options.seed,
    )


def think_s(options: CapacityOptions, turn_s: float) -> float:
    """Return how long a caller takes between a reply and the next prompt: as long as a turn, unless said."""
    return time_ms("--think", options.think, least_ms=0.0) / 1000 if options.think else turn_s


def _rate(options: CapacityOptions, turn_s: float) -> float:
    """Return the turns that begin in a second."""
    if options.think and options.callers is None:
        raise ValueError("--think: is about callers, and there are no --callers")
    if options.rate_per_s is not None:
        return _within("--rate", options.rate_per_s, 0.001, _MOST_RATE)
    if options.callers is not None:
        every_s = turn_s + think_s(options, turn_s)
        return _within("--callers", options.callers, 1, _MOST_RATE * every_s) / every_s
    assert options.turns is not None
    return _within("--turns", options.turns, 0.01, _MOST_RATE * turn_s) / turn_s


def _model(options: CapacityOptions) -> Model | None:
    if options.ttft and options.model_from is not None:
        raise ValueError("--ttft and --model-from exclude each other")
    tokens_per_s = options.tokens_per_s
    if tokens_per_s is not None:
        _within("--tokens-per-s", tokens_per_s, 0.1, 100_000)
    if options.model_from is not None:
        found = read_model(options.model_from)
        return found if tokens_per_s is None else Model(found.ttft_ms, None, tokens_per_s)
    if options.ttft:
        first, _, second = options.ttft.partition(",")
        try:
            p50_ms, p95_ms = time_ms("--ttft", first), time_ms("--ttft", second)
        except ValueError:
            raise ValueError(
                "--ttft: must be two times, as in 350ms,900ms: half of your model's first tokens come within "
                f"the first, 95 of 100 within the second; it is {options.ttft!r}"
            ) from None
        if p95_ms < p50_ms:
            raise ValueError(f"--ttft: the second time must be no less than the first, in {options.ttft!r}")
        return Model(lognormal(p50_ms, p95_ms), None, tokens_per_s)
    return None if tokens_per_s is None else Model(tokens_per_s=tokens_per_s)


def time_ms(name: str, text: str, least_ms: float = 0.001) -> float:
    """Read a time like 300ms or 0.8s; a number alone is milliseconds. Raises ValueError."""
    match = _TIME.fullmatch(text.strip())
    ms = float(match[1]) * (1000 if match[2] == "s" else 1) if match else -1.0
    if not least_ms <= ms <= _LONGEST_MS:
        raise ValueError(
            f"{name}: must be a time like 300ms, 0.8s, or 300 for milliseconds, above 0 and no more than "
            f"{_LONGEST_MS / 1000:g}s, and is {text!r}"
        )
    return ms


def _within(name: str, value: float, least: float, most: float) -> float:
    if not least <= value <= most:
        raise ValueError(f"{name}: must be from {least:g} to {most:g}, and is {value:g}")
    return value


def _share(name: str, text: str, least: float, most: float) -> float:
    match = _PERCENT.fullmatch(text.strip())
    if match is None or not least <= float(match[1]) <= most:
        raise ValueError(
            f"{name}: must be a percentage from {least:g} to {most:g}, as in 30%, and is {text!r}"
        )
    return float(match[1]) / 100


def prices_of(options: CapacityOptions) -> Prices:
    """Return what has a price. Raises ValueError."""
    given = Prices(options.node_cores, options.node_usd, options.gpu_usd, options.llm_usd)
    named = zip(
        ("--node-cores", "--node-usd", "--gpu-usd", "--llm-usd"),
        (options.node_cores, options.node_usd, options.gpu_usd, options.llm_usd),
        strict=True,
    )
    for name, value in named:
        if value is not None:
            check(name, value)
    return given.over(read_prices(options.prices) if options.prices is not None else Prices())


def _arrivals(options: CapacityOptions, rate_per_s: float) -> tuple[Arrivals, float, float]:
    """Return how turns come, how many seconds show all of it, and how many times the mean rate they keep."""
    if options.bursts and options.trace is not None:
        raise ValueError("--bursts and --trace exclude each other")
    if options.trace is not None:
        times_s = read_trace(options.trace)

        def as_recorded(rate_per_s: float, _chance: random.Random) -> Iterator[float]:
            return trace(times_s, rate_per_s)

        return as_recorded, len(times_s) / rate_per_s, 1.0
    if options.bursts:
        factor, _, seconds = options.bursts.partition(",")
        try:
            peak, burst_s = float(factor), float(seconds or _BURST_S)
        except ValueError:
            raise ValueError(
                f"--bursts: must be a factor, as in 4, or 4,30 for bursts of 30 s, and is {options.bursts!r}"
            ) from None
        _within("--bursts (factor)", peak, 1.1, 100)
        _within("--bursts (seconds)", burst_s, 0.01, 3600)

        def in_bursts(rate_per_s: float, chance: random.Random) -> Iterator[float]:
            return bursty(rate_per_s, peak, burst_s, chance)

        return in_bursts, _BURSTS * cycle_s(peak, burst_s), peak
    return poisson, 0.0, 1.0
