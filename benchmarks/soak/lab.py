"""What is soaked: two processes of each service, a Redis, a provider and its stand-in. All of it breaks."""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import psutil

from benchmarks.soak.load import VOICES, answer
from benchmarks.tts_endurance import EOF, service
from tests.support.mesh import Mesh, running_mesh_with
from tests.support.openai_server import OpenAiServer, Reply, Request
from tests.support.redis_server import RedisServer, redis_server
from voicemesh.cache.v1 import cache_pb2
from voicemesh.cache.v1.cache_pb2_grpc import CacheServiceStub
from voicemesh.runtime.channels import open_channel
from voicemesh.tts.v1 import tts_pb2
from voicemesh.tts.v1.tts_pb2_grpc import TtsServiceStub

BEHIND: Final = ("llm", "chunker", "tts", "cache")
GATEWAYS: Final = ("gateway", "gateway-b")
REPLICATED: Final = tuple(f"{name}{suffix}" for name in BEHIND for suffix in ("", "-b"))
_IDLE_S: Final = 30.0
_VOICES: Final[list[dict[str, Any]]] = [
    {"name": "espeak", "engine": "espeak", "replicas": 2},
    {"name": "quick", "engine": "simulated", "replicas": 2, "options": {"first_frame_ms": 20, "rtf": 0.02}},
]
assert tuple(voice["name"] for voice in _VOICES) == VOICES


class Lab:
    """The parts, and how each is broken and mended.

    Args:
        mesh: The processes.
        redis: Behind the caches.
        provider: The first one that the LLM services ask.
        draw: Picks among engines.

    """

    def __init__(self, mesh: Mesh, redis: RedisServer, provider: OpenAiServer, draw: random.Random) -> None:
        self.mesh = mesh
        self.deaths: list[str] = []
        """Processes that did not end as they should."""
        self.lines: list[tuple[str, str]] = []
        """What processes wrote that are gone, by name."""
        self._redis = redis
        self._provider = provider
        self._draw = draw

    # ------------------------------------------------------------ processes

    async def kill(self, name: str, away_s: float) -> None:
        """Kill a process, and start it again after a while."""
        await self.mesh.processes[name].kill()
        await asyncio.sleep(away_s)
        await self._start(name)

    async def pause(self, name: str, stopped_s: float) -> None:
        """Stop a process with SIGSTOP for a while."""
        await self._paused(self.mesh.processes[name].process.pid, stopped_s)
        await self.mesh.wait_serving(name)

    async def restart(self, name: str) -> None:
        """Ask a process to end, as a rollout does, and start it again."""
        status = await self.mesh.processes[name].stop()
        if status:
            self.deaths.append(f"{name} ended with status {status} when it was asked to stop")
        await self._start(name)

    async def _start(self, name: str) -> None:
        self.lines += ((name, line) for line in self.mesh.processes[name].lines)
        await self.mesh.start(name)

    async def kill_engine(self) -> None:
        """Kill a worker process of an engine; the service replaces it."""
        if (worker := self._worker()) is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()

    async def pause_engine(self, stopped_s: float) -> None:
        """Stop a worker process; the service may have replaced it before it goes on."""
        if (worker := self._worker()) is not None:
            await self._paused(worker.pid, stopped_s)

    def _worker(self) -> psutil.Process | None:
        found = [
            child
            for name in ("tts", "tts-b")
            for child in psutil.Process(self.mesh.processes[name].process.pid).children()
        ]
        return self._draw.choice(found) if found else None

    @staticmethod
    async def _paused(pid: int, stopped_s: float) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(stopped_s)
            finally:
                os.kill(pid, signal.SIGCONT)

    # ------------------------------------------------------------ what is behind the mesh

    async def kill_redis(self, away_s: float) -> None:
        """Kill Redis, and start it again, empty, after a while."""
        await self._redis.kill()
        await asyncio.sleep(away_s)
        await self._redis.start()

    async def pause_redis(self, stopped_s: float) -> None:
        """Stop Redis for a while."""
        self._redis.pause()
        try:
            await asyncio.sleep(stopped_s)
        finally:
            self._redis.resume()

    async def spoil_provider(self, reply: Reply, spoilt_s: float) -> None:
        """Have the first provider answer like that for a while."""
        self._provider.default = lambda request: _spoilt(reply, request)
        try:
            await asyncio.sleep(spoilt_s)
        finally:
            self._provider.default = answer

    # ------------------------------------------------------------ what is looked at

    def processes(self) -> dict[str, psutil.Process]:
        """Return the processes that run, and the workers of each, by name and process id."""
        found = {}
        for name, process in self.mesh.processes.items():
            if process.process.returncode is not None:
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                parent = psutil.Process(process.process.pid)
                found[f"{name} {parent.pid}"] = parent
                found |= {f"{name} worker {child.pid}": child for child in parent.children()}
        return found

    def log(self) -> list[tuple[str, str]]:
        """Return every line that a process wrote, and its name."""
        now = [(name, line) for name, process in self.mesh.processes.items() for line in process.lines]
        return [*self.lines, *now]

    async def left(self) -> list[str]:
        """Return what is held, in words, once nothing should be: leases and chunks in queues."""
        looks = {
            **{name: partial(self._pool, name) for name in ("tts", "tts-b")},
            **{name: partial(self._leases, name) for name in ("cache", "cache-b")},
        }
        return [f"{name}: {held}" for name, look in looks.items() if (held := await _until_nothing(look))]

    async def _pool(self, name: str) -> str:
        async with open_channel(self.mesh.address(name)) as channel:
            stats = await TtsServiceStub(channel).GetPoolStats(tts_pb2.GetPoolStatsRequest())
        leases = sum(pool.active_leases for pool in stats.pools)
        queued = sum(pool.queued_chunks for pool in stats.pools)
        return f"{leases} leases of replicas, {queued} chunks in queues" if leases or queued else ""

    async def _leases(self, name: str) -> str:
        async with open_channel(self.mesh.address(name)) as channel:
            stats = await CacheServiceStub(channel).GetStats(cache_pb2.GetStatsRequest())
        return f"{stats.active_leases} leases of syntheses" if stats.active_leases else ""


