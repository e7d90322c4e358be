"""Turns a second within the objective with one and two replicas of each service, and a turn's CPU by service.

    .venv/bin/python -m benchmarks.replicas [--seconds 20] [--objective-ms 800] [--json FILE] [one two-of-llm]

Pods are those of `k8s/base` with its settings, found by name. Turns arrive at random (`voicemesh bench
--rate`), at a rate that grows by a fifth until the p95 of the time to first audio misses the objective, a
turn fails, or no more get through; the highest rate before that counts. CPU is user and system time of every
process of a service, with its workers, over the turns of the highest rate that was kept. No reply is found in
the cache, as all prompts differ. What the load tool takes of the same cores is printed beside it.
"""

import argparse
import asyncio
import json
import os
import pathlib
import sys
import tempfile
from dataclasses import asdict, dataclass
from typing import Any, Final

import psutil

from tests.support.cluster import Cluster, running_cluster
from tests.support.mesh import SERVICES, service_of
from tests.support.redis_server import redis_server

STATELESS: Final = ("llm", "chunker", "tts", "gateway")
LAYOUTS: Final = {
    "one": (),
    **{f"two-of-{service}": (f"{service}-2",) for service in STATELESS},
    "two": tuple(f"{service}-2" for service in SERVICES),
}
_GROWTH: Final = 1.2
_LOAD: Final = "load tool"


@dataclass(frozen=True)
class Kept:
    """What one layout kept up with."""

    layout: str
    turns_per_s: float
    ttfa_p95_ms: float
    cpu_ms: dict[str, float]
    """A turn's, by service."""


def cpu_s(cluster: Cluster) -> dict[str, float]:
    """Return the seconds of CPU that each service has taken so far."""
    taken = dict.fromkeys(SERVICES, 0.0)
    for pod in cluster.pods.values():
        process = psutil.Process(pod.process.process.pid)
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            taken[service_of(pod.name)] += times.user + times.system
    return taken


async def bench(cluster: Cluster, rate: float, seconds: float, prompts: str) -> tuple[dict[str, Any], float]:
    """Load it; return what `voicemesh bench` says, and the CPU that it took."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voicemesh.cli", "bench", "--json", "--addr", cluster.target("gateway"),
        "--rate", f"{rate:g}", "--turns", str(max(20, round(rate * seconds))), "--prompts", prompts,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    before = os.times()
    out, _ = await process.communicate()
    after = os.times()
    took_s = after.children_user + after.children_system - before.children_user - before.children_system
    result: dict[str, Any] = json.loads(out)
    return result["summary"], took_s


async def keeps_up(layout: str, options: argparse.Namespace, prompts: str) -> Kept:
    """Load one layout more and more."""
    async with (
        redis_server() as redis,
        running_cluster({"VOICEMESH_REDIS_URL": redis.url}, replicas=LAYOUTS[layout], patient=False) as (
            cluster,
            _,
        ),
    ):
        await bench(cluster, 1, 5, prompts)  # nothing is cold in what counts
        rate, kept = options.from_rate, Kept(layout, 0.0, 0.0, {})
        while True:
            before = cpu_s(cluster)
            summary, load_s = await bench(cluster, rate, options.seconds, prompts)
            used = {name: seconds - before[name] for name, seconds in cpu_s(cluster).items()}
            turns = summary["turns"]
            p95_ms = summary["ttfa_ms"]["p95"]
            late = summary["turns_per_s"] < 0.8 * rate
            print(
                f"  {layout}: {rate:.2f}/s: p95 {p95_ms:.0f} ms, {summary['errors']} failed, "
                f"{summary['turns_per_s']:.2f}/s through",
                file=sys.stderr,
                flush=True,
            )
            if summary["errors"] or p95_ms > options.objective_ms or late:
                return kept
            cpu_ms = {name: 1000 * seconds / turns for name, seconds in used.items()}
            kept = Kept(layout, rate, p95_ms, {**cpu_ms, _LOAD: 1000 * load_s / turns})
            rate *= _GROWTH


async def run(options: argparse.Namespace) -> list[Kept]:
    """Measure the layouts that were asked for."""
    found = []
    columns = (*SERVICES, _LOAD)
    with tempfile.TemporaryDirectory() as folder:
        prompts = pathlib.Path(folder) / "prompts.txt"
        prompts.write_text("".join(f"What is the {n}th thing to know about tides?\n" for n in range(2000)))
        head = " ".join(f"{name:>9}" for name in columns)
        print(f"{'':<16} {'turns/s':>8} {'p95 ms':>7}   CPU of a turn in ms: {head}")
        for layout in options.layouts or LAYOUTS:
            kept = await keeps_up(layout, options, str(prompts))
            found.append(kept)
            cells = " ".join(f"{kept.cpu_ms.get(name, 0.0):>9.1f}" for name in columns)
            print(
                f"{layout:<16} {kept.turns_per_s:>8.2f} {kept.ttfa_p95_ms:>7.0f} {'':<23} {cells}", flush=True
            )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("layouts", nargs="*", choices=[*LAYOUTS, []], help="all of them where none is named")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each rate is kept")
    parser.add_argument("--from-rate", type=float, default=4.0, help="turns a second at first")
    parser.add_argument("--objective-ms", type=float, default=800.0, help="p95 of the time to first audio")
    parser.add_argument("--json", type=pathlib.Path, help="where the figures are written, too")
    options = parser.parse_args()
    found = asyncio.run(run(options))
    if options.json:
        figures = {
            "cores": len(os.sched_getaffinity(0)),
            "objective_ms": options.objective_ms,
            "layouts": [asdict(each) for each in found],
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
