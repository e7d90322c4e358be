"""`voicemesh capacity`: options to a plan, and the plan as a table or as JSON."""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from voicemesh.capacity import profile as profiles
from voicemesh.capacity.arrivals import bursty, cycle_s, poisson, read_trace, trace
from voicemesh.capacity.demand import NODES, Load, cpu_s, is_stand_in, per_core, per_engine, turn_s
from voicemesh.capacity.plan import Arrivals, Plan, Service, UnreachableError, Wanted, plan
from voicemesh.capacity.prices import Cost, Prices, check, cost_of, read_prices
from voicemesh.capacity.profile import GPU, SERVICES, WORKER, Profile
from voicemesh.capacity.stretch import stretched, with_model
from voicemesh.capacity.turns import ENGINE, QUEUE
from voicemesh.cli.console import console_for, print_table, table_of
from voicemesh.cli.exits import DONE, FAILED, Failure, usage

_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s)")
_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%?")
_MOST_RATE: Final = 100_000.0
_BURST_S: Final = 10.0
_BURSTS: Final = 3
"""So many, with the calm behind them, show what bursts do."""
_LONGEST_MS: Final = 3_600_000.0


@dataclass(frozen=True, kw_only=True)
class CapacityOptions:
    """What was asked for, as it was given; see `voicemesh capacity --help`."""

    turns: float | None
    rate_per_s: float | None
    p95: str
    model_ms: float | None
    cached: str
    speech_s: float | None
    utilisation: str
    spare: int
    profile: str
    max_turns: int
    prices: Path | None
    node_cores: float | None
    node_usd: float | None
    gpu_usd: float | None
    llm_usd: float | None
    bursts: str
    trace: Path | None
    seed: int
    as_json: bool


def run_profiles(*, as_json: bool) -> int:
    """Print the profiles that come along."""
    found = [profiles.load(name) for name in profiles.shipped()]
    if as_json:
        print(json.dumps({"profiles": [_profile_json(profile) for profile in found]}))
        return DONE
    console = console_for()
    table = table_of("profile", "engine", "turns/s a core", "a TTS process", "measured", left=2)
    for profile in found:
        table.add_row(
            Text(profile.name),
            Text(_engine(profile)),
            f"{per_core(profile, Load(1.0, 0.0)):.1f}",
            f"{per_engine(profile):.2f}",
            f"{profile.measured['at']}",
        )
    print_table(console, table)
    for profile in found:
        for line in _about(profile):
            console.print(line, markup=False, soft_wrap=True)
    return DONE


def run_capacity(options: CapacityOptions) -> int:
    """Print a plan. Raises Failure."""
    if (options.turns is None) == (options.rate_per_s is None):
        raise usage(
            "say how much is asked for: either --turns N (at once) or --rate R (that begin in a second)",
            "for example `voicemesh capacity --turns 10000 --p95 300ms`",
        )
    try:
        profile = profiles.load(options.profile)
        if options.speech_s is not None:
            _within("--speech-s", options.speech_s, 0.1, 3600)
            profile = stretched(profile, options.speech_s)
        if options.model_ms is not None:
            _within("--model-ms", options.model_ms, 0, 600_000)
            profile = with_model(profile, options.model_ms)
        wanted = _wanted(options, profile)
        prices = _prices(options)
        found = plan(profile, wanted)
    except UnreachableError as error:
        raise Failure(FAILED, "OUT_OF_REACH", str(error)) from None
    except ValueError as error:
        raise usage(str(error)) from None
    cost = cost_of(
        prices,
        nodes=found.nodes.replicas,
        gpus=found.gpus,
        rate_per_s=wanted.rate_per_s,
        cached=wanted.cached,
    )
    if options.as_json:
        print(json.dumps(_json(found, cost)))
    else:
        _print(found, cost)
    return DONE


# ---- options ----------------------------------------------------------------------------------


