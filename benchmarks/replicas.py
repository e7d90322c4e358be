"""Turns a second within the objective with one and two replicas of each service, and a turn's CPU by service.

    .venv/bin/python -m benchmarks.replicas [--seconds 6] [--objective-ms 800] [--within-s 240] [--json FILE]
        [one two-of-llm ...]

Pods are those of `k8s/base` with its settings, found by name. Turns arrive at random (`voicemesh bench
--rate`), at a rate that grows by 1.4 until the p95 of the time to first audio misses the objective, a turn
fails, or fewer get through than come; then once at the mean of the last two. Where the first rate is too much
already, it is halved. The highest rate that was kept counts; `kept` says whether the next one was missed
(`yes`), or time was up before that (`at least`). CPU is user and system time of every process of a service,
with its workers, over the turns of that rate. No reply is found in the cache, as all prompts differ. What the
load tool takes of the same cores is printed beside it.

Loads begin for no longer than `--within-s`, divided among the layouts, but for the first of each: a slow
machine measures less, and a layout of which nothing was found out has a row that says why.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
_GROWTH: Final = 1.4
_LEAST_TURNS: Final = 20
_LOWEST: Final = 0.25
"""Turns a second; what is below is nothing."""
_SLACK_S: Final = 15.0
"""A load takes so much longer than its turns come, with the start of the load tool and the last turn."""
_LOAD: Final = "load tool"
_THROUGH: Final = 0.85


@dataclass(frozen=True)
class Kept:
    """What one layout kept up with."""

    layout: str
    turns_per_s: float | None = None
    """None: no rate was kept."""
    ttfa_p95_ms: float | None = None
    cpu_ms: dict[str, float] = field(default_factory=dict)
    """A turn's, by service."""
    turns: int = 0
    """That this is from."""
    next_missed: bool = False
    """Whether a higher rate was tried, and was too much."""
    because: str = ""
    """Why the next rate was missed, or nothing was measured."""


def cpu_s(cluster: Cluster) -> dict[str, float]:
    """Return the seconds of CPU that each service has taken so far."""
    taken = dict.fromkeys(SERVICES, 0.0)
    for pod in cluster.pods.values():
        process = psutil.Process(pod.process.process.pid)
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            taken[service_of(pod.name)] += times.user + times.system
    return taken


