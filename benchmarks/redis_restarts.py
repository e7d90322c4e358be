"""Redis killed and restarted under turns: how many fail, and what first audio costs, beside a run without.

    .venv/bin/python -m benchmarks.redis_restarts [--rounds 3] [--turns 200] [--concurrency 40]

A mesh as a person starts it, with the simulated engine and a real Redis behind its cache. Callers ask one of
100 prompts each, listening (`--paced`); all were asked once before. The gateway waits 20 ms for the cache: a
machine that is too busy for that shows as degraded turns in the undisturbed line. Rounds alternate:
undisturbed, and with Redis killed (SIGKILL) and started again, empty, five times while turns run; 300 ms
away, 700 ms there. The target: no failed turn, and the 95th percentile of the time to first audio at most
25 ms above the undisturbed one.
"""

import argparse
import asyncio
import os
from typing import Any, Final

from benchmarks.meshes import HEADER, SIMULATED, RunningMesh, percentile, prompts, row, running_mesh
from tests.support.redis_server import RedisServer, redis_server

KILLS: Final = 5
AWAY_S: Final = 0.3
THERE_S: Final = 0.7
TARGET_MS: Final = 25.0
Turns = list[dict[str, Any]]


async def bench(mesh: RunningMesh, path: str, turns: int, concurrency: int, *pace: str) -> Turns:
    """Run turns; return what became of them."""
    arguments = ("--turns", str(turns), "--concurrency", str(concurrency), "--prompts", path, *pace)
    done = await asyncio.to_thread(mesh.bench, *arguments)
    found: Turns = done["turns"]
    return found


async def disturbed(mesh: RunningMesh, redis: RedisServer, path: str, turns: int, concurrency: int) -> Turns:
    """Run turns while Redis is killed and restarted."""
    running = asyncio.create_task(bench(mesh, path, turns, concurrency, "--paced"))
    await asyncio.sleep(THERE_S)
    for _ in range(KILLS):
        await redis.kill()
        await asyncio.sleep(AWAY_S)
        await redis.start()
        await asyncio.sleep(THERE_S)
    assert not running.done(), "the turns ended before Redis was killed five times: ask for more of them"
    return await running


async def run(rounds: int, turns: int, concurrency: int) -> None:
    """Print the table."""
    questions = [f"Why do harbours number {number} silt up?" for number in range(100)]
    found: dict[str, Turns] = {"undisturbed": [], "killed": []}
    async with redis_server() as redis:
        settings = {"VOICEMESH_TTS_VOICES": SIMULATED, "VOICEMESH_REDIS_URL": redis.url}
        with prompts(questions) as path, running_mesh(**settings) as mesh:
            await bench(mesh, path, len(questions), concurrency // 4 or 1)
            for _ in range(rounds):
                found["undisturbed"] += await bench(mesh, path, turns, concurrency, "--paced")
                found["killed"] += await disturbed(mesh, redis, path, turns, concurrency)
    print(f"{rounds} rounds of {turns} turns, {concurrency} at once, on {os.cpu_count()} CPUs\n{HEADER}")
    p95_ms = {}
    for name, done in found.items():
        times_ms = [turn["ttfa_ms"] for turn in done if turn["outcome"] == "completed"]
        p95_ms[name] = percentile(times_ms, 95)
        print(row(f"time to first audio, {name}", times_ms))
        failed = sum(turn["outcome"] != "completed" for turn in done)
        degraded = sum("cache" in turn["degraded"] for turn in done)
        hits = sum(turn["reply_cache"] == "hit" for turn in done)
        print(f"  {failed} of {len(done)} turns failed; {degraded} degraded; {hits} replies from the cache")
    difference_ms = p95_ms["killed"] - p95_ms["undisturbed"]
    print(f"p95 killed less undisturbed: {difference_ms:+.1f} ms (target: at most {TARGET_MS:+.0f} ms)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=40)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.rounds, arguments.turns, arguments.concurrency))


if __name__ == "__main__":
    main()