def _spoilt(reply: Reply, request: Request) -> Reply:
    if reply.cut_after is None:
        return reply
    whole = answer(request)
    return Reply(tokens=whole.tokens, ttft_s=whole.ttft_s, token_interval_s=0.002, cut_after=reply.cut_after)


async def _until_nothing(look: Callable[[], Awaitable[str]]) -> str:
    """Return what is held still after a while; "" once nothing is."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _IDLE_S
    while (held := await look()) and loop.time() < until_s:  # noqa: ASYNC110 - another process's figures
        await asyncio.sleep(0.2)
    return held


class References:
    """The audio of texts as a TTS service speaks them that nothing disturbs, by voice and text."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._known: dict[tuple[str, str], bytes] = {}
        self._most = 5_000

    async def of(self, voice: str, texts: Sequence[str]) -> dict[str, bytes]:
        """Return the audio of some texts."""
        missing = [text for text in dict.fromkeys(texts) if (voice, text) not in self._known]
        if len(self._known) > self._most:
            self._known.clear()
            missing = list(dict.fromkeys(texts))
        if missing:
            await self._speak(voice, missing)
        return {text: self._known[voice, text] for text in texts}

    async def _speak(self, voice: str, texts: Sequence[str]) -> None:
        call = self._stub.Synthesize(timeout=60)
        await call.write(
            tts_pb2.SynthesizeRequest(configure=tts_pb2.SynthesizeConfigure(turn_id="r", voice=voice))
        )
        for index, text in enumerate(texts):
            chunk = tts_pb2.SynthesizeChunk(chunk_index=index, text=text)
            await call.write(tts_pb2.SynthesizeRequest(chunk=chunk))
        await call.done_writing()
        audio = [bytearray() for _ in texts]
        while (response := await call.read()) is not EOF:
            match response.WhichOneof("event"):
                case "frame":
                    audio[response.frame.frame.chunk_index] += response.frame.frame.audio
                case "failed":
                    raise RuntimeError(f"the reference cannot be spoken: {response.failed.status.message}")
        for text, spoken in zip(texts, audio, strict=True):
            self._known[voice, text] = bytes(spoken)


@contextlib.asynccontextmanager
async def running_lab(draw: random.Random) -> AsyncIterator[tuple[Lab, References]]:
    """Run everything, and beside it the TTS service that speaks the references."""
    async with (
        OpenAiServer(default=answer) as provider,
        OpenAiServer(default=answer) as stand_in,
        redis_server() as redis,
        service(_VOICES) as (stub, _),
        running_mesh_with(
            {
                "VOICEMESH_LLM_PROVIDERS": json.dumps(
                    [_provider("first", provider), _provider("second", stand_in)]
                ),
                "VOICEMESH_TTS_VOICES": json.dumps(_VOICES),
                "VOICEMESH_REDIS_URL": redis.url,
                "VOICEMESH_LOG_LEVEL": "warning",
                # What is kept on purpose is full within minutes: what grows behind that is a leak.
                "VOICEMESH_CACHE_MEMORY_BYTES": "16000000",
                "VOICEMESH_GATEWAY_REMEMBERED_TURNS": "50",
            },
            replicas=(*(f"{name}-b" for name in BEHIND), "gateway-b"),
        ) as mesh,
    ):
        yield Lab(mesh, redis, provider, draw), References(stub)


def _provider(name: str, server: OpenAiServer) -> dict[str, Any]:
    return {"name": name, "base_url": server.base_url, "model": "m", "first_token_timeout_s": 2.0}
