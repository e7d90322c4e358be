"""Whether the TTS service loses or spoils anything while callers cancel and its workers are killed.

    .venv/bin/python -m benchmarks.tts_endurance [--requests 2000] [--kills 20] [--callers 50]
        [--coqui MODEL_FOLDER] [--voices JSON]

Every text is spoken alone first. Then many callers ask for the same texts at once, a third of them
cancel somewhere in the audio, and workers are killed with SIGKILL all along, evenly spread over the
requests. What completes must be bit-identical to its solo run, what was cancelled its beginning. Memory
is that of the service and of its workers, behind the solo runs and at the end.

The voices are espeak-ng and the simulated engines; `--coqui` adds a model of Coqui TTS, for example one
of `benchmarks.random_models`.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import psutil

from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.channels import open_channel
from voicemesh.tts.v1 import tts_pb2, tts_pb2_grpc

EOF: Final[Any] = grpc.aio.EOF  # type: ignore[attr-defined] # missing in the stubs
MB: Final = 2**20
GUARD_S: Final = 120
CANCELLED_SHARE: Final = 1 / 3
VOICES: Final[list[dict[str, Any]]] = [
    {"name": "espeak", "engine": "espeak", "replicas": 2},
    {"name": "sim", "engine": "simulated", "replicas": 2, "options": {"slots": 8, "rtf": 0.02}},
    {"name": "steps", "engine": "simulated-steps", "replicas": 2, "options": {"step_ms": 1, "item_ms": 0.2}},
]
WORDS: Final = [
    "the",
    "a",
    "quick",
    "brown",
    "slow",
    "red",
    "fox",
    "dog",
    "river",
    "house",
    "runs",
    "jumps",
    "sleeps",
    "over",
    "under",
    "near",
    "today",
    "again",
]


class Wanted(NamedTuple):
    """One request that is made again and again."""

    voice: str
    text: str
    speed: float


@dataclass
class Outcome:
    """What became of the requests."""

    completed: int = 0
    cancelled: int = 0
    spoilt: list[str] = field(default_factory=list)
    """Those whose audio differs from their solo run."""
    lost: list[str] = field(default_factory=list)
    """Those that ended in another way than they should."""
    resumed: int = 0
    """Times that a chunk went on in another replica."""
    kills: int = 0


@asynccontextmanager
async def service(voices: list[dict[str, Any]], **settings: str) -> AsyncIterator[tuple[Any, psutil.Process]]:
    """Run the TTS service; yield its stub and its process."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{folder}/tts.sock"
        environment = {
            "VOICEMESH_TTS_LISTEN": address,
            "VOICEMESH_TTS_VOICES": json.dumps(voices),
            "VOICEMESH_TTS_MAX_ATTEMPTS": "10",
            "VOICEMESH_TTS_MAX_QUEUED_CHUNKS": "10000",
            "VOICEMESH_TTS_MAX_LATENESS_MS": "0",  # what waits long is no loss here
            "VOICEMESH_LOG_LEVEL": "error",
            **settings,
        }
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.tts", env={**os.environ, **environment}
        )
        channel = open_channel(address)
        try:
            stub: Any = tts_pb2_grpc.TtsServiceStub(channel)
            async with asyncio.timeout(GUARD_S):
                while not await ready(stub, len(voices)):  # noqa: ASYNC110 - another process sets no event here
                    await asyncio.sleep(0.05)
            yield stub, psutil.Process(child.pid)
        finally:
            await channel.close(None)
            child.terminate()
            await child.wait()


async def ready(stub: Any, voices: int) -> bool:
    """Return whether every replica of every voice is warm."""
    try:
        stats = await stub.GetPoolStats(tts_pb2.GetPoolStatsRequest(), wait_for_ready=True, timeout=GUARD_S)
    except grpc.aio.AioRpcError:
        return False
    return len(stats.pools) == voices and all(
        pool.state == common_pb2.VOICE_STATE_READY and pool.ready_replicas == pool.declared_replicas
        for pool in stats.pools
    )


async def speak(stub: Any, wanted: Wanted, cancel_after: int | None = None) -> tuple[bytes, Any]:
    """Ask for a text; return its audio and its end. Cancel behind so many frames, where that is said."""
    call = stub.Synthesize(timeout=GUARD_S)
    configure = tts_pb2.SynthesizeConfigure(turn_id="t", voice=wanted.voice, speed=wanted.speed)
    await call.write(tts_pb2.SynthesizeRequest(configure=configure))
    await call.write(tts_pb2.SynthesizeRequest(chunk=tts_pb2.SynthesizeChunk(text=wanted.text)))
    audio: list[bytes] = []
    end = None
    while end is None and (response := await call.read()) is not EOF:
        if response.WhichOneof("event") == "frame":
            audio.append(response.frame.frame.audio)
            if len(audio) == cancel_after:
                await call.write(tts_pb2.SynthesizeRequest(cancel_chunk=tts_pb2.CancelChunk()))
        elif response.WhichOneof("event") in ("finished", "failed"):
            end = getattr(response, response.WhichOneof("event"))
    await call.done_writing()
    while await call.read() is not EOF:
        pass
    return b"".join(audio), end


