"""What flags cost a turn: microseconds of the gateway's loop, without flags and with the four of a file.

    python -m benchmarks.flag_cost

A session of its own for each evaluation, so that nothing can be remembered; the kinds take turns, and each
has the median of its rounds.
"""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from gateway.flags import Flags, open_flags
from gateway.settings import GatewaySettings
from voicemesh.flags.definitions import CHUNK_POLICY, MODEL, PROMPT, VOICE
from voicemesh.runtime.clock import SystemClock

ROUNDS: Final = 15
SESSIONS: Final = 500
VALUES: Final = {PROMPT: "Be brief.", MODEL: "small", CHUNK_POLICY: "words:4", VOICE: "espeak/en-gb"}
ATTRIBUTES: Final = {"tenant": "acme", "voice": "espeak/en-us", "language": "en-us", "turn": "prompt"}


def document(values: dict[str, str]) -> str:
    """Return a file in which half of the sessions have each value."""
    flag = {"state": "ENABLED", "targeting": {"fractional": [["new", 50], ["old", 50]]}}
    return json.dumps(
        {"flags": {key: {**flag, "variants": {"new": value, "old": ""}} for key, value in values.items()}}
    )


async def round_us(flags: Flags) -> float:
    """Return what one evaluation takes."""
    began_ns = time.perf_counter_ns()
    for number in range(SESSIONS):
        if not flags.silent:
            session = f"session-{number}"
            await flags.evaluate(tuple(VALUES), session, {**ATTRIBUTES, "session": session})
    return (time.perf_counter_ns() - began_ns) / 1000 / SESSIONS


async def run(folder: Path) -> None:
    """Measure, and print."""
    kinds = {"no file": open_flags(GatewaySettings(), SystemClock())}
    for name, values in (("a file without flags", {}), ("one flag", {MODEL: "small"}), ("four", VALUES)):
        path = folder / f"{len(values)}.json"
        path.write_text(document(values))
        kinds[name] = open_flags(GatewaySettings(flags_file=str(path)), SystemClock())
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, flags in kinds.items():
            found[name].append(await round_us(flags))
    for name, rounds in found.items():
        print(f"{name:22} {statistics.median(rounds):7.1f} µs a turn")
    for flags in kinds.values():
        await flags.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(run(Path(scratch)))