def _wanted(options: CapacityOptions, profile: Profile) -> Wanted:
    match = _TIME.fullmatch(options.p95.strip())
    if match is None or not float(match[1]):
        raise ValueError(f"--p95: must be a time like 300ms or 0.8s, and is {options.p95!r}")
    objective_ms = float(match[1]) * (1000 if match[2] == "s" else 1)
    if objective_ms > _LONGEST_MS:
        raise ValueError(f"--p95: must be no more than {_LONGEST_MS / 1000:g}s, and is {options.p95!r}")
    cached = _share("--cached", options.cached, 0, 100)
    utilisation = _share("--utilisation", options.utilisation, 1, 98)
    load = Load(1.0, cached)
    if options.rate_per_s is not None:
        rate_per_s = _within("--rate", options.rate_per_s, 0.001, _MOST_RATE)
    else:
        assert options.turns is not None
        most = _MOST_RATE * turn_s(profile, load)
        rate_per_s = _within("--turns", options.turns, 0.01, most) / turn_s(profile, load)
    cores = _prices(options).node_cores or profile.measured["machine"].get("cpus")
    if not cores:
        raise ValueError("--node-cores: the profile does not say how many cores its machine has")
    arrivals, least_s, peak = _arrivals(options, rate_per_s)
    return Wanted(
        rate_per_s=rate_per_s,
        objective_ms=objective_ms,
        utilisation=utilisation,
        spare=options.spare,
        cached=cached,
        cores=float(cores),
        max_turns=options.max_turns,
        arrivals=arrivals,
        least_s=least_s,
        peak=peak,
        seed=options.seed,
    )


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


def _prices(options: CapacityOptions) -> Prices:
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


# ---- the plan as JSON -------------------------------------------------------------------------


def _service_json(service: Service) -> dict[str, Any]:
    return {
        "replicas": service.replicas,
        "decided_by": service.because,
        "resource": service.need.resource,
        "busy": round(service.busy, 4),
    }


def _profile_json(profile: Profile) -> dict[str, Any]:
    load, engine = Load(1.0, 0.0), profile.engine
    return {
        "name": profile.name,
        "engine": engine.voice,
        "kind": engine.kind,
        "device": engine.device,
        "stand_in": is_stand_in(profile),
        "measured": {key: profile.measured[key] for key in ("at", "machine", "command")},
        "busy": profile.busy,
        "caveats": profile.caveats,
        "turn": {
            "audio_s": round(profile.made.audio_s, 3),
            "cpu_ms": {name: round(cpu_s(profile, load, name) * 1000, 3) for name in (*SERVICES, WORKER)},
            "engine_s": round(profile.made.lease_s, 4),
        },
        "turns_per_s": {
            "core": round(per_core(profile, load), 3),
            "tts_process": round(per_engine(profile), 3),
            "gpu": round(per_engine(profile) / engine.workers, 3) if engine.kind == GPU else None,
        },
    }


def _json(found: Plan, cost: Cost) -> dict[str, Any]:
    wanted, result = found.wanted, found.result
    return {
        "asked": {
            "turns_at_once": round(found.at_once, 3),
            "turns_per_s": round(wanted.rate_per_s, 4),
            "turn_s": round(found.turn_s, 3),
            "p95_ms": wanted.objective_ms,
            "cached": wanted.cached,
            "utilisation": wanted.utilisation,
            "spare": wanted.spare,
            "node_cores": wanted.cores,
        },
        "services": {service.name: _service_json(service) for service in found.services},
        NODES: _service_json(found.nodes),
        "gpus": found.gpus,
        "simulated": {
            "turns": len(result.turns),
            "ttfa_ms": {f"p{percent}": round(result.percentile(percent), 1) for percent in (50, 95, 99)},
            "floor_p95_ms": round(found.floor_ms, 1),
            "slow_waits_ms": {name: round(ms, 2) for name, ms in result.slow_waits().items()},
            "refused": round(result.refused, 5),
            "ran_dry": round(result.dry, 5),
            "layouts": found.simulated,
        },
        "cost": {
            "usd_per_hour": _rounded(cost.per_hour_usd),
            "llm_usd_per_hour": _rounded(cost.llm_per_hour_usd),
            "usd_per_1000_turns": _rounded(cost.per_1000_turns_usd),
            "unpriced": list(cost.unpriced),
        },
        "profile": _profile_json(found.profile),
        "remarks": remarks(found, cost),
    }


def _rounded(usd: float | None) -> float | None:
    return None if usd is None else round(usd, 6)


