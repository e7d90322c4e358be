"""A real mesh that is fuzzed: what it must still do in between, and what it may not have used up."""

import asyncio
import contextlib
import json
import random
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import psutil

from tests.fuzz import http
from tests.fuzz.calls import Tally, perform
from tests.fuzz.grammars import GRAMMARS, MOST_CHARS, VOICE, VOICES
from tests.fuzz.plans import Plan
from tests.support.mesh import Mesh, MeshProcess, running_mesh
from voicemesh.cache.v1 import cache_pb2, cache_pb2_grpc
from voicemesh.chunker.v1 import chunker_pb2, chunker_pb2_grpc
from voicemesh.client import SpeechOptions, VoiceMesh, VoiceMeshError
from voicemesh.common.v1 import common_pb2
from voicemesh.llm.v1 import llm_pb2, llm_pb2_grpc
from voicemesh.runtime.channels import open_channel
from voicemesh.tts.v1 import tts_pb2, tts_pb2_grpc

_GUARD_S: Final = 60.0
_QUIET_S: Final = 30.0
"""How long work that nobody waits for any more may take to end."""
HTTP: Final = "http"
"""The gateway again, by its other door."""
SERVICES: Final = (*GRAMMARS, HTTP)
CHANNELS: Final = 4
NOISE_EVERY: Final = 40
"""One connection of bytes that are no HTTP/2 for so many calls."""
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS: Final = {
    "VOICEMESH_TTS_VOICES": VOICES,
    "VOICEMESH_REHEARSAL_TTFT_MS": "0",
    "VOICEMESH_REHEARSAL_TOKENS_PER_S": "1000000",
    # What is bounded reaches its bound soon, so that what grows behind that is a leak.
    "VOICEMESH_CACHE_MEMORY_BYTES": str(4 * 2**20),
    "VOICEMESH_GATEWAY_REMEMBERED_TURNS": "100",
    "VOICEMESH_GATEWAY_REMEMBERED_BYTES": "500000",
    # Half a text, a draft that nobody confirms: what ends by time ends within that of a call.
    "VOICEMESH_GATEWAY_TEXT_IDLE_S": "2",
    "VOICEMESH_GATEWAY_DRAFT_S": "2",
    # What is paced by who listens: a text at whose end a call's deadline has passed is no call that hangs.
    "VOICEMESH_GATEWAY_MAX_TEXT_CHARS": str(MOST_CHARS),
    "VOICEMESH_GATEWAY_MAX_TURNS": "100000",
    # A service that gets no turn on a busy machine is not away: that would be told to all who ask.
    "VOICEMESH_GATEWAY_PEER_PING_TIMEOUT_MS": "20000",
    "VOICEMESH_GATEWAY_CALLER_STREAMS_PER_S": "0",
}


@dataclass(frozen=True)
class Used:
    """What a process holds while nobody asks it anything."""

    messages: int
    """Sent to it so far."""
    resident_bytes: int
    descriptors: int
    threads: int
    children: int


