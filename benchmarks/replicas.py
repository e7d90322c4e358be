"""Turns a second with one and two replicas of each stateless service, and a turn's CPU by service.

    .venv/bin/python -m benchmarks.replicas [--within-s 290] [--turns 150] [--objective-ms 800] [--json FILE]
        [one two-of-llm ...]

Pods are those of `k8s/base` with its settings, found by name, with a Redis. Turns are those of
`benchmarks.capacity record espeak`: the same questions, model and voice, no reply and no audio from a cache,
and nobody refused. So the row `one` can be held beside its figures.

    full     callers who ask again when their turn has ended; more of them until no more turns end in a
             second. What ends in the middle of such a run is what the layout does; CPU is of its best run
    kept     then turns that come at random, at 95% of that, else at 85, 70 and 50%: the first rate at which
             no turn fails, p95 of the time to first audio keeps the objective, and no backlog grows. Nothing
             above 95% is tried: for some seconds a queue hides what is too much
    good/s   of that rate: turns that were heard within the objective in a second of the window

The window of a rate is from an arrival to another, `--turns` later, behind 2 s of arrivals in which it fills.
Only turns that came in the window count, whenever they end. CPU is user and system time of every process of a
service, with its workers, over the turns of the run, warm-up too. The load tool has its own column, without
its start. `cores` is what mesh and load tool used together; `others` what else this machine did meanwhile
(Redis, this command's probes, strangers): where it is not near 0 the row is of them too.

Loads begin for no longer than `--within-s`, divided among the layouts; but the first callers and the first
rate of each are tried whatever the time, so that a slow machine takes longer, and finds out less. What could
not be found out is said in its row.
"""

import argparse
import asyncio
import json
import os
import pathlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import psutil

from benchmarks.capacity.measuring import Loaded
from benchmarks.capacity.scenarios import QUESTIONS, scenario
from benchmarks.meshes import prompts
from benchmarks.replica_figures import Found, Growing, Used, head, missed, row, window
from tests.support.cluster import Cluster, running_cluster
from tests.support.mesh import SERVICES, service_of
from tests.support.redis_server import redis_server
from voicemesh.cli import machine

STATELESS: Final = ("llm", "chunker", "tts", "gateway")
LAYOUTS: Final = {
    "one": (),
    **{f"two-of-{service}": (f"{service}-2",) for service in STATELESS},
    "two": tuple(f"{service}-2" for service in SERVICES),
}
SHARES: Final = (0.95, 0.85, 0.7, 0.5)
"""Of what a layout does at most, that are tried as rates."""
_CALLERS: Final = 20
"""At first."""
_WAVES: Final = 6
"""Turns of each caller, at least: the first and the last wave are not counted."""
_FILLS_S: Final = 2.0
_STARTS_S: Final = 2.0
"""A load takes so much longer than its turns, with the start of the load tool and the last turn."""
_SLACK_S: Final = 30.0
"""So much later than its guard a load tool is killed."""


class LoadError(Exception):
    """A load tool that did not say what it measured."""


def cpu_s(cluster: Cluster) -> dict[str, float]:
    """Return the seconds of CPU that each service has taken so far."""
    taken = dict.fromkeys(SERVICES, 0.0)
    for pod in cluster.pods.values():
        process = psutil.Process(pod.process.process.pid)
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            taken[service_of(pod.name)] += times.user + times.system
    return taken


def busy_s() -> float:
    """Return the seconds of CPU that the machine has worked."""
    times = psutil.cpu_times()
    idle = sum(getattr(times, name, 0.0) for name in ("idle", "iowait"))
    twice = sum(getattr(times, name, 0.0) for name in ("guest", "guest_nice"))
    return float(sum(times) - idle - twice)


