"""A thousand that miss the same audio at once: how many compute it, and when the last one hears it.

    .venv/bin/python -m benchmarks.leases [--misses 1000] [--streams 50] [--clients 2] [--runs 5]

Cache services are processes with one real Redis; callers are processes too, each with its own streams.
All ask at once for audio that is nowhere. Whoever is granted the lease appends the first frame of 20 ms
when everybody has an answer, then one every 20 ms, then seals. Measured from that first `append`, as it
leaves its caller, to the first audio that each follower's caller has read; clocks are one, since it is
one machine. With `--early-ms N` the first frame comes N ms after the grant instead, whoever has
an answer by then, and later ones are measured from their own asking.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from tests.support.redis_server import RedisServer, redis_server
from voicemesh.cache.v1 import cache_pb2, cache_pb2_grpc
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.channels import open_channel

FRAME_MS: Final = 20
FRAMES: Final = 10
RATE_HZ: Final = 24_000
FORMAT: Final = common_pb2.AudioFormat(
    encoding=common_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=RATE_HZ, channels=1
)
READY_S: Final = 60.0


def _key(text: str) -> cache_pb2.CacheKey:
    return cache_pb2.CacheKey(
        audio=cache_pb2.AudioKey(
            engine="none",
            model_revision="1",
            voice="none",
            language="en",
            speed_permille=1000,
            format=FORMAT,
            text=text,
        )
    )


class Caller:
    """The streams of one process, and what came of its requests."""

    def __init__(self) -> None:
        self.answered = 0
        self.everybody = asyncio.Event()
        self.granted = 0
        self.appended_ns = 0
        self.first_ns: list[int] = []
        self.audio: list[int] = []
        """Bytes that each follower heard, once sealed."""

    async def stream(self, stub: Any, text: str, requests: int, early_ms: int) -> None:
        """Send `requests` misses on one stream, and read until each is sealed."""
        call = stub.Exchange()
        get = cache_pb2.Get(key=_key(text), on_miss=cache_pb2.Get.ON_MISS_LEASE_OR_FOLLOW)
        heard = dict.fromkeys(range(1, requests + 1), 0)
        for request_id in heard:
            await call.write(cache_pb2.ExchangeRequest(request_id=request_id, get=get))
        left = set(heard)
        leading: asyncio.Task[None] | None = None
        while left:
            answer = await call.read()
            result = answer.WhichOneof("result")
            if result in ("granted", "following", "hit"):
                self._answered()
            audio = answer.part if result == "part" else answer.following.so_far
            if audio.audio:
                if not heard[answer.request_id]:
                    self.first_ns.append(time.monotonic_ns())
                heard[answer.request_id] += len(audio.audio)
            if result == "granted":
                self.granted += 1
                left.discard(answer.request_id)
                leading = asyncio.create_task(self._lead(call, answer.granted.lease_id, requests, early_ms))
            elif result in ("sealed", "hit", "error"):
                self.audio.append(heard[answer.request_id])
                left.discard(answer.request_id)
        if leading is not None:
            await leading
        await call.done_writing()
        while await call.read():
            pass

    def _answered(self) -> None:
        self.answered += 1
        print(json.dumps({"answered": self.answered}), flush=True)

    async def _lead(self, call: Any, lease_id: str, last_id: int, early_ms: int) -> None:
        if early_ms:
            await asyncio.sleep(early_ms / 1000)
        else:
            await self.everybody.wait()
        part = cache_pb2.AudioValue(format=FORMAT, audio=bytes(2 * RATE_HZ * FRAME_MS // 1000))
        began_s = time.monotonic()
        for frame in range(FRAMES):
            await asyncio.sleep(max(0.0, began_s + frame * FRAME_MS / 1000 - time.monotonic()))
            last_id += 1
            self.appended_ns = self.appended_ns or time.monotonic_ns()
            append = cache_pb2.Append(lease_id=lease_id, part=part)
            await call.write(cache_pb2.ExchangeRequest(request_id=last_id, append=append))
        seal = cache_pb2.Seal(lease_id=lease_id)
        await call.write(cache_pb2.ExchangeRequest(request_id=last_id + 1, seal=seal))


async def call(arguments: argparse.Namespace) -> None:
    """Be one process of callers: each line of standard input is a text to ask for, or `everybody`."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(open_channel(each)) for each in arguments.call]
        for channel in channels:
            await channel.channel_ready()
        stubs = [cache_pb2_grpc.CacheServiceStub(channel) for channel in channels]
        print(json.dumps({"ready": True}), flush=True)
        while text := (await reader.readline()).decode().strip():
            caller = Caller()
            asked_ns = time.monotonic_ns()
            streams = [
                asyncio.create_task(
                    caller.stream(
                        stubs[number % len(stubs)],
                        text,
                        arguments.misses // arguments.streams,
                        arguments.early_ms,
                    )
                )
                for number in range(arguments.streams)
            ]
            if not arguments.early_ms:
                await reader.readline()
                caller.everybody.set()
            await asyncio.gather(*streams)
            done = {
                "granted": caller.granted,
                "appended_ns": caller.appended_ns,
                "asked_ns": asked_ns,
                "first_ns": caller.first_ns,
                "audio": caller.audio,
            }
            print(json.dumps({"done": done}), flush=True)


