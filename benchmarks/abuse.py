"""What callers who misbehave cost others: connections and streams that say nothing, slow readers, floods.

    python -m benchmarks.abuse [--turns 60] [--connections 1000] [--streams 10000] [--rate 500]

A mesh runs with keys. One caller speaks short texts and measures the time to first audio; an attack runs in a
process of its own meanwhile, with a key of another tenant or with none. Each attack is compared with the calm
before it, and the gateway's memory and descriptors with those before, once it has ended what was left. Each
connection takes a descriptor here and in the gateway: the limits of both must allow them.

Who attacks has machines of his own. Here his process shares the cores with the mesh, so it has the lowest
priority that there is (`SCHED_IDLE`): it runs when nobody else would, and what it takes is not counted
against the mesh. It may be too slow then: it says what rate it reached, and below nine tenths of the wish it
says so.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import psutil

from tests.support.mesh import Mesh, running_mesh
from voicemesh import keyfile
from voicemesh.client import SpeechOptions, VoiceMesh
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from voicemesh.tts.v1 import tts_pb2
from voicemesh.tts.v1.tts_pb2_grpc import TtsServiceStub

ATTACKS: Final = ("idle", "slow", "streams", "keys")
_WHAT: Final = {
    "idle": "connections that send nothing, gRPC and HTTP",
    "slow": "streams whose long turn nobody reads, gRPC and HTTP",
    "streams": "streams opened and dropped",
    "keys": "calls with wrong keys",
}
_VOICE: Final = [{"name": "quick", "engine": "simulated", "replicas": 4, "options": {"first_frame_ms": 20}}]
_SLOW: Final = 50
"""Slow readers of each kind."""
_LONG: Final = "So it went on, and on, and there was no end to it. " * 400
_LIMITS: Final = {"VOICEMESH_HTTP_REQUEST_S": "10", "VOICEMESH_GATEWAY_SLOW_READER_S": "5"}
_SETTLE_S: Final = 20.0
_REACHED: Final = 0.9
"""Share of the wished rate below which an attack says that it was too slow."""


async def main() -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=60, help="of the caller, in each phase")
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=500, help="streams, and wrong keys, a second")
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=ATTACKS)
    parser.add_argument("--attack", choices=ATTACKS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.attack:
        _step_back()
        await _attack(options)
        return 0
    return await _measure(options)


# ---------------------------------------------------------------- measuring


async def _measure(options: argparse.Namespace) -> int:
    keys = {name: keyfile.new_key(name) for name in ("caller", "attacker")}
    with tempfile.TemporaryDirectory(prefix="vm-") as folder:
        path = pathlib.Path(folder) / "keys.json"

        def add(entries: list[dict[str, Any]]) -> None:
            entries += [
                {"id": name, "sha256": keyfile.digest(key), "tenant": name, "scopes": ["speak", "converse"]}
                for name, key in keys.items()
            ]

        keyfile.change(path, add)
        (pathlib.Path(folder) / "attacker").write_text(keys["attacker"])
        async with running_mesh(
            VOICEMESH_GATEWAY_KEYS_FILE=str(path), VOICEMESH_TTS_VOICES=json.dumps(_VOICE), **_LIMITS
        ) as mesh:
            # The mesh's own folder, for the attack.
            (pathlib.Path(folder) / "mesh").write_text(str(mesh.folder))
            gateway = psutil.Process(mesh.processes["gateway"].process.pid)
            async with VoiceMesh(mesh.address("gateway"), api_key=keys["caller"]) as client:
                await _turns(client, options.turns)  # warm
                wrong = 0
                for attack in options.attacks:
                    wrong += await _phase(mesh, client, gateway, attack, options, folder)
    return 1 if wrong else 0


async def _phase(
    mesh: Mesh,
    client: VoiceMesh,
    gateway: psutil.Process,
    attack: str,
    options: argparse.Namespace,
    folder: str,
) -> int:
    calm, calm_cpu = await _watched(mesh, client, options.turns)
    before = _held(gateway)
    engines_s = await _spoken_s(mesh)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.abuse", "--attack", attack, "--folder", folder,
        "--connections", str(options.connections), "--streams", str(options.streams),
        "--rate", str(options.rate),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readline()
    during, during_cpu = await _watched(mesh, client, options.turns)
    most = _held(gateway)
    process.stdin.close()
    told = (await process.stdout.read()).decode().strip()
    await process.wait()
    after = await _settled(gateway, before)
    spoken_s = await _spoken_s(mesh) - engines_s
    ratio = _p95(during) / _p95(calm)
    print(f"{attack}: {_WHAT[attack]}; {told}")
    print(f"  p95 {_p95(calm):.1f} ms calm, {_p95(during):.1f} ms attacked: {ratio:.2f} times")
    print(f"  median {statistics.median(calm):.1f} ms calm, {statistics.median(during):.1f} ms attacked")
    print(f"  audio that engines made meanwhile: {spoken_s:.0f} s")
    for name, cores in during_cpu.items():
        print(f"  cores, {name}: {calm_cpu[name]:.2f} calm, {cores:.2f} attacked")
    for what, place in (("memory, MB", 0), ("descriptors", 1), ("threads", 2)):
        print(f"  {what}: {before[place]:.0f} before, {most[place]:.0f} attacked, {after[place]:.0f} after")
    return int(mesh.processes["gateway"].process.returncode is not None)


async def _watched(mesh: Mesh, client: VoiceMesh, turns: int) -> tuple[list[float], dict[str, float]]:
    """Speak so many texts; return each one's time, and how many cores each service took meanwhile."""
    began, before = time.monotonic(), _cpu_s(mesh)
    times = await _turns(client, turns)
    took_s = time.monotonic() - began
    return times, {name: (used_s - before[name]) / took_s for name, used_s in _cpu_s(mesh).items()}


