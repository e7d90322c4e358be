"""How soon a new pod gets its share of new turns, and whether a turn is lost when a service is rolled.

    .venv/bin/python -m benchmarks.cold_pod [--dns-ttl-s 5] [--callers 3] [--pods 3] [--watch-s 9]
        [--json FILE] [llm ...]

Pods are found as in a cluster (`tests/support/cluster.py`): by a name server that keeps each answer for
`--dns-ttl-s` seconds, with the settings and probes of `k8s/base`; callers look gateways up once a second. For
each service, `--pods` times: a third pod is added beside two, under `--callers` who never pause, at a random
moment of the name server's memory; `--watch-s` later it is deleted. Then the service is rolled: each pod is
replaced by a new one, which must be ready before the old one is deleted.

Every turn asks the model, so that it is one call of each service, and is short: three callers make some
twenty turns a second, and leave CPU for pods that start. Counted are calls by the moment at which they begin,
behind the one at which the new pod logs that it serves.

    first call  of the new pod
    fair share  the first of its calls with which a stretch begins, ten calls long for each pod, of which it
                gets 80% of a fair share: never before its first one
    share       of a fair one, of the calls in the last third of the time that was watched
    lost        turns that failed, or whose audio is another than the quiet mesh had said, while pods came,
                went and were rolled
"""

import argparse
import asyncio
import datetime as dt
import json
import pathlib
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.support.cluster import Cluster, running_cluster
from tests.support.mesh import SERVICES, MeshProcess, service_of
from tests.support.rolling import REPLICAS, VOICE, Callers
from voicemesh.cli import machine
from voicemesh.client import GenerationOptions

METHODS: Final = {
    "llm": "Generate",
    "chunker": "Chunk",
    "tts": "Synthesize",
    "cache": "Exchange",
    "gateway": "Converse",
}
"""The call that each turn makes of a service."""
WITHIN_S: Final = 5.0
"""A new pod is to have its share by then."""
_FAIR: Final = 0.8
_STRETCH: Final = 10


@dataclass(frozen=True)
class Pod:
    """A pod that was added."""

    first_call_s: float | None
    """From SERVING; None: it got none."""
    fair_share_s: float | None
    """From SERVING to the call with which its share begins; None: it never had one."""
    share: float
    """Of a fair one, over the last third of the time that was watched."""
    calls_per_s: float
    """Of all pods of its service, in that third."""


@dataclass(frozen=True)
class Cold:
    """What became of a service whose pods come and go."""

    service: str
    pods: Sequence[Pod]
    rolled_s: float
    exits: Sequence[int]
    """Statuses of the processes that were told to end."""
    turns: int
    lost: int

    @property
    def good(self) -> bool:
        """Whether each pod had its share in time, and nothing was lost."""
        soon = all(pod.fair_share_s is not None and pod.fair_share_s <= WITHIN_S for pod in self.pods)
        return soon and not self.lost and not any(self.exits)


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


def fair_from_s(new: Sequence[float], others: Sequence[Sequence[float]], from_s: float) -> float | None:
    """Return the first call of the new pod, behind a moment, that begins a stretch with its share."""
    calls = sorted((at, place) for place, pod in enumerate((new, *others)) for at in pod if at >= from_s)
    length = _STRETCH * (1 + len(others))
    for first in range(len(calls) - length + 1):
        stretch = calls[first : first + length]
        if stretch[0][1] == 0 and sum(place == 0 for _, place in stretch) >= _FAIR * _STRETCH:
            return stretch[0][0]
    return None


def judged(new: Sequence[float], others: Sequence[Sequence[float]], serving_s: float, watch_s: float) -> Pod:
    """Return what became of a pod, by when calls began at it and at the others."""
    new = [at for at in new if at >= serving_s]
    fair_s = fair_from_s(new, others, serving_s)
    from_s, until_s = serving_s + watch_s * 2 / 3, serving_s + watch_s
    late = [[at for at in pod if from_s <= at < until_s] for pod in (new, *others)]
    calls = sum(map(len, late))
    return Pod(
        first_call_s=new[0] - serving_s if new else None,
        fair_share_s=fair_s - serving_s if fair_s is not None else None,
        share=len(late[0]) * len(late) / max(1, calls),
        calls_per_s=calls / (watch_s / 3),
    )


