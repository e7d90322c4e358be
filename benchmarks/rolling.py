"""Restart every process of a mesh of two of each under load, again and again: what callers notice of it.

    .venv/bin/python -m benchmarks.rolling [--rounds 1] [--turns 20] [--no-cache]

Each process is told to stop with SIGTERM, is started anew when it has ended, and the next one is not
touched before the one that came back has load again. `--turns` callers ask all the while without a pause;
every turn's audio is compared, byte by byte, with what the quiet mesh had said before. Printed are turns that
failed, turns whose audio was another, the longest wait for a frame inside a turn, and how long each process
took to drain and to have load again.
"""

import argparse
import asyncio
import statistics

from tests.support.mesh import service_of
from tests.support.rolling import Callers, Restart, doubled_mesh, restart_all


async def run(rounds: int, turns: int, *, cache: bool) -> bool:
    """Return whether nobody noticed."""
    restarts: list[Restart] = []
    async with doubled_mesh() as (mesh, client):
        callers = Callers(client, cache=cache)
        await callers.learn()
        callers.counts.longest_gap_s = 0.0
        await callers.run(turns, lambda: asyncio.sleep(5))
        quiet_s, callers.counts.longest_gap_s = callers.counts.longest_gap_s, 0.0

        async def restart() -> None:
            for number in range(rounds):
                restarts.extend(await restart_all(mesh))
                print(
                    f"round {number + 1}: {callers.counts.turns} turns, {len(callers.counts.bad)} bad",
                    flush=True,
                )

        counts = await callers.run(turns, restart)
    print(f"{'':<10} {'restarts':>8}  {'drained in s':>14}  {'load again in s':>16}   (median, longest)")
    for service in sorted({service_of(each.name) for each in restarts}):
        own = [each for each in restarts if service_of(each.name) == service]
        drained, again = [each.drained_s for each in own], [each.again_s for each in own]
        print(
            f"{service:<10} {len(own):>8}  {statistics.median(drained):>6.2f} {max(drained):>7.2f}  "
            f"{statistics.median(again):>7.2f} {max(again):>8.2f}"
        )
    statuses = sorted({each.status for each in restarts})
    print(f"turns {counts.turns}, failed {len(counts.failed)}, other audio {len(counts.different)}")
    gap_ms, quiet_ms = counts.longest_gap_s * 1000, quiet_s * 1000
    print(
        f"longest wait for a frame {gap_ms:.0f} ms, without restarts {quiet_ms:.0f}; exit statuses {statuses}"
    )
    for line in counts.bad[:20]:
        print("  ", line)
    return not counts.bad and statuses == [0]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--no-cache", action="store_true", help="have every turn spoken anew")
    options = parser.parse_args()
    return 0 if asyncio.run(run(options.rounds, options.turns, cache=not options.no_cache)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
