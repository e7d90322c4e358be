"""What tracing costs: CPU time of all processes per turn, with it off, on, and for one turn in ten.

    .venv/bin/python -m benchmarks.tracing [--turns 24] [--rounds 12] [--concurrency 2]

Three meshes are loaded at the same time with the same prompts, nothing from a cache, the rehearsal model at
20 ms and 400 tokens a second, espeak-ng: whatever else the machine does meets all three alike. Spans go to a
receiver of OTLP in this process, whose own time is not counted, nor are those of the load tools. CPU time is
what the operating system says of the five processes and their workers (`psutil.Process.cpu_times`), from the
beginning of a round to that of the next one, so that what is exported behind a round is counted, too. Told
are the ratio of the sums over all rounds, and the range that it has with nine in ten of the choices of as
many rounds by lot (a bootstrap): what the rounds leave open.
"""

import argparse
import asyncio
import contextlib
import itertools
import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.meshes import RunningMesh, percentile, prompts, running_mesh
from tests.support.otlp import OtlpReceiver, otlp_receiver

OFF, ON, TENTH = "off", "on", "one in ten"
_COMMON: Final = {"VOICEMESH_REHEARSAL_TTFT_MS": "20", "VOICEMESH_REHEARSAL_TOKENS_PER_S": "400"}
_TENTH: Final = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
_SETTLE_S: Final = 6.0
"""Behind the last round, before its CPU time is read: the last spans leave in batches, every five seconds."""
_DRAWS: Final = 2000


def environment(mode: str, endpoint: str) -> dict[str, str]:
    """Return the variables of a mesh."""
    exported = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint} if mode != OFF else {}
    return _COMMON | exported | (_TENTH if mode == TENTH else {})


def cpu_s(mesh: RunningMesh) -> float:
    """Return the CPU seconds that the processes of a mesh have used."""
    times = [process.cpu_times() for processes in mesh.processes().values() for process in processes]
    return sum(each.user + each.system for each in times)


async def load(mesh: RunningMesh, turns: int, concurrency: int, path: str) -> list[float]:
    """Run turns; return each one's time to first audio in ms."""
    arguments = ("--turns", str(turns), "--concurrency", str(concurrency), "--prompts", path, "--no-cache")
    done = (await asyncio.to_thread(mesh.bench, *arguments))["turns"]
    assert all(turn["outcome"] == "completed" for turn in done), "a turn failed"
    return [turn["ttfa_ms"] for turn in done]


async def measure(turns: int, rounds: int, concurrency: int) -> None:
    """Measure, and print."""
    modes = [OFF, ON, TENTH]
    read_s: dict[str, list[float]] = {mode: [] for mode in modes}
    heard: dict[str, list[float]] = {mode: [] for mode in modes}
    async with otlp_receiver("127.0.0.1:0") as receiver:
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(
                prompts([f"Why do harbours number {n} silt up?" for n in range(turns)])
            )
            meshes = {}
            warm = 0
            for mode in modes:
                starting = running_mesh(**environment(mode, receiver.endpoint))
                meshes[mode] = await asyncio.to_thread(stack.enter_context, starting)
            for warm_up in (True, *[False] * rounds):
                for mode, mesh in meshes.items():
                    read_s[mode].append(await asyncio.to_thread(cpu_s, mesh))
                loads = (load(mesh, turns, concurrency, path) for mesh in meshes.values())
                for mode, first_ms in zip(modes, await asyncio.gather(*loads), strict=True):
                    heard[mode] += [] if warm_up else first_ms
                if warm_up:
                    await asyncio.sleep(_SETTLE_S)  # its spans wait in exporters
                    warm = len(receiver.spans)
            await asyncio.sleep(_SETTLE_S)
            for mode, mesh in meshes.items():
                read_s[mode].append(await asyncio.to_thread(cpu_s, mesh))
        used_ms = {
            mode: [(end - begin) * 1000 / turns for begin, end in itertools.pairwise(read[1:])]
            for mode, read in read_s.items()
        }
        report(used_ms, heard)
        spans_a_turn(receiver, warm, turns * rounds)


def report(used_ms: Mapping[str, Sequence[float]], heard: Mapping[str, Sequence[float]]) -> None:
    """Print the table."""
    print(f"{'tracing':<12} {'CPU ms/turn':>12} {'of off':>8} {'9 in 10':>18} {'TTFA p50':>9} {'p95':>7}")
    for mode, rounds in used_ms.items():
        low, high = spread(rounds, used_ms[OFF])
        first = [percentile(heard[mode], percent) for percent in (50, 95)]
        print(
            f"{mode:<12} {statistics.mean(rounds):12.2f} {sum(rounds) / sum(used_ms[OFF]):8.3f} "
            f"{f'{low:.3f} to {high:.3f}':>18} {first[0]:9.1f} {first[1]:7.1f}"
        )


def spread(rounds: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Return between which ratios nine in ten lie, of as many rounds drawn from these."""
    pairs = list(zip(rounds, others, strict=True))
    lots = random.Random(1)
    ratios = []
    for _ in range(_DRAWS):
        drawn = lots.choices(pairs, k=len(pairs))
        ratios.append(sum(one for one, _ in drawn) / sum(other for _, other in drawn))
    return percentile(ratios, 5), percentile(ratios, 95)


def spans_a_turn(receiver: OtlpReceiver, warm: int, turns: int) -> None:
    """Print how many spans and traces came."""
    spans: Sequence[object] = receiver.spans[warm:]
    traces = {span.trace_id for span in receiver.spans[warm:]}
    print(f"{len(spans)} spans of {len(traces)} traces came, of {2 * turns} turns that exported")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--concurrency", type=int, default=2)
    chosen = parser.parse_args()
    asyncio.run(measure(chosen.turns, chosen.rounds, chosen.concurrency))


if __name__ == "__main__":
    main()
