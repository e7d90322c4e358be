"""`voicemesh capacity`: a plan as a table, or as JSON."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from voicemesh.capacity.cluster import Pods, advice, on_cluster
from voicemesh.capacity.demand import NODES, Load, cpu_s, is_stand_in, per_core, per_engine
from voicemesh.capacity.plan import Plan, Service
from voicemesh.capacity.prices import Cost
from voicemesh.capacity.profile import GPU, SERVICES, WORKER, Profile
from voicemesh.capacity.simulation import percentile
from voicemesh.capacity.turns import ENGINE, QUEUE
from voicemesh.cli.capacity_options import CapacityOptions, think_s
from voicemesh.cli.console import console_for, print_table, table_of

# ---- the plan as JSON -------------------------------------------------------------------------


def _service_json(service: Service) -> dict[str, Any]:
    return {
        "replicas": service.replicas,
        "decided_by": service.because,
        "resource": service.need.resource,
        "busy": round(service.busy, 4),
    }


def _pods_json(of: Pods) -> dict[str, Any]:
    keda = of.scaled
    return {
        "asks_for": {"cpu": of.pod.cpu, "memory_mib": of.pod.memory_mib},
        "limits": {"cpu": of.pod.cpu_limit, "memory_mib": of.pod.memory_limit_mib},
        "uses_cpu": round(of.used, 4),
        "all": {"cpu": round(of.cpu, 3), "memory_mib": round(of.memory_mib, 1)},
        "keda": {
            "counts": round(keda.counted, 3),
            "threshold": keda.trigger.threshold,
            "fitting_threshold": keda.fits,
            "pods": keda.pods,
            "most": keda.trigger.most,
        },
    }


def profile_json(profile: Profile) -> dict[str, Any]:
    """Return what a profile is, in its JSON form."""
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
        "model": {"name": profile.model, "tokens_per_s": profile.tokens_per_s},
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


def plan_json(found: Plan, cost: Cost, options: CapacityOptions) -> dict[str, Any]:
    """Return a plan in its JSON form."""
    wanted, result = found.wanted, found.result
    pods = on_cluster(found)
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
            "node_memory_mib": wanted.memory_mib,
            "callers": options.callers,
            "model_p95_ms": round(_model_ms(found.profile, 95), 1),
        },
        "services": {
            service.name: _service_json(service) | _pods_json(pods[service.name])
            for service in found.services
        },
        "asked_for": {
            "cpu": round(sum(of.cpu for of in pods.values()), 3),
            "memory_mib": round(sum(of.memory_mib for of in pods.values()), 1),
        },
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
        "profile": profile_json(found.profile),
        "remarks": remarks(found, cost, options, pods),
    }


def _rounded(usd: float | None) -> float | None:
    return None if usd is None else round(usd, 6)


# ---- the plan as a table ----------------------------------------------------------------------

_WAITS: Final = {QUEUE: "an engine", ENGINE: "others on the engine"}


def show(found: Plan, cost: Cost, options: CapacityOptions) -> None:
    """Print a plan for people."""
    wanted, result = found.wanted, found.result
    console = console_for()
    pods = on_cluster(found)

    def tell(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    if options.callers is not None:
        tell(
            f"{options.callers:,g} callers, each {found.turn_s:.1f} s in a turn and "
            f"{think_s(options, found.turn_s):.1f} s out of one:"
        )
    tell(
        f"{found.at_once:,.0f} turns at once = {wanted.rate_per_s:,.2f} that begin in a second x "
        f"{found.turn_s:.1f} s from prompt to last sound"
    )
    _replicas(console, found, pods)
    tell(
        f"all pods ask for {sum(of.cpu for of in pods.values()):,.1f} CPU and "
        f"{_memory(sum(of.memory_mib for of in pods.values()))}, with the manifests as they are; Redis, "
        "and what else runs there, is in no sum"
    )
    waits = [f"{_WAITS.get(name, name)} {ms:.0f} ms" for name, ms in result.slow_waits().items() if ms >= 0.5]
    tell(
        f"time to first audio, simulated ({len(result.turns):,} turns): p50 {result.percentile(50):.0f} ms, "
        f"p95 {result.percentile(95):.0f} ms of {wanted.objective_ms:g}, p99 {result.percentile(99):.0f} ms; "
        f"p95 without any waiting {found.floor_ms:.0f} ms, of which the model's p95 is "
        f"{_model_ms(found.profile, 95):.0f}"
    )
    tell("slow turns waited for: " + (", ".join(waits[:4]) or "nobody"))
    _autoscaling(console, pods)
    if cost.per_hour_usd is not None and cost.per_1000_turns_usd is not None:
        llm = f" + LLM ${cost.llm_per_hour_usd:,.2f}" if cost.llm_per_hour_usd is not None else ""
        tell(f"cost ${cost.per_hour_usd:,.2f} an hour{llm}; ${cost.per_1000_turns_usd:,.4f} for 1,000 turns")
    for line in [*about(found.profile), *remarks(found, cost, options, pods)]:
        tell(line)


def _replicas(console: Console, found: Plan, pods: Mapping[str, Pods]) -> None:
    wanted = found.wanted
    table = table_of("", "replicas", "decided by", "busy", "a pod asks for", "all of them", left=1)
    for service in (*found.services, found.nodes):
        because = service.because
        if wanted.spare:
            because += f", {wanted.spare} spare"
        of = pods.get(service.name)
        asked = ("", "")
        if of is not None:
            asked = (
                f"{of.pod.cpu:g} CPU, {_memory(of.pod.memory_mib)}",
                f"{of.cpu:,.1f} CPU, {_memory(of.memory_mib)}",
            )
        elif wanted.memory_mib is not None:
            asked = (f"with {_memory(wanted.memory_mib)}", "")
        name = service.name if service.name != NODES else f"nodes of {wanted.cores:g} cores"
        busy = f"{service.busy:.0%} of {service.need.resource}"
        table.add_row(Text(name), f"{service.replicas:,}", because, busy, *asked)
    if found.gpus:
        table.add_row("GPUs", f"{found.gpus:,}", "one for each replica of the model", "", "", "")
    print_table(console, table)


def _autoscaling(console: Console, pods: Mapping[str, Pods]) -> None:
    table = table_of("KEDA", "keeps", "of", "at most", "counts", "one pod for", "this plan has", left=1)
    for name, of in pods.items():
        keda = of.scaled
        table.add_row(
            Text(name),
            f"{keda.pods:,}",
            f"{of.replicas:,}",
            f"{keda.trigger.most:,}",
            f"{keda.counted:,.4g} {_COUNTED[name]}",
            f"{keda.trigger.threshold:g}",
            f"{keda.fits:g}",
        )
    print_table(console, table)


_COUNTED: Final = {
    "gateway": "turns",
    "llm": "streams",
    "chunker": "streams",
    "tts": "pods taken",
    "cache": "streams",
}
"""What KEDA counts; docs/scaling.md."""


def _memory(mib: float) -> str:
    return f"{mib:,.0f} MiB" if mib < 1024 else f"{mib / 1024:,.1f} GiB"


def _model_ms(profile: Profile, percent: float) -> float:
    """Return a percentile of what the model takes for the words of a first chunk."""
    return percentile(sorted(turn.llm_ms for turn in profile.made.turns), percent)


def engine_of(profile: Profile) -> str:
    """Return what was measured, in a few words."""
    engine = profile.engine
    return f"{engine.voice} on {engine.device}, {engine.workers} x {engine.slots} at once"


def about(profile: Profile) -> list[str]:
    """Return where a profile is from, and what is to be known of it."""
    measured, load = profile.measured, Load(1.0, 0.0)
    where = measured["machine"]
    cpus = f", {where['cpus']} CPUs" if where.get("cpus") else ""
    about = (
        f"profile {profile.name}: {engine_of(profile)}; measured {measured['at']} on "
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


def remarks(found: Plan, cost: Cost, options: CapacityOptions, pods: Mapping[str, Pods]) -> list[str]:
    """Return what the figures do not say by themselves."""
    lines = advice(pods, found.wanted.spare)
    if found.profile.rehearsed and not options.own_model:
        lines.append(
            "the model is the rehearsal model, whose words of a first chunk take "
            f"{_model_ms(found.profile, 50):.0f} ms at p50 and {_model_ms(found.profile, 95):.0f} at p95: no "
            "provider is so even. Say what yours takes with --ttft P50,P95 and --tokens-per-s, or with "
            "--model-from and a bench of it"
        )
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
