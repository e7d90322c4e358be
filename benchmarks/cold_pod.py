"""How soon a new pod gets its share of new turns, and whether a turn is lost when a service is rolled.

    .venv/bin/python -m benchmarks.cold_pod [--dns-ttl-s 5] [--turns 20] [--watch-s 15] [--json FILE]

Pods are found as in a cluster (`tests/support/cluster.py`): by a name server that keeps each answer for
`--dns-ttl-s` seconds, with the settings and probes of `k8s/base`. For each service a pod is added under
`--turns` callers who never pause. Counted are calls that begin at each pod behind the moment that the new one
logs that it serves: its first one, and when a stretch of ten calls for each pod begins of which it gets 80%
of a fair share. Then the service is rolled: each pod is replaced by a new one, which must be ready before the
old one is deleted.
"""

import argparse
import asyncio
import datetime as dt
import json
import pathlib
import sys
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.support.cluster import Cluster, running_cluster
from tests.support.mesh import SERVICES, MeshProcess, service_of
from tests.support.rolling import REPLICAS, VOICE, Callers

METHODS: Final = {
    "llm": "Generate",
    "chunker": "Chunk",
    "tts": "Synthesize",
    "cache": "Exchange",
    "gateway": "Speak",
}
"""The call that each turn makes of a service; of gateways, the one that has a turn to itself."""
_FAIR: Final = 0.8
_STRETCH: Final = 10


@dataclass(frozen=True)
class Cold:
    """A pod that was added, and a roll."""

    service: str
    first_call_s: float | None
    """From SERVING; None: it got none."""
    fair_share_s: float | None
    """From SERVING to the first stretch of calls of which it got its share; None: it never did."""
    share: float
    """Of a fair one, over the last half of the time that was watched."""
    rolled_s: float
    turns: int
    failed: int


def at_s(line: dict[str, Any]) -> float:
    """Return when a line was logged."""
    return dt.datetime.fromisoformat(line["timestamp"]).timestamp()


def begun_s(process: MeshProcess, service: str) -> list[float]:
    """Return when the turns' calls began that a pod has answered."""
    return sorted(
        at_s(line) - line["duration_ms"] / 1000
        for line in process.logs
        if line.get("event") == "call ended" and str(line["method"]).endswith(METHODS[service])
    )


def fair_from_s(new: list[float], others: list[list[float]], from_s: float) -> float | None:
    """Return when the first stretch of calls begins, behind a moment, of which the new pod gets its share."""
    calls = sorted((at, place) for place, pod in enumerate((new, *others)) for at in pod if at >= from_s)
    length = _STRETCH * (1 + len(others))
    for first in range(len(calls) - length + 1):
        stretch = calls[first : first + length]
        if sum(place == 0 for _, place in stretch) >= _FAIR * _STRETCH:
            return stretch[0][0]
    return None


async def measure(cluster: Cluster, callers: Callers, service: str, turns: int, watch_s: float) -> Cold:
    """Add a pod under load, watch, and roll its service."""
    name = cluster.new_name(service)

    async def add_and_watch() -> None:
        await asyncio.sleep(2)
        await cluster.start(name)
        await asyncio.sleep(watch_s)

    await callers.run(turns, add_and_watch)
    process = cluster.pods[name].process
    serving_s = next(at_s(line) for line in process.logs if line["event"] == "serving")
    new = begun_s(process, service)
    others = [
        begun_s(pod.process, service)
        for pod in cluster.pods.values()
        if service_of(pod.name) == service and pod.name != name
    ]
    fair_s = fair_from_s(new, others, serving_s)
    half = [at for at in new if at > serving_s + watch_s / 2]
    all_of_it = [at for pod in (new, *others) for at in pod if at > serving_s + watch_s / 2]
    before, failed = callers.counts.turns, len(callers.counts.bad)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    took_s: list[float] = []

    async def roll() -> None:
        await cluster.roll(service)
        took_s.append(loop.time() - began_s)

    counts = await callers.run(turns, roll)
    await cluster.scale(service, 2)
    return Cold(
        service,
        new[0] - serving_s if new else None,
        fair_s - serving_s if fair_s is not None else None,
        len(half) * (1 + len(others)) / max(1, len(all_of_it)),
        took_s[0],
        counts.turns - before,
        len(counts.bad) - failed,
    )


async def run(options: argparse.Namespace) -> list[Cold]:
    """Measure every service that was asked for."""
    environment = {"VOICEMESH_TTS_VOICES": json.dumps([VOICE]), "VOICEMESH_LOG_LEVEL": "debug"}
    found = []
    async with running_cluster(environment, replicas=REPLICAS, ttl_s=options.dns_ttl_s) as (cluster, client):
        callers = Callers(client)
        await callers.learn()
        columns = (
            f"{'first call':>11} {'fair share':>11} {'share':>7} {'rolled in':>10} {'turns':>6} {'lost':>5}"
        )
        print(f"{'':<9} {columns}")
        for service in options.services or SERVICES:
            each = await measure(cluster, callers, service, options.turns, options.watch_s)
            found.append(each)
            first, fair = (
                "never" if value is None else f"{value:.2f} s"
                for value in (each.first_call_s, each.fair_share_s)
            )
            print(
                f"{service:<9} {first:>11} {fair:>11} {each.share:>7.0%} {each.rolled_s:>8.1f} s "
                f"{each.turns:>6} {each.failed:>5}",
                flush=True,
            )
        for line in callers.counts.bad[:20]:
            print("  ", line, file=sys.stderr)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("services", nargs="*", help=f"of {', '.join(SERVICES)}; all of them")
    parser.add_argument("--dns-ttl-s", type=int, default=5)
    parser.add_argument("--turns", type=int, default=20, help="turns that run at once")
    parser.add_argument("--watch-s", type=float, default=15.0)
    parser.add_argument("--json", type=pathlib.Path, help="where the figures are written, too")
    options = parser.parse_args()
    found = asyncio.run(run(options))
    if options.json:
        figures = {"dns_ttl_s": options.dns_ttl_s, "services": [asdict(each) for each in found]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    good = all(
        each.failed == 0 and each.fair_share_s is not None and each.fair_share_s <= 5 for each in found
    )
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
