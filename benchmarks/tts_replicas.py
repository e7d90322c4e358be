"""How much speech a CPU makes with one replica of one thread, two replicas, or one replica of two threads.

    .venv/bin/python -m benchmarks.tts_replicas                      # a small model
    .venv/bin/python -m benchmarks.tts_replicas --size ljspeech      # 36 million parameters

Starts one TTS service with a voice for each layout, all of the same model of `benchmarks.random_models`
(weights make no difference to the time). Each round loads one voice after the other with the same requests,
as many at a time as `--callers` says, while the others are idle; the order turns from round to round, so
that every layout meets the same machine. Prints the seconds of audio made in a second, medians over the
rounds, and the median of each layout's ratio to one replica of one thread within a round. The first round
warms and is not counted. Needs the extra `coqui`.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.random_models import SIZES, make_vits
from benchmarks.tts_endurance import Wanted, service, speak
from voicemesh.tts.v1 import tts_pb2

RATE_HZ: Final = 22050  # of these models, and so of their voices where no other is asked for
TEXT: Final = "the quick brown fox jumps over a lazy dog while little birds sing above quiet water"


class Layout(NamedTuple):
    """How a voice uses the machine."""

    replicas: int
    threads: int

    @property
    def name(self) -> str:
        """Return the name of its voice."""
        return f"{self.replicas}x{self.threads}"


LAYOUTS: Final = (Layout(1, 1), Layout(2, 1), Layout(1, 2))


def declared(layout: Layout, folder: Path) -> dict[str, Any]:
    """Return the declaration of a voice."""
    options = {"model": str(folder), "device": "cpu", "threads": layout.threads}
    return {"name": layout.name, "engine": "coqui", "replicas": layout.replicas, "options": options}


async def throughput(stub: Any, layout: Layout, requests: int, callers: int) -> float:
    """Return the seconds of audio made in a second.

    Raises:
        RuntimeError: A request failed.

    """
    words = TEXT.split()
    waiting = [
        f"Number {number}: {' '.join(words[(number + word) % len(words)] for word in range(15))}."
        for number in range(requests)
    ]
    audio_s = 0.0

    async def call() -> None:
        nonlocal audio_s
        while waiting:
            _, end = await speak(stub, Wanted(layout.name, waiting.pop(), 1.0))
            if not isinstance(end, tts_pb2.ChunkFinished):
                raise RuntimeError(f"{layout.name}: {end}")  # noqa: TRY004 - an answer, no argument
            audio_s += end.total_samples / RATE_HZ

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(call())
    return audio_s / (time.perf_counter() - began_s)


async def measure(chosen: argparse.Namespace, folder: Path) -> dict[Layout, list[float]]:
    """Return the seconds of audio in a second of each layout and round."""
    measured: dict[Layout, list[float]] = {layout: [] for layout in LAYOUTS}
    async with service([declared(layout, folder) for layout in LAYOUTS]) as (stub, _):
        for turn in range(chosen.rounds + 1):
            first = turn % len(LAYOUTS)
            for layout in (*LAYOUTS[first:], *LAYOUTS[:first]):
                speed = await throughput(stub, layout, chosen.requests, chosen.callers)
                if turn:
                    measured[layout].append(speed)
    return measured


def show(chosen: argparse.Namespace, measured: dict[Layout, list[float]]) -> None:
    """Print the table."""
    load = os.getloadavg()[0]
    print(f"{chosen.size}, {chosen.requests} requests, {chosen.callers} at a time, {chosen.rounds} rounds")
    print(f"{os.cpu_count()} CPUs, load {load:.1f} at the end (this run's own with it)\n")
    print(f"{'replicas x threads':20}{'audio s/s':>12}{'lowest':>10}{'highest':>10}{'beside 1x1':>12}")
    for layout, speeds in measured.items():
        ratios = [speed / alone for speed, alone in zip(speeds, measured[LAYOUTS[0]], strict=True)]
        print(
            f"{layout.name:20}{statistics.median(speeds):12.2f}{min(speeds):10.2f}{max(speeds):10.2f}"
            f"{statistics.median(ratios):12.2f}"
        )


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=16, help="of each layout in a round")
    parser.add_argument("--callers", type=int, default=4, help="requests at a time")
    chosen = parser.parse_args()
    if min(chosen.rounds, chosen.requests, chosen.callers) < 1:
        parser.error("--rounds, --requests and --callers: at least 1 each")
    with tempfile.TemporaryDirectory() as folder:
        make_vits(Path(folder), size=chosen.size)
        measured = asyncio.run(measure(chosen, Path(folder)))
    show(chosen, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
