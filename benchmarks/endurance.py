"""Many turns in a row, a third of them interrupted: what grows, and what is left behind.

    .venv/bin/python -m benchmarks.endurance [--turns 1000]

Nothing is cached, so that every turn is spoken. Memory of every process is taken after each block of turns;
growth counts from the block that ends at turn 200. At the end no lease is out, no chunk is queued, and each
service has as many threads, descriptors and workers as before.
"""

import argparse
import asyncio

import grpc
import psutil

from benchmarks.meshes import RunningMesh, running_mesh
from voicemesh.tts.v1 import tts_pb2
from voicemesh.tts.v1.tts_pb2_grpc import TtsServiceStub

BLOCK = 100
WARM = 200
MB = 1024 * 1024


def memory_mb(mesh: RunningMesh) -> dict[str, float]:
    """Return the resident memory of every process."""
    return {
        f"{name}{f' worker {index}' if index else ''}": process.memory_info().rss / MB
        for name, processes in mesh.processes().items()
        for index, process in enumerate(processes)
    }


def descriptors(mesh: RunningMesh) -> dict[str, tuple[int, int]]:
    """Return the descriptors and threads of every service."""
    return {
        name: (service.num_fds(), service.num_threads()) for name, (service, *_) in mesh.processes().items()
    }


async def pool(address: str) -> tts_pb2.PoolStats:
    """Return how the TTS service's pool is doing."""
    async with grpc.aio.insecure_channel(address) as channel:
        stats = await TtsServiceStub(channel).GetPoolStats(tts_pb2.GetPoolStatsRequest())
        return stats.pools[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=1000)
    turns = parser.parse_args().turns
    with running_mesh(VOICEMESH_REHEARSAL_TTFT_MS="20", VOICEMESH_REHEARSAL_TOKENS_PER_S="400") as mesh:
        warm: dict[str, float] = {}
        before: dict[str, tuple[int, int]] = {}
        outcomes: dict[str, int] = {}
        for done in range(BLOCK, turns + 1, BLOCK):
            result = mesh.bench(
                "--turns", str(BLOCK), "--interrupt-share", "0.4", "--seed", str(done), "--no-cache"
            )
            for turn in result["turns"]:
                outcomes[turn["outcome"]] = outcomes.get(turn["outcome"], 0) + 1
            now = memory_mb(mesh)
            print(
                f"{done:>6} turns  " + "  ".join(f"{name} {mb:.1f}" for name, mb in now.items()), flush=True
            )
            if done == WARM:
                warm, before = now, descriptors(mesh)
        growth = {name: mb / warm[name] - 1 for name, mb in now.items() if name in warm}
        print("outcomes:", outcomes)
        print(
            "growth after the first 200: "
            + ", ".join(f"{name} {share:+.1%}" for name, share in growth.items())
        )
        print("descriptors and threads then and now:", before, descriptors(mesh))
        tts = psutil.Process(mesh.pids["tts"])
        ports = [c.laddr.port for c in tts.net_connections() if c.status == psutil.CONN_LISTEN]
        stats = asyncio.run(pool(f"127.0.0.1:{ports[0]}"))
        print(
            f"leases out {stats.active_leases}, chunks queued {stats.queued_chunks}, replicas replaced "
            f"{stats.replaced_replicas}, chunks spoken {stats.completed_chunks}, "
            f"cancelled {stats.cancelled_chunks}"
        )


if __name__ == "__main__":
    main()
