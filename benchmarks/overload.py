"""What becomes of turns when four times as much is asked for as fits.

    .venv/bin/python -m benchmarks.overload [--seconds 20] [--slots 6] [--json]

A mesh whose engine waits instead of working: `--slots` chunks at a time, each as long as its text, so that
the engine is the bottleneck by time and not by CPU, and its capacity is known. Turns come at random, whatever
becomes of them, each of its own words, in three parts:

    alone      one turn at a time: what TTFA is without load
    sweep      0.5 to 1.5 of the capacity: the best goodput, which is turns a second that are heard in time
    overload   0.6 of the capacity, four times that, 0.6 again

In time is a first audio within 1.25 of p95 alone. The load tool shares the machine with the mesh: what it was
late by itself is shown.
"""

import argparse
import asyncio
import contextlib
import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from benchmarks.meshes import percentile, running_mesh
from voicemesh.client import Frame, VoiceMesh, VoiceMeshError
from voicemesh.client.options import SpeechOptions

CHAR_MS: Final = 65
FIRST_MS: Final = 150
RTF: Final = 0.3
SPREAD: Final = 1.25
CONNECTIONS: Final = 4
FITS: Final = 0.6


@dataclass
class Asked:
    """One turn that was asked for. Milliseconds."""

    at_ms: float
    """Begin of the load to when it was due."""
    late_ms: float
    """How much later the tool began it."""
    answered_ms: float = 0.0
    """To its first audio, or to its refusal."""
    reason: str = ""
    """Why it was refused or failed; "" where it was heard to its end."""


def voices(slots: int) -> str:
    """Return `VOICEMESH_TTS_VOICES`."""
    options = {"first_frame_ms": FIRST_MS, "rtf": RTF, "slots": slots, "char_ms": CHAR_MS}
    return json.dumps([{"name": "simulated", "engine": "simulated", "replicas": 1, "options": options}])


def text(number: int) -> str:
    """Return the words of a turn: one chunk, and never the same."""
    return f"This is sentence number {number:06d} of a load that is too much."


def capacity_per_s(slots: int) -> float:
    """Return the turns a second that engines can speak."""
    audio_s = len(text(0)) * CHAR_MS / 1000
    return slots / (FIRST_MS / 1000 + RTF * audio_s)


class Load:
    """Asks for turns, and keeps what became of them."""

    def __init__(self, meshes: Sequence[VoiceMesh], seed: int) -> None:
        self._meshes = meshes
        self._chance = random.Random(seed)
        self._number = 0
        self.refused: list[float] = []

    async def turn(self, asked: Asked, due_s: float) -> Asked:
        """Speak one turn."""
        self._number += 1
        mesh = self._meshes[self._number % len(self._meshes)]
        words = text(self._number)
        asked.late_ms = max(0.0, (time.perf_counter() - due_s) * 1000)
        began_s = time.perf_counter()
        try:
            async with mesh.say(words, speech=SpeechOptions(cache=False, max_lead_ms=0)) as turn:
                async for event in turn:
                    if isinstance(event, Frame) and not asked.answered_ms:
                        asked.answered_ms = (time.perf_counter() - began_s) * 1000
        except VoiceMeshError as error:
            asked.answered_ms = (time.perf_counter() - began_s) * 1000
            asked.reason = error.reason
        return asked

    async def at_rate(self, parts: Sequence[tuple[float, float]]) -> list[Asked]:
        """Ask at random, in parts of (turns a second, seconds); return all when they have ended."""
        begin_s = time.perf_counter()
        at_s, until_s = 0.0, 0.0
        running = []
        for per_s, seconds in parts:
            until_s += seconds
            while (next_s := at_s + self._chance.expovariate(per_s)) < until_s:
                at_s = next_s
                await asyncio.sleep(max(0.0, begin_s + at_s - time.perf_counter()))
                asked = Asked(at_s * 1000, 0.0)
                running.append(asyncio.create_task(self.turn(asked, begin_s + at_s)))
            at_s = until_s
        return await asyncio.gather(*running)


def within(asked: Sequence[Asked], begin_s: float, end_s: float) -> list[Asked]:
    """Return those that were due then."""
    return [one for one in asked if begin_s * 1000 <= one.at_ms < end_s * 1000]