@dataclass
class Round:
    """What was found about one service."""

    service: str
    seed: str
    tally: Tally = field(default_factory=Tally)
    faults: list[str] = field(default_factory=list)
    used: list[Used] = field(default_factory=list)
    noises: int = 0

    @property
    def all_faults(self) -> list[str]:
        """What was wrong, calls and process together."""
        return self.tally.faults + self.faults

    def bytes_a_message(self) -> float:
        """Return how fast the memory grew behind the first third: the median of the slopes of all pairs."""
        late = self.used[len(self.used) // 3 :]
        slopes = [
            (second.resident_bytes - first.resident_bytes) / (second.messages - first.messages)
            for place, first in enumerate(late)
            for second in late[place + 1 :]
            if second.messages > first.messages
        ]
        return statistics.median(slopes) if slopes else 0.0


class Lab:
    """A mesh, and how its services are fuzzed.

    Args:
        mesh: It runs.

    """

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self._reference: dict[str, Any] = {}

    def plan(self, service: str, seed: str, number: int) -> Plan | http.Requests:
        """Return the call of that number, the same one for a seed whatever came before it."""
        rng = random.Random(f"{seed} {service} {number}")
        return http.requests_of(rng) if service == HTTP else GRAMMARS[service].plan(rng)

    async def perform(self, channel: Any, plan: Plan | http.Requests, tally: Tally, name: str) -> None:
        """Make a call; what was wrong is in the tally."""
        if isinstance(plan, http.Requests):
            await http.perform(self._http_path, plan, tally, name)
        else:
            await perform(channel, plan, tally, name)

    @property
    def _http_path(self) -> str:
        return f"{self.mesh.folder}/http.sock"

    async def fuzz(
        self,
        service: str,
        seed: str,
        messages: int,
        *,
        at_once: int = 16,
        batch: int = 2_000,
        told: Callable[[Round], None] = lambda _: None,
    ) -> Round:
        """Send a service so many messages; look at it before, behind each batch, and at the end."""
        found = Round(service, seed)
        await self.check(service, found)
        next_number = 0

        async def work(channel: Any, until: int) -> None:
            nonlocal next_number
            while found.tally.messages < until:
                number, next_number = next_number, next_number + 1
                if number % NOISE_EVERY == 0 and service != HTTP:
                    found.noises += 1
                    await self._noise(service, f"{seed} {service} {number}")
                plan = self.plan(service, seed, number)
                await self.perform(channel, plan, found.tally, f"{service} {number}")

        while found.tally.messages < messages:
            until = min(messages, found.tally.messages + batch)
            async with contextlib.AsyncExitStack() as stack:
                # As many callers come and go: what is held for a connection has to go with it.
                channels = [
                    await stack.enter_async_context(open_channel(self.mesh.address(process_of(service))))
                    for _ in range(CHANNELS)
                ]
                await asyncio.gather(*(work(channels[place % CHANNELS], until) for place in range(at_once)))
            await self.check(service, found)
            told(found)
            if len(found.all_faults) > 200:
                break
        return found

    async def _noise(self, service: str, seed: str) -> None:
        """Open a connection and send what is no HTTP/2, or begins like it."""
        rng = random.Random(seed)
        path = self.mesh.address(service).removeprefix("unix:")
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                frames = b"".join(
                    rng.randrange(40).to_bytes(3, "big") + bytes((rng.randrange(12), rng.randrange(256)))
                    + rng.randrange(8).to_bytes(4, "big") + rng.randbytes(rng.randrange(40))
                    for _ in range(rng.randrange(20))
                )  # fmt: skip
                writer.write(rng.choice((b"", _PREFACE, _PREFACE, b"GET / HTTP/1.1\r\n\r\n")) + frames)
                await writer.drain()
                if rng.random() < 0.5:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(1000), 0.05)
            finally:
                writer.transport.abort()

    # ------------------------------------------------------------ what must hold

    async def check(self, service: str, found: Round) -> None:
        """Look whether a service lives, does its work, and gave back what it took."""
        name = process_of(service)
        process = self.mesh.processes[name]
        if process.process.returncode is not None:
            found.faults.append(f"{service} ended with {process.process.returncode}: {process.lines[-5:]}")
            raise AssertionError("\n".join(found.all_faults))
        try:
            async with asyncio.timeout(_GUARD_S):
                await self.mesh.wait_serving(name)
                answer = await self._canary(service)
        except (TimeoutError, AssertionError, VoiceMeshError, grpc.aio.AioRpcError) as error:
            found.faults.append(f"{service} does not do its work any more: {error!r}")
        else:
            first = self._reference.setdefault(service, answer)
            if answer != first:
                found.faults.append(f"{service} answers otherwise than at first: {otherwise(answer, first)}")
        for each in self.mesh.processes.values():
            found.faults += complaints_of(each)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_QUIET_S):
                while await self._at_work(service):  # noqa: ASYNC110 - another process sets no event here
                    await asyncio.sleep(0.02)
        if at_work := await self._at_work(service):
            found.faults.append(f"{service} is still at work: {at_work}")
        found.used.append(_used(process, found.tally.messages))

    async def _canary(self, service: str) -> Any:
        address = f"unix:{self._http_path}" if service == HTTP else self.mesh.address(service)
        return await _CANARIES[service](address)

    async def _at_work(self, service: str) -> str:
        """Return what a service says that it holds; "" where that is nothing."""
        async with open_channel(self.mesh.address(process_of(service))) as channel:
            if service == "tts":
                stats = await tts_pb2_grpc.TtsServiceStub(channel).GetPoolStats(tts_pb2.GetPoolStatsRequest())
                held = [(pool.active_leases, pool.queued_chunks) for pool in stats.pools]
                return str(held) if any(map(any, held)) else ""
            if service == "cache":
                counts = await cache_pb2_grpc.CacheServiceStub(channel).GetStats(cache_pb2.GetStatsRequest())
                return f"{counts.active_leases} leases" if counts.active_leases else ""
        return ""


def otherwise(answer: Any, first: Any) -> str:
    """Return in words how an answer differs from the first one."""
    if isinstance(answer, (tuple, list)) and len(answer) == len(first):
        place = next(place for place, part in enumerate(answer) if part != first[place])
        return f"[{place}] {otherwise(answer[place], first[place])}"
    if isinstance(answer, (str, bytes)):
        pairs = enumerate(zip(answer, first, strict=False))
        at = next((at for at, (one, other) in pairs if one != other), min(len(answer), len(first)))
        shown, was = answer[at : at + 100], first[at : at + 100]
        return f"{len(answer)} long, was {len(first)}; at {at} {shown!r}, was {was!r}"
    return f"{str(answer)[:200]}, was {str(first)[:200]}"


