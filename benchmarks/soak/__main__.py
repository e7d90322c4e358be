"""Mixed load with random faults for as long as one likes, and whether everything holds all along.

    .venv/bin/python -m benchmarks.soak --minutes 60 [--callers 6] [--seed 1] [--json FILE]

Two processes of each service, two gateways, a Redis, a provider and its stand-in. Callers ask new and cached
questions, slow models, speak words of their own, hold conversations, interrupt, and leave in the middle. One
thing after another is broken: processes killed, stopped and restarted, engines, Redis, the provider. Every
turn must end in exactly one way and, where another replica exists, not fail; its audio must be bit-identical
to what an undisturbed TTS service speaks for the same chunks; its text the model's; its stages must add up.
Memory and descriptors of every process must not grow, and at the end nothing is held.

Exit status 1 where something does not hold.
"""

import argparse
import asyncio
import json
import pathlib
import random
import sys
import time
from collections import Counter
from typing import Any, Final

from benchmarks.meshes import percentile
from benchmarks.soak.checks import Trend, Violation, grows
from benchmarks.soak.faults import Faults
from benchmarks.soak.lab import GATEWAYS, running_lab
from benchmarks.soak.load import Callers, drop_streams
from benchmarks.soak.watch import Watch, as_json
from voicemesh.client import VoiceMesh

_PROGRESS_S: Final = 60.0
_MOST_MB_PER_HOUR: Final = 10.0
_LEAST_LIFE_S: Final = 300.0
"""Of a process that was watched for less, nothing is said about growth: caches fill, pages are touched."""
_MOST_DESCRIPTORS_PER_HOUR: Final = 10.0
_DROPPED_STREAMS: Final = 20
_SHOWN: Final = 20


async def soak(minutes: float, callers: int, seed: int) -> dict[str, Any]:
    """Soak a mesh; return the report."""
    draw = random.Random(seed)
    began_s = time.monotonic()

    def now_s() -> float:
        return time.monotonic() - began_s

    async with running_lab(draw) as (lab, references):
        began_s = time.monotonic()
        faults = Faults(lab, random.Random(seed + 1), now_s)
        watch = Watch(lab, references, faults, now_s)
        addresses = [lab.mesh.address(name) for name in GATEWAYS]
        meshes = [VoiceMesh(order) for order in (addresses, addresses[::-1])]
        until = asyncio.Event()
        load = Callers(meshes, draw, now_s, watch.take, until)
        for mesh in meshes:
            await mesh.__aenter__()
        background = [asyncio.create_task(work) for work in (watch.judge(), watch.sample())]
        breaking = asyncio.create_task(faults.run(until))
        asking = asyncio.create_task(load.run(callers))
        try:
            end_s = 60 * minutes
            while (left_s := end_s - now_s()) > 0:
                done, _ = await asyncio.wait(
                    {breaking, asking, *background}, timeout=min(left_s, _PROGRESS_S)
                )
                if done:
                    await next(iter(done))
                for mesh in meshes:
                    await drop_streams(mesh, _DROPPED_STREAMS)
                _say_progress(now_s(), load, faults, watch)
            until.set()
            await asyncio.gather(breaking, asking)
            await watch.judged()
        finally:
            for task in (breaking, asking, *background):
                task.cancel()
            await asyncio.gather(breaking, asking, *background, return_exceptions=True)
            for mesh in meshes:
                await mesh.__aexit__(None, None, None)
        watch.violations += [Violation("nothing is held", held) for held in await lab.left()]
        watch.violations += [Violation("processes", death) for death in lab.deaths]
        watch.read_logs()
        took_s = now_s()
        trends = watch.trends(warm_s=min(300.0, took_s / 4))
    watch.violations += [
        Violation(f"{figure} does not grow", f"{name}: {as_json(moved)}")
        for name, figures in trends.items()
        for figure, moved in figures.items()
        if moved.over_s >= _LEAST_LIFE_S and _certain(moved, figure)
    ]
    return _report(took_s, seed, load, faults, watch, trends)