def _cpu_s(mesh: Mesh) -> dict[str, float]:
    """Return the processor time of each service, with its workers."""
    used = {}
    for name, service in mesh.processes.items():
        main = psutil.Process(service.process.pid)
        every = [main, *main.children(recursive=True)]
        used[name] = sum(sum(process.cpu_times()[:2]) for process in every)
    return used


async def _spoken_s(mesh: Mesh) -> float:
    """Return how many seconds of audio engines have made so far."""
    async with grpc.aio.insecure_channel(mesh.address("tts")) as channel:
        stub: Any = TtsServiceStub(channel)
        stats = await stub.GetPoolStats(tts_pb2.GetPoolStatsRequest())
    return float(sum(pool.audio_us for pool in stats.pools) / 1e6)


async def _turns(client: VoiceMesh, turns: int) -> list[float]:
    """Speak so many texts, two at a time; return each one's time to first audio, in ms."""
    places = asyncio.Semaphore(2)

    async def one(number: int) -> float:
        async with places:
            began = time.monotonic()
            turn = client.say(f"Turn {number} at {began}.", speech=SpeechOptions(cache=False, max_lead_ms=0))
            await turn.collect()
            assert turn.report is not None
            assert turn.report.ttfa_ms is not None
            return turn.report.ttfa_ms

    return await asyncio.gather(*(one(number) for number in range(turns)))


def _held(process: psutil.Process) -> tuple[float, int, int]:
    return process.memory_info().rss / 1e6, process.num_fds(), process.num_threads()


async def _settled(process: psutil.Process, before: tuple[float, int, int]) -> tuple[float, int, int]:
    """Return what is held once descriptors are as they were, or do not become fewer for long."""
    until = time.monotonic() + _SETTLE_S
    while (held := _held(process))[1] > before[1] and time.monotonic() < until:  # noqa: ASYNC110 - of another process
        await asyncio.sleep(0.2)
    return held


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


# ---------------------------------------------------------------- attacking


def _step_back() -> None:
    """Take the processor only when nobody else wants it."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


async def _attack(options: argparse.Namespace) -> None:
    folder = pathlib.Path((options.folder / "mesh").read_text())
    key = (options.folder / "attacker").read_text()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(0, ended.set)
    match options.attack:
        case "idle":
            await _idle(folder, options.connections, ended)
        case "slow":
            await _slow(folder, key, ended)
        case "streams":
            await _flood(options, folder, key, ended, drop=True)
        case "keys":
            await _flood(options, folder, keyfile.new_key("caller"), ended, drop=False)
    loop.remove_reader(0)


async def _idle(folder: pathlib.Path, connections: int, ended: asyncio.Event) -> None:
    pairs = []
    for number in range(connections):
        path = folder / ("gateway.sock", "http.sock")[number % 2]
        pairs.append(await asyncio.open_unix_connection(path))
    _ready()
    await ended.wait()
    closed = sum(reader.at_eof() for reader, _ in pairs)
    print(f"{connections} connections, of which the gateway had ended {closed}")
    for _, writer in pairs:
        writer.close()


async def _slow(folder: pathlib.Path, key: str, ended: asyncio.Event) -> None:
    shown = (("authorization", f"Bearer {key}"),)
    async with contextlib.AsyncExitStack() as stack:
        calls, writers = [], []
        for _ in range(_SLOW):
            channel = await stack.enter_async_context(_channel(folder))
            stub: Any = GatewayServiceStub(channel)
            call = stub.Speak(
                pb.SpeakRequest(text=_LONG, speech=pb.SpeechOptions(max_lead_ms=0)), metadata=shown
            )
            await call.read()
            calls.append(call)
            reader, writer = await asyncio.open_unix_connection(folder / "http.sock", limit=1)
            body = json.dumps({"input": _LONG[:4000], "response_format": "pcm"})
            writer.write(
                f"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            writers.append((reader, writer))
        _ready()
        await ended.wait()
        cut = sum(call.done() for call in calls)
        print(f"{2 * _SLOW} readers; of {_SLOW} over gRPC the gateway had ended {cut}")
        for call in calls:
            call.cancel()
        for _, writer in writers:
            writer.transport.abort()


async def _flood(
    options: argparse.Namespace, folder: pathlib.Path, key: str, ended: asyncio.Event, *, drop: bool
) -> None:
    """Open streams and drop them, or wait for their refusal."""
    streams, rate = options.streams, options.rate
    codes: dict[str, int] = {}
    done = 0
    async with _channel(folder) as channel:
        stub: Any = GatewayServiceStub(channel)
        began = time.monotonic()
        _ready()
        while done < streams and not ended.is_set():
            call = stub.Converse(metadata=(("authorization", f"Bearer {key}"),))
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await call.write(pb.ConverseRequest(configure=pb.Configure()))
            if drop:
                call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                name = (await call.code()).name
                codes[name] = codes.get(name, 0) + 1
            done += 1
            await asyncio.sleep(max(0.0, began + done / rate - time.monotonic()))
        took_s = time.monotonic() - began
    reached = done / took_s
    short = "" if reached >= _REACHED * rate else f" - TOO SLOW: {rate:.0f} were wished for"
    print(f"{done} streams in {took_s:.1f} s, {reached:.0f} a second{short}: {codes}")


@contextlib.asynccontextmanager
async def _channel(folder: pathlib.Path) -> AsyncIterator[grpc.aio.Channel]:
    own = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"unix:{folder}/gateway.sock", options=own) as channel:
        yield channel


def _ready() -> None:
    print("ready", flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
