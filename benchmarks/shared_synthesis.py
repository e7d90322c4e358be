"""How many syntheses turns cost that want the same at the same moment, and how far apart they hear it.

    .venv/bin/python -m benchmarks.shared_synthesis [--turns 200] [--rounds 5] [--first-frame-ms 1500]

One mesh with a simulated voice, one gateway. In each round so many `Speak` calls with one new text are
begun together; then as many that bypass the audio cache. The engine takes so long for its first frame
that all of them have been admitted by then (less than the lease's time, or it would be handed on): what
is measured is how a frame comes to all, not how many turns a gateway can begin in a second. Of each
round: chunks that the TTS service spoke; and from the first frame that any caller got to the first of
each other, on this process's clock. It reads all of them itself, so its own work is in it.
"""

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import dataclass

import grpc

from benchmarks.meshes import percentile, running_mesh
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from voicemesh.tts.v1 import tts_pb2
from voicemesh.tts.v1.tts_pb2_grpc import TtsServiceStub

CHANNELS = 8
"""HTTP/2 connections: one takes no more than 100 streams at a time from some servers."""


@dataclass
class Heard:
    """What one caller got."""

    first_ns: int = 0
    samples: int = 0
    cache: str = ""


@dataclass
class Round:
    """What became of turns that were begun together."""

    syntheses: int
    behind_ms: list[float]
    shared: int


async def speak(stub: GatewayServiceStub, text: str, *, bypass: bool) -> Heard:
    """Speak a text; note when its first frame came."""
    heard = Heard()
    options = pb.SpeechOptions(bypass_audio_cache=bypass, max_lead_ms=0)
    async for response in stub.Speak(pb.SpeakRequest(text=text, speech=options)):
        if response.HasField("frame"):
            heard.first_ns = heard.first_ns or time.monotonic_ns()
            heard.samples += response.frame.samples
        elif response.HasField("turn_completed"):
            heard.cache = pb.CacheOutcome.Name(response.turn_completed.report.chunks[0].cache)
    return heard


async def spoken(stub: TtsServiceStub) -> int:
    """Return how many chunks the TTS service has spoken."""
    stats = await stub.GetPoolStats(tts_pb2.GetPoolStatsRequest())
    return sum(pool.completed_chunks for pool in stats.pools)


async def one_round(
    stubs: list[GatewayServiceStub], tts: TtsServiceStub, text: str, turns: int, *, bypass: bool
) -> Round:
    """Begin so many turns together; return what became of them."""
    before = await spoken(tts)
    asked = [speak(stubs[number % len(stubs)], text, bypass=bypass) for number in range(turns)]
    heard = await asyncio.gather(*asked)
    if len({one.samples for one in heard}) != 1 or not heard[0].samples:
        raise SystemExit(f"callers heard different things: {sorted({one.samples for one in heard})} samples")
    firsts = sorted(one.first_ns for one in heard)
    behind_ms = [(first - firsts[0]) / 1e6 for first in firsts[1:]]
    shared = sum(one.cache == "CACHE_OUTCOME_SHARED" for one in heard)
    return Round(await spoken(tts) - before, behind_ms, shared)


async def measure(gateway: str, tts: str, arguments: argparse.Namespace) -> dict[bool, list[Round]]:
    """Run all rounds, those that share and those that do not by turns."""
    channels = [
        grpc.aio.insecure_channel(gateway, options=[("voicemesh.channel", n)]) for n in range(CHANNELS)
    ]
    stubs = [GatewayServiceStub(channel) for channel in channels]
    rounds: dict[bool, list[Round]] = {False: [], True: []}
    async with grpc.aio.insecure_channel(tts) as channel:
        tts_stub = TtsServiceStub(channel)
        for stub in stubs:
            await speak(stub, "Connections are opened before anything is measured.", bypass=True)
        for number in range(arguments.rounds):
            for bypass, done in rounds.items():
                text = (
                    f"Platform number {number} is where the {'last' if bypass else 'next'} train leaves from."
                )
                done.append(await one_round(stubs, tts_stub, text, arguments.turns, bypass=bypass))
    for channel in channels:
        await channel.close(None)
    return rounds


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--first-frame-ms", type=float, default=1500)
    arguments = parser.parse_args()
    options = {"first_frame_ms": arguments.first_frame_ms, "rtf": 0.05, "slots": 2 * arguments.turns}
    voice = {"name": "simulated", "engine": "simulated", "replicas": 1, "options": options}
    with running_mesh(
        VOICEMESH_TTS_VOICES=json.dumps([voice]),
        VOICEMESH_GATEWAY_MAX_TURNS=str(2 * arguments.turns),
        VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS="1000",
    ) as mesh:
        rounds = asyncio.run(measure(mesh.address, mesh.addresses["tts"], arguments))
    print(f"{arguments.turns} turns at the same moment, {arguments.rounds} rounds")
    print(f"{'':<22} {'syntheses':>10} {'shared':>8} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
    for bypass, done in rounds.items():
        behind_ms = [value for one in done for value in one.behind_ms]
        print(
            f"{'without audio cache' if bypass else 'shared':<22} "
            f"{statistics.median(one.syntheses for one in done):>10.0f} "
            f"{statistics.median(one.shared for one in done):>8.0f} "
            f"{percentile(behind_ms, 50):>8.2f} {percentile(behind_ms, 99):>8.2f} {max(behind_ms):>8.2f}"
        )
    most = max(one.syntheses for one in rounds[False])
    if most != 1:
        raise SystemExit(f"one round that shares cost {most} syntheses instead of 1")


if __name__ == "__main__":
    main()
