"""The simulation beside a mesh: the same prompts at the same moments for both."""

import math
import os
import random
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.capacity.measuring import Loaded, Measuring
from benchmarks.capacity.scenarios import QUESTIONS
from benchmarks.meshes import percentile
from voicemesh.capacity import profile as profiles
from voicemesh.capacity.mesh import Layout
from voicemesh.capacity.profile import SERVICES
from voicemesh.capacity.simulation import Result, simulate

SHARES: Final = (0.5, 0.8, 0.95)
_DRAWS: Final = 1000


def like(found: profiles.Profile, loaded: Loaded, *, cores: int, seed: int) -> Result:
    """Simulate what was asked of a mesh: the same prompts at the same moments, on one node."""
    turns = [turn for turn in loaded.result["turns"] if turn["run"]["due_s"] is not None]
    turns.sort(key=lambda turn: turn["run"]["due_s"])
    each = len(found.made.turns) // len(QUESTIONS)
    draw = random.Random(f"{seed} picks")
    place = {prompt: number for number, prompt in enumerate(QUESTIONS)}
    # Each caller gets one of the measured turns to his prompt.
    picks = [place[turn["prompt"]] * each + draw.randrange(each) for turn in turns]
    layout = Layout(replicas=dict.fromkeys(SERVICES, 1), nodes=1, cores=cores, callers_too=True)
    arrivals = [turn["run"]["due_s"] for turn in turns]
    return simulate(found, layout, arrivals, seed=seed, end_s=arrivals[-1] + 1e-6, picks=picks)


def interval(pairs: Sequence[tuple[float, float]], seed: int) -> tuple[float, float]:
    """Return between what the difference of two p95 lies, with 95% confidence, as a share of the first.

    Both are of the same arrivals, so turns are drawn in pairs; and a turn that waits has neighbours that wait
    too, so they are drawn in blocks, of as many turns as there are blocks (Kuensch, The jackknife and the
    bootstrap for general stationary observations, 1989; the circular form of Politis and Romano, 1992).

    Args:
        pairs: Times to first audio, measured and simulated, in the order in which the turns came.
        seed: Of the draws.

    """
    chance = random.Random(f"{seed} blocks")
    size = max(1, round(math.sqrt(len(pairs))))
    round_ = [*pairs, *pairs[:size]]
    found = []
    for _ in range(_DRAWS):
        starts = (chance.randrange(len(pairs)) for _ in range(-(-len(pairs) // size)))
        drawn = [pair for start in starts for pair in round_[start : start + size]][: len(pairs)]
        measured, simulated = (percentile(sorted(values), 95) for values in zip(*drawn, strict=True))
        found.append(simulated / measured - 1)
    found.sort()
    return percentile(found, 2.5), percentile(found, 97.5)


def paired(loaded: Loaded, result: Result) -> list[tuple[float, float]]:
    """Return times to first audio, measured and simulated, of turns that came to both."""
    turns = sorted(
        (turn for turn in loaded.result["turns"] if turn["run"]["due_s"] is not None),
        key=lambda turn: turn["run"]["due_s"],
    )
    return [
        (float(turn["ttfa_ms"]), heard.ttfa_ms)
        for turn, heard in zip(turns, result.turns, strict=True)
        if turn["outcome"] == "completed" and not heard.refused
    ]


def check(
    measuring: Measuring, found: profiles.Profile, best: float, seconds: float, seed: int
) -> list[dict[str, Any]]:
    """Put load on a mesh and on its simulation; return both."""
    rows = []
    cores = os.cpu_count() or 1
    for share in SHARES:
        rate = share * best
        turns = max(60, round(rate * seconds))
        loaded = measuring.load(
            "--turns",
            str(turns),
            "--rate",
            f"{rate:.4f}",
            "--arrivals",
            "poisson",
            "--seed",
            str(seed),
            "--warmup",
            "4",
        )
        result = like(found, loaded, cores=cores, seed=seed)
        pairs = paired(loaded, result)
        low, high = interval(pairs, seed)
        row = {
            "load": share,
            "rate_per_s": round(rate, 3),
            "turns": len(loaded.turns),
            "failed": len(loaded.result["turns"]) - len(loaded.turns),
            "measured_ms": {f"p{percent}": round(loaded.ttfa(percent), 1) for percent in (50, 95, 99)},
            "simulated_ms": {f"p{percent}": round(result.percentile(percent), 1) for percent in (50, 95, 99)},
            "error": round(result.percentile(95) / loaded.ttfa(95) - 1, 4),
            "error_95": [round(low, 4), round(high, 4)],
            "others": round(loaded.others, 4),
            "engine_s": round(loaded.engine_s, 4),
            "pairs_ms": [[round(ms, 1) for ms in pair] for pair in pairs],
            "cpu_ms": {name: round(ms, 1) for name, ms in loaded.cpu_ms.items()},
            "tool_late_p95_ms": round(percentile([turn["run"]["late_ms"] for turn in loaded.turns], 95), 1),
            "simulated_busy": {name: round(busy, 3) for name, busy in result.busy.items()},
            "nodes_busy": round(result.nodes_busy, 3),
            "waits_p95_ms": {name: round(ms, 1) for name, ms in result.slow_waits().items()},
            "queue_p95_ms": {
                "measured": round(percentile([turn["stages"]["tts_queue"] for turn in loaded.turns], 95), 1)
            },
        }
        rows.append(row)
        print(
            f"{share:4.0%} {rate:6.2f}/s {len(loaded.turns):5} turns   measured p50 {loaded.ttfa(50):7.1f}  "
            f"p95 {loaded.ttfa(95):7.1f}   simulated p50 {result.percentile(50):7.1f}  "
            f"p95 {result.percentile(95):7.1f}   p95 off by {row['error']:+.1%} "
            f"({low:+.0%} to {high:+.0%})   leases {loaded.engine_s:.2f} s   others {loaded.others:.0%}",
            flush=True,
        )
    return rows
