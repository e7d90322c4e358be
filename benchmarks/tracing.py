"""What tracing costs: CPU time of all processes per turn, with it off, on, and for one turn in ten.

    .venv/bin/python -m benchmarks.tracing [--turns 120] [--rounds 5] [--concurrency 4]

Three meshes run at the same time and are loaded one after the other, in another order each round, so that a
machine that gets slower or faster meets all three. The same prompts, nothing from a cache, the rehearsal
model at 20 ms and 400 tokens a second, espeak-ng. Spans go to a receiver of OTLP in this process, whose own
time is not counted. CPU time is what the operating system says of the five processes and their workers
(`psutil.Process.cpu_times`); each round is one figure for each mesh, and the medians of the rounds and of
their ratios are told.
"""

import argparse
import asyncio
import contextlib
import statistics
from collections.abc import Sequence
from typing import Final

from benchmarks.meshes import RunningMesh, percentile, prompts, running_mesh
from tests.support.otlp import OtlpReceiver, otlp_receiver

OFF, ON, TENTH = "off", "on", "one in ten"
_COMMON: Final = {"VOICEMESH_REHEARSAL_TTFT_MS": "20", "VOICEMESH_REHEARSAL_TOKENS_PER_S": "400"}
_TENTH: Final = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
_SETTLE_S: Final = 6.0
"""Behind a load, before its CPU time is read: the last spans leave in batches, every five seconds."""


def environment(mode: str, endpoint: str) -> dict[str, str]:
    """Return the variables of a mesh."""
    exported = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint} if mode != OFF else {}
    return _COMMON | exported | (_TENTH if mode == TENTH else {})


def cpu_s(mesh: RunningMesh) -> float:
    """Return the CPU seconds that the processes of a mesh have used."""
    times = [process.cpu_times() for processes in mesh.processes().values() for process in processes]
    return sum(each.user + each.system for each in times)


async def load(mesh: RunningMesh, turns: int, concurrency: int, path: str) -> tuple[float, list[float]]:
    """Run turns; return milliseconds of CPU a turn, and each turn's time to first audio in ms."""
    before_s = await asyncio.to_thread(cpu_s, mesh)
    arguments = ("--turns", str(turns), "--concurrency", str(concurrency), "--prompts", path, "--no-cache")
    done = (await asyncio.to_thread(mesh.bench, *arguments))["turns"]
    assert all(turn["outcome"] == "completed" for turn in done), "a turn failed"
    await asyncio.sleep(_SETTLE_S)
    used_s = await asyncio.to_thread(cpu_s, mesh) - before_s
    return used_s * 1000 / turns, [turn["ttfa_ms"] for turn in done]


async def measure(turns: int, rounds: int, concurrency: int) -> None:
    """Measure, and print."""
    modes = [OFF, ON, TENTH]
    cpu: dict[str, list[float]] = {mode: [] for mode in modes}
    heard: dict[str, list[float]] = {mode: [] for mode in modes}
    async with otlp_receiver("127.0.0.1:0") as receiver:
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(
                prompts([f"Why do harbours number {n} silt up?" for n in range(turns)])
            )
            meshes = {}
            for mode in modes:
                starting = running_mesh(**environment(mode, receiver.endpoint))
                meshes[mode] = await asyncio.to_thread(stack.enter_context, starting)
                await load(meshes[mode], 10, 2, path)
            warm = len(receiver.spans)
            for round_ in range(rounds):
                for mode in modes[round_ % 3 :] + modes[: round_ % 3]:
                    took_ms, first_ms = await load(meshes[mode], turns, concurrency, path)
                    cpu[mode].append(took_ms)
                    heard[mode] += first_ms
        report(cpu, heard)
        spans_a_turn(receiver, warm, turns * rounds)


def report(cpu: dict[str, list[float]], heard: dict[str, list[float]]) -> None:
    """Print the table."""
    print(f"{'tracing':<12} {'CPU ms/turn':>12} {'of off':>8} {'rounds':>18} {'TTFA p50':>9} {'p95':>7}")
    for mode, rounds in cpu.items():
        ratios = [took / off for took, off in zip(rounds, cpu[OFF], strict=True)]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        first = [percentile(heard[mode], percent) for percent in (50, 95)]
        print(
            f"{mode:<12} {statistics.median(rounds):12.2f} {statistics.median(ratios):8.3f} {spread:>18} "
            f"{first[0]:9.1f} {first[1]:7.1f}"
        )


def spans_a_turn(receiver: OtlpReceiver, warm: int, turns: int) -> None:
    """Print how many spans and traces came."""
    spans: Sequence[object] = receiver.spans[warm:]
    traces = {span.trace_id for span in receiver.spans[warm:]}
    print(f"{len(spans)} spans of {len(traces)} traces came, of {2 * turns} turns that exported")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=4)
    chosen = parser.parse_args()
    asyncio.run(measure(chosen.turns, chosen.rounds, chosen.concurrency))


if __name__ == "__main__":
    main()