async def bench(
    cluster: Cluster, rate: float, seconds: float, prompts: str, within_s: float
) -> tuple[dict[str, Any], float]:
    """Load it; return what `voicemesh bench` says, and the CPU that it took.

    Raises:
        TimeoutError: It took longer than `within_s`.

    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voicemesh.cli", "bench", "--json", "--addr", cluster.target("gateway"),
        "--rate", f"{rate:g}", "--turns", str(turns_of(rate, seconds)), "--prompts", prompts, "--warmup", "1",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    before = os.times()
    try:
        async with asyncio.timeout(within_s):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    after = os.times()
    took_s = after.children_user + after.children_system - before.children_user - before.children_system
    result: dict[str, Any] = json.loads(out)
    return result, took_s


def turns_of(rate: float, seconds: float) -> int:
    """Return how many turns a rate is measured by."""
    return max(_LEAST_TURNS, round(rate * seconds))


def through(result: Mapping[str, Any]) -> float:
    """Return how many of the turns that came got through while they came: ended, over begun.

    A run has to end, and its last turns with it: what counts is the rate at which turns ended, beside the one
    at which they came, between the first and the last of each.
    """
    runs = [turn["run"] for turn in result["turns"] if turn["outcome"] == "completed"]
    if len(runs) < 2:
        return 0.0
    due, ended = ([run[name] for run in runs] for name in ("due_s", "ended_s"))
    spans = [max(times) - min(times) for times in (due, ended)]
    return min(1.0, spans[0] / spans[1]) if spans[1] else 1.0


def missed(result: Mapping[str, Any], objective_ms: float) -> str:
    """Return why a rate was too much; "": it was kept."""
    summary = result["summary"]
    if summary["errors"]:
        return f"{summary['errors']} turns failed"
    if (p95_ms := summary["ttfa_ms"]["p95"]) > objective_ms:
        return f"p95 of {p95_ms:.0f} ms"
    if (share := through(result)) < _THROUGH:
        return f"turns ended at {share:.0%} of the rate at which they came"
    return ""


class Steps:
    """Which rate is tried next."""

    def __init__(self, first: float) -> None:
        self.kept: float | None = None
        self.too_much: float | None = None
        self._refined = False
        self._next: float | None = first

    @property
    def next(self) -> float | None:
        """Turns a second; None: all is known."""
        return self._next

    def tell(self, *, kept: bool) -> None:
        """Say what became of it."""
        assert self._next is not None
        if kept:
            self.kept = self._next
        else:
            self.too_much = self._next
        if self.too_much is None:
            self._next *= _GROWTH
        elif self.kept is None:
            self._next = self.too_much / 2 if self.too_much / 2 >= _LOWEST else None
        elif self._refined:
            self._next = None
        else:
            self._refined, self._next = True, (self.kept + self.too_much) / 2


async def keeps_up(
    layout: str, first: float, options: argparse.Namespace, prompts: str, until_s: float
) -> Kept:
    """Load one layout more and more, until a moment of the loop's clock; at least with the first rate."""
    loop = asyncio.get_running_loop()
    found, steps, tried = Kept(layout, because="time was up"), Steps(first), 0
    async with (
        redis_server() as redis,
        running_cluster({"VOICEMESH_REDIS_URL": redis.url}, replicas=LAYOUTS[layout], patient=False) as (
            cluster,
            _,
        ),
    ):
        with contextlib.suppress(TimeoutError):
            # Nothing is cold in what counts.
            await bench(cluster, 4, 5, prompts, max(_SLACK_S, until_s - loop.time()))
            while (rate := steps.next) is not None:
                left_s, lasts_s = until_s - loop.time(), turns_of(rate, options.seconds) / rate
                if tried and left_s < lasts_s:
                    break
                tried += 1
                before = cpu_s(cluster)
                result, load_s = await bench(
                    cluster, rate, options.seconds, prompts, max(left_s, lasts_s) + _SLACK_S
                )
                used = {name: seconds - before[name] for name, seconds in cpu_s(cluster).items()}
                why = missed(result, options.objective_ms)
                summary = result["summary"]
                print(
                    f"  {layout}: {rate:.2f}/s, {summary['turns']} turns: "
                    f"p95 {summary['ttfa_ms']['p95']:.0f} ms, {through(result):.0%} through: {why or 'kept'}",
                    file=sys.stderr,
                    flush=True,
                )
                steps.tell(kept=not why)
                if why:
                    found = replace(found, next_missed=True, because=f"{rate:.2f}/s: {why}")
                else:
                    turns = summary["turns"] + 1  # and the one that warms
                    cpu_ms = {name: 1000 * seconds / turns for name, seconds in used.items()}
                    cpu_ms[_LOAD] = 1000 * load_s / turns
                    found = replace(
                        found,
                        turns_per_s=rate,
                        ttfa_p95_ms=summary["ttfa_ms"]["p95"],
                        cpu_ms=cpu_ms,
                        turns=summary["turns"],
                    )
    return found


def row(kept: Kept, columns: Sequence[str]) -> str:
    """Return a row of the table."""
    if kept.turns_per_s is None:
        return f"{kept.layout:<16} not measured: {kept.because}"
    cells = " ".join(f"{kept.cpu_ms.get(name, 0.0):>9.1f}" for name in columns)
    until = "yes" if kept.next_missed else "at least"
    return (
        f"{kept.layout:<16} {kept.turns_per_s:>8.2f} {until:>9} {kept.ttfa_p95_ms:>7.0f} "
        f"{kept.turns:>6} {'':<21} {cells}"
    )


async def run(options: argparse.Namespace) -> list[Kept]:
    """Measure the layouts that were asked for."""
    found = []
    columns = (*SERVICES, _LOAD)
    with tempfile.TemporaryDirectory() as folder:
        prompts = pathlib.Path(folder) / "prompts.txt"
        prompts.write_text("".join(f"What is the {n}th thing to know about tides?\n" for n in range(2000)))
        head = " ".join(f"{name:>9}" for name in columns)
        print(f"{'':<16} {'turns/s':>8} {'kept':>9} {'p95 ms':>7} {'turns':>6}  CPU of a turn in ms: {head}")
        loop = asyncio.get_running_loop()
        layouts = options.layouts or list(LAYOUTS)
        ends_s, first = loop.time() + options.within_s, options.from_rate
        for place, layout in enumerate(layouts):
            # What one layout leaves, others have.
            until_s = loop.time() + (ends_s - loop.time()) / (len(layouts) - place)
            kept = await keeps_up(layout, first, options, str(prompts), until_s)
            # One more of something keeps about what was kept without: that is a good beginning.
            first = kept.turns_per_s or first
            found.append(kept)
            print(row(kept, columns), flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("layouts", nargs="*", choices=[*LAYOUTS, []], help="all of them where none is named")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long each rate is kept")
    parser.add_argument("--from-rate", type=float, default=4.0, help="turns a second at first")
    parser.add_argument("--objective-ms", type=float, default=800.0, help="p95 of the time to first audio")
    parser.add_argument("--within-s", type=float, default=240.0, help="how long all of it may take")
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