def process_of(service: str) -> str:
    """Return the process that answers for a service."""
    return "gateway" if service == HTTP else service


def _used(process: MeshProcess, messages: int) -> Used:
    known = psutil.Process(process.process.pid)
    with known.oneshot():
        return Used(
            messages, known.memory_info().rss, known.num_fds(), known.num_threads(), len(known.children())
        )


def complaints_of(process: MeshProcess) -> list[str]:
    """Return what a process wrote that nobody may make it write; forget the rest."""
    lines, process.lines[:] = tuple(process.lines), []
    complaints = []
    for line in lines:
        try:
            level = json.loads(line).get("level")
        except ValueError:
            level = "no log"
        if level in ("error", "critical", "no log"):
            complaints.append(f"{process.name} wrote: {line[:3000]}")
    return complaints


# ---------------------------------------------------------------- canaries


async def _chunker(address: str) -> Any:
    async with open_channel(address) as channel:
        configure = chunker_pb2.ChunkConfigure(turn_id="canary")
        requests = [
            chunker_pb2.ChunkRequest(configure=configure),
            chunker_pb2.ChunkRequest(text=chunker_pb2.ChunkText(text="One **thing**. And another one, too.")),
        ]
        call = chunker_pb2_grpc.ChunkerServiceStub(channel).Chunk(iter(requests))
        return [(one.chunk.text, one.done.text_length) async for one in call]


async def _llm(address: str) -> Any:
    async with open_channel(address) as channel:
        message = common_pb2.Message(
            role=common_pb2.ROLE_USER, parts=[common_pb2.ContentPart(text="Where is the harbour?")]
        )
        start = llm_pb2.GenerateStart(turn_id="canary", messages=[message])
        call = llm_pb2_grpc.LlmServiceStub(channel).Generate(iter([llm_pb2.GenerateRequest(start=start)]))
        return "".join([one.delta.text async for one in call])


async def _tts(address: str) -> Any:
    async with open_channel(address) as channel:
        requests = [
            tts_pb2.SynthesizeRequest(configure=tts_pb2.SynthesizeConfigure(turn_id="canary", voice=VOICE)),
            tts_pb2.SynthesizeRequest(chunk=tts_pb2.SynthesizeChunk(text="Say this, please.")),
        ]
        call = tts_pb2_grpc.TtsServiceStub(channel).Synthesize(iter(requests))
        return b"".join([one.frame.frame.audio async for one in call])


async def _cache(address: str) -> Any:
    key = cache_pb2.CacheKey(history=cache_pb2.HistoryKey(session_id="canary"))
    said = common_pb2.Message(role=common_pb2.ROLE_USER, parts=[common_pb2.ContentPart(text="Hello.")])
    value = cache_pb2.CacheValue(history=cache_pb2.HistoryValue(messages=[said]))
    requests = [
        cache_pb2.ExchangeRequest(request_id=1, put=cache_pb2.Put(key=key, value=value)),
        cache_pb2.ExchangeRequest(request_id=2, get=cache_pb2.Get(key=key)),
    ]
    async with open_channel(address) as channel:
        stub, answers = cache_pb2_grpc.CacheServiceStub(channel), []
        for request in requests:  # one behind the other: what is pipelined may overtake
            answers += [one async for one in stub.Exchange(iter([request]))]
        return [one.hit.value.SerializeToString() for one in answers]


async def _gateway(address: str) -> Any:
    async with VoiceMesh(address) as client:
        speech = SpeechOptions(max_lead_ms=0)
        asked = await client.ask("Where is the harbour?", speech=speech).collect()
        said = await client.say("Say this, please.", speech=speech).collect()
        return asked.report.text, asked.report.outcome, said.audio, said.report.outcome


async def _http(address: str) -> Any:
    path, body = address.removeprefix("unix:"), b'{"input": "Say this.", "response_format": "pcm"}'
    request = b"POST /v1/audio/speech HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    head, _, audio = (await http.answer_of(path, (request,))).partition(b"\r\n\r\n")
    return head.partition(b"\r\n")[0], audio


_CANARIES: Final[dict[str, Callable[[str], Awaitable[Any]]]] = {
    "chunker": _chunker,
    "llm": _llm,
    "tts": _tts,
    "cache": _cache,
    "gateway": _gateway,
    HTTP: _http,
}


@contextlib.asynccontextmanager
async def running_lab(**environment: str) -> AsyncIterator[Lab]:
    """Run a mesh to be fuzzed; at its end every process has to end well."""
    async with running_mesh(**{**SETTINGS, **environment}) as mesh:
        yield Lab(mesh)
        statuses = await mesh.stop()
        complaints = [one for process in mesh.processes.values() for one in complaints_of(process)]
        assert not complaints, complaints
        assert set(statuses.values()) == {0}, statuses