def _certain(moved: Trend, figure: str) -> bool:
    most = _MOST_MB_PER_HOUR if figure == "memory" else _MOST_DESCRIPTORS_PER_HOUR
    return grows(moved, most=most)


def _say_progress(at_s: float, load: Callers, faults: Faults, watch: Watch) -> None:
    print(
        f"{at_s / 60:6.1f} min  {load.turns} turns, {len(faults.done)} faults, "
        f"{len(watch.violations)} violations",
        file=sys.stderr,
        flush=True,
    )


def _report(
    took_s: float,
    seed: int,
    load: Callers,
    faults: Faults,
    watch: Watch,
    trends: dict[str, dict[str, Trend]],
) -> dict[str, Any]:
    gaps = sorted(watch.gaps_ms)
    return {
        "minutes": round(took_s / 60, 2),
        "seed": seed,
        "turns": sum(watch.sorts.values()),
        "sorts": dict(watch.sorts),
        "ends": dict(watch.ends),
        "degraded": dict(watch.degraded),
        "chunks_compared": watch.chunks,
        "hung": load.hung,
        "faults": dict(Counter(fault.name for fault in faults.done)),
        "silence_ms": {"p50": percentile(gaps, 50), "p99": percentile(gaps, 99), "most": gaps[-1]}
        if gaps
        else {},
        "trends": {
            name: {figure: as_json(moved) for figure, moved in figures.items()}
            for name, figures in trends.items()
        },
        "violations": [
            {
                "rule": one.rule,
                "what": one.what,
                "turn_id": one.turn_id,
                "at_s": round(one.at_s, 1),
                "faults": one.faults,
            }
            for one in watch.violations
        ],
    }


def _print(report: dict[str, Any]) -> None:
    print(f"{report['turns']} turns in {report['minutes']} minutes, seed {report['seed']}")
    for name in ("sorts", "ends", "degraded", "faults", "silence_ms"):
        told = ", ".join(f"{key} {round(value, 1)}" for key, value in sorted(report[name].items()))
        print(f"  {name:<12} {told or 'none'}")
    print(f"  {report['chunks_compared']} chunks compared with their reference; {report['hung']} turns hung")
    judged = [
        (name, figure, moved)
        for name, figures in report["trends"].items()
        for figure, moved in figures.items()
        if moved["over_s"] >= _LEAST_LIFE_S
    ]
    if judged:
        print(f"\n{'process':<24} {'':<12} {'seconds':>8} {'first':>8} {'last':>8} {'an hour':>9}   95% sure")
    else:
        print(f"\nno process lived for {_LEAST_LIFE_S:g} s: nothing is said of growth")
    for name, figure, moved in judged:
        sure = f"{moved['from']:+.1f} to {moved['to']:+.1f}"
        cells = f"{moved['over_s']:>8.0f} {moved['first']:>8.1f} {moved['last']:>8.1f}"
        print(f"{name:<24} {figure:<12} {cells} {moved['per_hour']:>+9.1f}   {sure}")
    violations = report["violations"]
    rules = ", ".join(f"{rule} {count}" for rule, count in Counter(one["rule"] for one in violations).items())
    print(f"\n{len(violations)} violations{f': {rules}' if rules else ''}")
    for one in violations[:_SHOWN]:
        beside = f" (beside {', '.join(one['faults'])})" if one["faults"] else ""
        print(f"  {one['at_s']:8.1f} s  {one['rule']}: {one['what'][:600]} {one['turn_id']}{beside}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--callers", type=int, default=6, help="so many at once")
    parser.add_argument("--seed", type=int, default=1, help="decides the load and the faults")
    parser.add_argument("--json", type=pathlib.Path, help="write the report there, too")
    arguments = parser.parse_args()
    report = asyncio.run(soak(arguments.minutes, arguments.callers, arguments.seed))
    _print(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if report["violations"] or report["hung"] else 0


if __name__ == "__main__":
    sys.exit(main())