async def bench(cluster: Cluster, path: str, arguments: Sequence[str], guard_s: float) -> tuple[Loaded, Used]:
    """Load it; return what came of it, and what that took.

    The load ends by itself behind `guard_s`, with what it has measured until then.

    Raises:
        LoadError: The tool did not tell.

    """
    before, busy, children, loop = cpu_s(cluster), busy_s(), os.times(), asyncio.get_running_loop()
    began_s = loop.time()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voicemesh.cli", "bench", "--json", "--addr", cluster.target("gateway"),
        "--prompts", path, "--no-cache", "--duration-guard", f"{max(1.0, guard_s):.1f}", *arguments,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        # The guard begins behind the warm-up.
        async with asyncio.timeout(2 * max(1.0, guard_s) + _SLACK_S):
            out, _ = await process.communicate()
    except TimeoutError:
        raise LoadError("the load tool did not end") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    took_s, ended = loop.time() - began_s, os.times()
    used = Used(
        {name: seconds - before[name] for name, seconds in cpu_s(cluster).items()},
        ended.children_user + ended.children_system - children.children_user - children.children_system,
        busy_s() - busy,
        took_s,
    )
    try:
        result: dict[str, Any] = json.loads(out)
    except ValueError:
        raise LoadError(f"the load tool ended with {process.returncode}") from None
    return Loaded(result, {}, 0.0), used


@dataclass
class Measuring:
    """One layout under measurement.

    Args:
        cluster: Its pods.
        path: File with the prompts.
        turns: That are counted of each load, at least.
        objective_ms: For p95 of the time to first audio.
        until_s: When no load may begin any more, of the loop's clock.
        found: What is filled in.

    """

    cluster: Cluster
    path: str
    turns: int
    objective_ms: float
    until_s: float
    found: Found
    start_s: float = 0.0
    """CPU that the start of a load tool takes."""

    def left_s(self) -> float:
        """Return how much time is left."""
        return self.until_s - asyncio.get_running_loop().time()

    def rate_s(self, per_s: float) -> float:
        """Return how long turns of a rate come."""
        return _FILLS_S + (self.turns + 1) / per_s + _STARTS_S

    async def warm(self) -> None:
        """Have nothing cold in what counts, and learn what a start of the load tool takes."""
        starts = []
        for _ in range(2):
            _, used = await bench(self.cluster, self.path, ("--turns", "1"), _SLACK_S)
            starts.append(used.tool_s)
        self.start_s = min(starts)

    async def fill(self, growing: Growing) -> None:
        """Have more and more callers ask, until that does no more; at least as many as at first."""
        per_s = 0.0
        while (callers := growing.next) is not None:
            turns = max(self.turns, _WAVES * callers)
            if per_s and self.left_s() < (turns + callers) / per_s + _STARTS_S + self.rate_s(per_s):
                return
            arguments = ("--concurrency", str(callers), "--turns", str(turns), "--warmup", str(callers))
            loaded, used = await bench(self.cluster, self.path, arguments, max(self.left_s(), _SLACK_S))
            if (failed := loaded.result["summary"]["errors"]) or len(loaded.turns) < self.turns / 2:
                why = f"{failed} turns failed" if failed else f"time was up behind {len(loaded.turns)} turns"
                self.found.because = f"{callers} callers: {why}"
                self.told({"callers": callers, "missed": why})
                return
            per_s = loaded.per_s
            cpu_ms = used.per_turn_ms(len(loaded.turns) + callers, self.start_s)
            self.found.full(callers, per_s, loaded.ttfa(95), cpu_ms, used.others())
            self.told(
                {
                    "callers": callers,
                    "turns": len(loaded.turns),
                    "turns_per_s": round(per_s, 3),
                    "ttfa_p95_ms": round(loaded.ttfa(95), 1),
                    "cpu_ms": cpu_ms,
                    "others": round(used.others(), 2),
                }
            )
            growing.tell(per_s)
            self.found.grew = growing.grew

    async def keep(self) -> None:
        """Have turns come at rates that grow less, until one is kept."""
        most_per_s = self.found.most_per_s
        if most_per_s is None:
            return
        for share in SHARES:
            rate = share * most_per_s
            fills, lasts_s = round(rate * _FILLS_S), self.rate_s(rate)
            if share < SHARES[0] and self.left_s() < lasts_s:
                self.found.because += "; then time was up"
                return
            arguments = ("--rate", f"{rate:.4f}", "--arrivals", "poisson", "--warmup", "4")
            turns = ("--turns", str(fills + self.turns + 1))
            loaded, _ = await bench(self.cluster, self.path, (*arguments, *turns), lasts_s + _SLACK_S)
            if len(loaded.result["turns"]) < fills + 3:
                self.found.because = f"{rate:.1f}/s: no turn of the window ended"
                return
            found = window(loaded.result["turns"], fills, self.objective_ms)
            why = missed(loaded.result, found, self.objective_ms)
            self.told({"rate_per_s": round(rate, 3), **asdict(found), "missed": why})
            if not why:
                self.found.kept_per_s, self.found.good_per_s = found.asked_per_s, found.good_per_s
                self.found.kept_p95_ms, self.found.because = found.ttfa_p95_ms, ""
                return
            self.found.because = f"{found.asked_per_s:.1f}/s: {why}"

    def told(self, load: dict[str, Any]) -> None:
        """Keep what became of a load, and say it."""
        self.found.loads.append(load)
        print(f"  {self.found.layout}: {load}", file=sys.stderr, flush=True)