def texts(voices: list[dict[str, Any]], count: int, draw: random.Random) -> list[Wanted]:
    """Return so many different requests of every voice."""
    return [
        Wanted(
            voice["name"],
            f"Number {number}: {' '.join(draw.choices(WORDS, k=draw.randint(3, 25)))}.",
            draw.choice((1.0, 1.0, 1.5)),
        )
        for voice in voices
        for number in range(count)
    ]


async def endure(
    stub: Any, solo: dict[Wanted, bytes], requests: int, kills: int, callers: int, draw: random.Random
) -> Outcome:
    """Make the requests; see the module."""
    outcome = Outcome()
    orders = [draw.choice(list(solo)) for _ in range(requests)]
    cancels = [draw.randint(1, 12) if draw.random() < CANCELLED_SHARE else None for _ in range(requests)]
    waiting = list(zip(orders, cancels, strict=True))
    kill_at = [requests * (number + 1) // (kills + 1) for number in range(kills)]

    async def call() -> None:
        while waiting:
            # While one caller kills, others take requests: what was due meanwhile is due now.
            while kill_at and len(waiting) <= kill_at[-1]:
                kill_at.pop()
                while not await kill_one(stub, draw):
                    pass  # it ended just before, and its replacement is on its way
                outcome.kills += 1
                if not waiting:
                    return
            wanted, cancel_after = waiting.pop()
            audio, end = await speak(stub, wanted, cancel_after)
            judge(outcome, wanted, audio, end, solo[wanted])

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(call())
    return outcome


def judge(outcome: Outcome, wanted: Wanted, audio: bytes, end: Any, alone: bytes) -> None:
    """Count a request."""
    if not isinstance(end, tts_pb2.ChunkFinished):
        outcome.lost.append(f"{wanted}: {end}")
        return
    outcome.resumed += end.resumed
    if end.cancelled:
        outcome.cancelled += 1
        if not alone.startswith(audio):
            outcome.spoilt.append(f"cancelled {wanted}")
    else:
        outcome.completed += 1
        if audio != alone:
            outcome.spoilt.append(str(wanted))


async def kill_one(stub: Any, draw: random.Random) -> bool:
    """Kill a worker that has work, else any; return whether one was there."""
    stats = await stub.GetPoolStats(tts_pb2.GetPoolStatsRequest())
    replicas = [replica for pool in stats.pools for replica in pool.replicas if replica.pid]
    busy = [replica for replica in replicas if replica.active_leases]
    if not replicas:
        return False
    try:
        os.kill(draw.choice(busy or replicas).pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def memory_mb(process: psutil.Process) -> tuple[float, dict[int, float]]:
    """Return the resident memory of the service, and of each worker."""
    workers = {child.pid: child.memory_info().rss / MB for child in process.children()}
    return process.memory_info().rss / MB, workers


async def run(options: argparse.Namespace) -> int:
    draw = random.Random(options.seed)
    voices = json.loads(options.voices) if options.voices else list(VOICES)
    if options.coqui:
        model = {"model": str(options.coqui), "device": "cpu", "threads": 1}
        voices.append({"name": "coqui", "engine": "coqui", "replicas": 2, "options": model})
    async with service(voices) as (stub, process):
        solo = {}
        for wanted in texts(voices, options.texts, draw):
            audio, end = await speak(stub, wanted)
            assert isinstance(end, tts_pb2.ChunkFinished), end
            solo[wanted] = audio
        before = memory_mb(process)
        began_s = time.monotonic()
        outcome = await endure(stub, solo, options.requests, options.kills, options.callers, draw)
        took_s = time.monotonic() - began_s
        async with asyncio.timeout(GUARD_S):
            while not await ready(stub, len(voices)):  # noqa: ASYNC110 - another process sets no event here
                await asyncio.sleep(0.1)
        after = memory_mb(process)
        pids = [child.pid for child in process.children()]
        stats = await stub.GetPoolStats(tts_pb2.GetPoolStatsRequest())
    left = [pid for pid in pids if psutil.pid_exists(pid)]
    print(f"voices            {', '.join(voice['name'] for voice in voices)}")
    print(f"requests          {options.requests} in {took_s:.1f} s, {options.callers} callers at once")
    print(f"completed         {outcome.completed}, of them unlike their solo run or lost:")
    print(f"  spoilt          {len(outcome.spoilt)}")
    print(f"  lost            {len(outcome.lost)}")
    print(f"cancelled         {outcome.cancelled}")
    print(f"workers killed    {outcome.kills}, chunks that went on elsewhere {outcome.resumed}")
    print(f"replicas replaced {sum(pool.replaced_replicas for pool in stats.pools)}")
    print(f"service           {before[0]:.1f} MB before, {after[0]:.1f} MB behind")
    for label, workers in (("before", before[1]), ("behind", after[1])):
        print(f"workers, {label}   {' '.join(f'{mb:.0f}' for mb in sorted(workers.values()))} MB")
    print(f"processes left    {len(left)}")
    for problem in (*outcome.spoilt[:5], *outcome.lost[:5]):
        print(problem)
    return 1 if outcome.spoilt or outcome.lost or left else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--callers", type=int, default=50)
    parser.add_argument("--texts", type=int, default=20, help="different texts of each voice")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--coqui", type=Path, help="folder of a model of Coqui TTS")
    parser.add_argument("--voices", help="other declarations, as VOICEMESH_TTS_VOICES has them")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