@contextlib.asynccontextmanager
async def process(*command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process of ours, and end it."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command),
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=16 * 1024 * 1024,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def line(running: asyncio.subprocess.Process) -> dict[str, Any]:
    """Return the next line that a process of callers prints."""
    assert running.stdout is not None
    async with asyncio.timeout(READY_S):
        text = await running.stdout.readline()
    if not text:
        raise RuntimeError("a process of callers ended")
    parsed: dict[str, Any] = json.loads(text)
    return parsed


async def say(callers: list[asyncio.subprocess.Process], text: str) -> None:
    """Give each process of callers a line."""
    for caller in callers:
        assert caller.stdin is not None
        caller.stdin.write(f"{text}\n".encode())
    for caller in callers:
        assert caller.stdin is not None
        await caller.stdin.drain()


async def miss(
    callers: list[asyncio.subprocess.Process], text: str, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Let all miss `text` at once; return what came of it at each process of callers."""
    await say(callers, text)
    share = arguments.misses // arguments.clients // arguments.streams * arguments.streams

    async def answers(caller: asyncio.subprocess.Process) -> None:
        while (await line(caller)).get("answered") != share:
            pass

    await asyncio.gather(*map(answers, callers))
    if not arguments.early_ms:
        await say(callers, "everybody")
    return [(await line(caller))["done"] for caller in callers]


async def listening(redis: RedisServer, replicas: int) -> None:
    """Wait until every replica hears of the others' leases."""
    async with asyncio.timeout(READY_S), redis.client() as client:
        while len(await client.pubsub_channels("voicemesh:lease-mail:*")) < replicas:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


async def measure(replicas: int, arguments: argparse.Namespace) -> None:
    """Run all, and print a line."""
    async with contextlib.AsyncExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = await stack.enter_async_context(redis_server())
        addresses = [f"unix:{folder}/cache-{number}" for number in range(replicas)]
        for address in addresses:
            environment = {"VOICEMESH_CACHE_LISTEN": address, "VOICEMESH_REDIS_URL": redis.url}
            await stack.enter_async_context(process("services.cache", **environment))
        callers = []
        for _ in range(arguments.clients):
            options = {
                "--misses": arguments.misses // arguments.clients,
                "--streams": arguments.streams,
                "--early-ms": arguments.early_ms,
            }
            flat = [str(word) for option in options.items() for word in option]
            command = ("benchmarks.leases", *flat, "--call", *addresses)
            callers.append(await stack.enter_async_context(process(*command)))
        for caller in callers:
            await line(caller)
        await listening(redis, replicas)
        granted, lasts, medians, wrong = [], [], [], 0
        whole = 2 * RATE_HZ * FRAME_MS // 1000 * FRAMES
        for run in range(arguments.runs + 1):
            results = await miss(callers, f"text {run}", arguments)
            began_ns = max(result["appended_ns"] for result in results)
            took = [(first - began_ns) / 1e6 for result in results for first in result["first_ns"]]
            wrong += sum(size != whole for result in results for size in result["audio"])
            if run:  # the first one is for warming up
                granted.append(sum(result["granted"] for result in results))
                lasts.append(max(took))
                medians.append(statistics.median(took))
        print(
            f"| {replicas} | {len(took) + 1} | {max(granted)} | {statistics.median(medians):.1f} "
            f"| {statistics.median(lasts):.1f} | {max(lasts):.1f} | {wrong} |",
            flush=True,
        )


async def main() -> None:
    """Measure one replica and two, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--misses", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=25, help="of each process of callers")
    parser.add_argument("--clients", type=int, default=2, help="processes of callers")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--early-ms", type=int, default=0)
    parser.add_argument("--call", nargs="*", help="be a process of callers of these addresses")
    arguments = parser.parse_args()
    if arguments.call:
        await call(arguments)
        return
    print("| replicas | misses | granted | median follower, ms | last, ms | worst run, ms | not whole |")
    print("|---|---|---|---|---|---|---|")
    for replicas in (1, 2):
        await measure(replicas, arguments)


if __name__ == "__main__":
    asyncio.run(main())