async def measure(
    layout: str, callers: int, options: argparse.Namespace, path: str, until_s: float
) -> tuple[Found, int]:
    """Measure one layout; return what was found out, and with how many callers another one may begin."""
    found, growing = Found(layout), Growing(callers)
    environment = dict(scenario("espeak").environment)
    try:
        async with (
            redis_server() as redis,
            running_cluster(
                {**environment, "VOICEMESH_REDIS_URL": redis.url}, replicas=LAYOUTS[layout], patient=False
            ) as (cluster, _),
        ):
            measuring = Measuring(cluster, path, options.turns, options.objective_ms, until_s, found)
            await measuring.warm()
            await measuring.fill(growing)
            await measuring.keep()
    except LoadError as error:
        found.because = str(error)
    except AssertionError as error:
        if "is not ready" not in str(error):  # within a minute
            raise
        found.because = str(error).partition(":")[0]
    return found, growing.callers


async def run(options: argparse.Namespace) -> list[Found]:
    """Measure the layouts that were asked for."""
    found = []
    with prompts(QUESTIONS) as path:
        print(*head(), sep="\n", flush=True)
        loop = asyncio.get_running_loop()
        layouts = options.layouts or list(LAYOUTS)
        ends_s, callers = loop.time() + options.within_s, _CALLERS
        for place, layout in enumerate(layouts):
            # What one layout leaves, others have.
            until_s = loop.time() + (ends_s - loop.time()) / (len(layouts) - place)
            # One more of something is full with about as many callers as what was full without.
            each, callers = await measure(layout, callers, options, path, until_s)
            found.append(each)
            print(*row(each), sep="\n", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("layouts", nargs="*", choices=[*LAYOUTS, []], help="all of them where none is named")
    parser.add_argument("--turns", type=int, default=150, help="that are counted of each load, at least")
    parser.add_argument("--objective-ms", type=float, default=800.0, help="p95 of the time to first audio")
    parser.add_argument("--within-s", type=float, default=290.0, help="how long all of it may take")
    parser.add_argument("--json", type=pathlib.Path, help="where the figures are written, too")
    options = parser.parse_args()
    on = machine.machine()
    print(machine.busy(on) or "the machine had nothing else to do", flush=True)
    found = asyncio.run(run(options))
    if options.json:
        figures = {
            "cores": len(os.sched_getaffinity(0)),
            "machine": on,
            "versions": machine.versions(),
            "objective_ms": options.objective_ms,
            "layouts": [asdict(each) for each in found],
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if all(each.kept_per_s is not None for each in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