class Measuring:
    """Services under measurement, one after the other.

    Args:
        cluster: Two pods of each.
        callers: Who asks.
        options: As on the command line.

    """

    def __init__(self, cluster: Cluster, callers: Callers, options: argparse.Namespace) -> None:
        self._cluster = cluster
        self._callers = callers
        self._options = options
        self._chance = random.Random(1)

    async def measure(self, service: str) -> Cold:
        """Add pods under load, watch each, and roll the service."""
        counts = self._callers.counts
        turns, lost = counts.turns, len(counts.bad)
        pods, exits, rolled_s = [], [], 0.0

        async def come_and_go() -> None:
            nonlocal rolled_s
            loop = asyncio.get_running_loop()
            for _ in range(self._options.pods):
                await asyncio.sleep(1 + self._chance.uniform(0, self._options.dns_ttl_s))
                pods.append(await self._added(service))
                exits.append(await self._cluster.delete(pods[-1][0]))
            began_s = loop.time()
            exits.extend((await self._cluster.roll(service)).values())
            rolled_s = loop.time() - began_s

        await self._callers.run(self._options.callers, come_and_go)
        return Cold(
            service,
            # Calls are logged when they have ended: all of them have.
            [self._judged(service, *pod) for pod in pods],
            rolled_s,
            exits,
            counts.turns - turns,
            len(counts.bad) - lost,
        )

    async def _added(self, service: str) -> tuple[str, list[MeshProcess]]:
        """Add a pod and watch it; return its name, and the processes of its service, its own first."""
        name = self._cluster.new_name(service)
        await self._cluster.start(name)
        await asyncio.sleep(self._options.watch_s)
        pods = sorted(self._cluster.pods.values(), key=lambda pod: pod.name != name)
        return name, [pod.process for pod in pods if service_of(pod.name) == service]

    def _judged(self, service: str, _: str, processes: Sequence[MeshProcess]) -> Pod:
        serving_s = next(at_s(line) for line in processes[0].logs if line["event"] == "serving")
        new, *others = (begun_s(process, service) for process in processes)
        return judged(new, others, serving_s, self._options.watch_s)


HEAD: Final = (
    f"{'':<9} {'first call':>16} {'fair share':>16} {'share':>7} {'calls/s':>8} {'rolled in':>10} "
    f"{'turns':>6} {'lost':>5}   (median, longest; the least share)"
)


def row(cold: Cold) -> str:
    """Return a line of the table."""
    first = spread([pod.first_call_s for pod in cold.pods])
    fair = spread([pod.fair_share_s for pod in cold.pods])
    share = min((pod.share for pod in cold.pods), default=0.0)
    calls = statistics.median([pod.calls_per_s for pod in cold.pods] or [0.0])
    return (
        f"{cold.service:<9} {first:>16} {fair:>16} {share:>7.0%} {calls:>8.1f} {cold.rolled_s:>8.1f} s "
        f"{cold.turns:>6} {cold.lost:>5}"
    )


def spread(values_s: Sequence[float | None]) -> str:
    """Return the median and the longest of some times; those that never came are longer than any."""
    known = sorted(float("inf") if value is None else value for value in values_s)
    if not known:
        return "-"
    median, longest = (
        "never" if value == float("inf") else f"{value:.2f} s"
        for value in (known[(len(known) - 1) // 2], known[-1])
    )
    return f"{median}, {longest}"


async def run(options: argparse.Namespace) -> list[Cold]:
    """Measure every service that was asked for."""
    environment = {"VOICEMESH_TTS_VOICES": json.dumps([VOICE]), "VOICEMESH_LOG_LEVEL": "debug"}
    found = []
    async with running_cluster(environment, replicas=REPLICAS, ttl_s=options.dns_ttl_s) as (cluster, client):
        # Ended by its words and not by its length: so it is the same where another process goes on with it.
        callers = Callers(client, asking=GenerationOptions(stop=("You want",)))
        await callers.learn()
        measuring = Measuring(cluster, callers, options)
        print(HEAD, flush=True)
        for service in options.services or SERVICES:
            found.append(await measuring.measure(service))
            print(row(found[-1]), flush=True)
            if any(found[-1].exits):
                print(f"  processes ended with {found[-1].exits}", file=sys.stderr)
        for line in callers.counts.bad[:20]:
            print("  ", line, file=sys.stderr)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "services", nargs="*", choices=[*SERVICES, []], help="all of them where none is named"
    )
    parser.add_argument("--dns-ttl-s", type=int, default=5)
    parser.add_argument("--callers", type=int, default=3, help="who ask all the time")
    parser.add_argument("--pods", type=int, default=3, help="that are added to each service")
    parser.add_argument("--watch-s", type=float, default=9.0, help="each of them, from when it serves")
    parser.add_argument("--json", type=pathlib.Path, help="where the figures are written, too")
    options = parser.parse_args()
    on = machine.machine()
    print(machine.busy(on) or "the machine had nothing else to do", flush=True)
    found = asyncio.run(run(options))
    if options.json:
        figures = {
            "dns_ttl_s": options.dns_ttl_s,
            "machine": on,
            "versions": machine.versions(),
            "services": [asdict(each) for each in found],
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if all(each.good for each in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