def row(asked: Sequence[Asked], seconds: float, limit_ms: float) -> dict[str, Any]:
    """Return the figures of a part."""
    heard = [one.answered_ms for one in asked if not one.reason] or [0.0]
    refused = [one.answered_ms for one in asked if one.reason in ("OVERLOADED", "TOO_MANY_TURNS")]
    return {
        "asked_per_s": round(len(asked) / seconds, 2),
        "heard_per_s": round(sum(not one.reason for one in asked) / seconds, 2),
        "goodput_per_s": round(
            sum(not one.reason and one.answered_ms <= limit_ms for one in asked) / seconds, 2
        ),
        "ttfa_p50_ms": round(percentile(heard, 50), 1),
        "ttfa_p95_ms": round(percentile(heard, 95), 1),
        "refused": len(refused),
        "refusal_p99_ms": round(percentile(refused, 99), 1) if refused else None,
        "failed": sum(bool(one.reason) for one in asked) - len(refused),
        "tool_late_p95_ms": round(percentile([one.late_ms for one in asked] or [0.0], 95), 1),
    }


async def measure(address: str, slots: int, seconds: float, seed: int) -> dict[str, Any]:
    """Run all parts."""
    full = capacity_per_s(slots)
    async with contextlib.AsyncExitStack() as stack:
        meshes = [await stack.enter_async_context(VoiceMesh(address)) for _ in range(CONNECTIONS)]
        load = Load(meshes, seed)
        for _ in range(3):  # connections, encoders, and what is imported late
            await load.turn(Asked(0, 0), time.perf_counter())
        alone = [await load.turn(Asked(0, 0), time.perf_counter()) for _ in range(40)]
        alone_p95_ms = percentile([one.answered_ms for one in alone], 95)
        limit_ms = SPREAD * alone_p95_ms
        sweep = {}
        for share in (0.5, 0.7, 0.85, 1.0, 1.5):
            asked = await load.at_rate([(share * full, seconds)])
            sweep[str(share)] = row(within(asked, seconds * 0.25, seconds), seconds * 0.75, limit_ms)
        parts = ((FITS * full, seconds / 2), (4 * FITS * full, seconds), (FITS * full, seconds / 2))
        asked = await load.at_rate(parts)
    begin_s, end_s = seconds / 2, seconds * 1.5
    over = row(within(asked, begin_s, end_s), seconds, limit_ms)
    behind = within(asked, end_s + 2, 2 * seconds)
    best = max(step["goodput_per_s"] for step in sweep.values())
    return {
        "capacity_per_s": round(full, 2),
        "alone": {
            "ttfa_p50_ms": round(percentile([one.answered_ms for one in alone], 50), 1),
            "ttfa_p95_ms": round(alone_p95_ms, 1),
        },
        "sweep": sweep,
        "before": row(within(asked, 0, begin_s), begin_s, limit_ms),
        "overload": over,
        "behind_2s": row(behind, max(seconds / 2 - 2, 1), limit_ms),
        "ratios": {
            "ttfa_p95": round(over["ttfa_p95_ms"] / alone_p95_ms, 2),
            "goodput": round(over["goodput_per_s"] / best, 2) if best else None,
            "heard": round(over["heard_per_s"] / full, 2),
        },
        "turns": [asdict(one) for one in asked],
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of each part")
    parser.add_argument("--slots", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lateness-ms", type=int, default=0, help="VOICEMESH_GATEWAY_LATENESS_MS")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with running_mesh(
        VOICEMESH_TTS_VOICES=voices(arguments.slots),
        VOICEMESH_GATEWAY_MIN_TURNS="4",
        VOICEMESH_GATEWAY_LATENESS_MS=str(arguments.lateness_ms),
        VOICEMESH_LOG_LEVEL="error",
    ) as mesh:
        result = asyncio.run(measure(mesh.address, arguments.slots, arguments.seconds, arguments.seed))
    if arguments.json:
        print(json.dumps(result))
        return
    del result["turns"]
    for name, value in result.items():
        if name == "sweep":
            for share, step in value.items():
                print(f"sweep {share}: {step}")
        else:
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