# ---- the plan as a table ----------------------------------------------------------------------

_WAITS: Final = {QUEUE: "an engine", ENGINE: "others on the engine"}


def _print(found: Plan, cost: Cost) -> None:
    wanted, result = found.wanted, found.result
    console = console_for()

    def tell(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    tell(
        f"{found.at_once:,.0f} turns at once = {wanted.rate_per_s:,.2f} that begin in a second x "
        f"{found.turn_s:.1f} s from prompt to last sound"
    )
    table = table_of("", "replicas", "decided by", "busy", left=1)
    for service in (*found.services, found.nodes):
        because = service.because
        if wanted.spare:
            because += f", {wanted.spare} spare"
        name = service.name if service.name != NODES else f"nodes of {wanted.cores:g} cores"
        table.add_row(
            Text(name), f"{service.replicas:,}", because, f"{service.busy:.0%} of {service.need.resource}"
        )
    if found.gpus:
        table.add_row("GPUs", f"{found.gpus:,}", "one for each replica of the model", "")
    print_table(console, table)
    waits = [f"{_WAITS.get(name, name)} {ms:.0f} ms" for name, ms in result.slow_waits().items() if ms >= 0.5]
    tell(
        f"time to first audio, simulated ({len(result.turns):,} turns): p50 {result.percentile(50):.0f} ms, "
        f"p95 {result.percentile(95):.0f} ms of {wanted.objective_ms:g}, p99 {result.percentile(99):.0f} ms; "
        f"p95 without any waiting {found.floor_ms:.0f} ms"
    )
    tell("slow turns waited for: " + (", ".join(waits[:4]) or "nobody"))
    if cost.per_hour_usd is not None and cost.per_1000_turns_usd is not None:
        llm = f" + LLM ${cost.llm_per_hour_usd:,.2f}" if cost.llm_per_hour_usd is not None else ""
        tell(f"cost ${cost.per_hour_usd:,.2f} an hour{llm}; ${cost.per_1000_turns_usd:,.4f} for 1,000 turns")
    for line in [*_about(found.profile), *remarks(found, cost)]:
        tell(line)


def _engine(profile: Profile) -> str:
    engine = profile.engine
    return f"{engine.voice} on {engine.device}, {engine.workers} x {engine.slots} at once"


def _about(profile: Profile) -> list[str]:
    measured, load = profile.measured, Load(1.0, 0.0)
    where = measured["machine"]
    cpus = f", {where['cpus']} CPUs" if where.get("cpus") else ""
    about = (
        f"profile {profile.name}: {_engine(profile)}; measured {measured['at']} on "
        f"{where.get('cpu') or 'a machine'}{cpus}. A turn has {profile.made.audio_s:.1f} s of audio, and "
        f"takes {1000 / per_core(profile, load):.0f} ms of CPU and {profile.made.lease_s:.2f} s of engines"
    )
    lines = [about]
    lines += [f"  {profile.name}: {caveat}" for caveat in profile.caveats]
    if is_stand_in(profile):
        lines.append(
            f"  the engine of {profile.name} only waits, as if it were a device: its figures are nobody's"
        )
    return lines


def remarks(found: Plan, cost: Cost) -> list[str]:
    """Return what the figures do not say by themselves."""
    lines = []
    if found.profile.engine.kind != GPU:
        lines.append(
            "no GPU is in this plan: the profile measured none. Record one on yours (docs/capacity.md), and "
            "name it with --profile"
        )
    if cost.unpriced:
        what = {"nodes": "--node-usd", "GPUs": "--gpu-usd", "LLM": "--llm-usd"}
        lines.append(
            f"without a price, and in no sum: {', '.join(f'{name} ({what[name]})' for name in cost.unpriced)}"
        )
    if found.cut_short:
        lines.append("the search ended before it had tried fewer of everything: fewer replicas may do")
    if found.result.dry > 0.01:
        lines.append(f"the players of {found.result.dry:.1%} of turns ran dry behind their first audio")
    if found.profile.made.lease_s > found.profile.made.audio_s:
        lines.append(
            "the engine is slower than its audio is heard: players run dry, with any number of replicas"
        )
    return lines
