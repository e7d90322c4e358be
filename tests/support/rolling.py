"""Callers that never stop asking, and a mesh of two of each whose processes are restarted under them."""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.support.mesh import SERVICES, Mesh, running_mesh_with, service_of
from voicemesh.client import Frame, GenerationOptions, SpeechOptions, VoiceMesh, VoiceMeshError
from voicemesh.client.turn import Turn

REPLICAS: Final = tuple(f"{name}-b" for name in SERVICES)
VOICE: Final = {
    "name": "simulated",
    "engine": "simulated",
    "replicas": 1,
    "options": {"first_frame_ms": 20, "rtf": 0.1, "char_ms": 20, "slots": 64},
}
"""One voice whose audio is a function of its text, with capacity to spare."""
TEXTS: Final = (
    "One process of each goes away. The other one takes what comes. Nobody hears a thing.",
    "This is a rather long sentence that takes its time, so that a good deal can happen. Another follows.",
    "Short and sweet.",
)
PROMPTS: Final = ("Why is the sky blue?", "How do tides work?", "What is a mesh?")
_AGAIN_S: Final = 60.0
"""Ends a run in which a process that came back gets no load."""


@dataclass
class Counts:
    """What became of the turns.

    Attributes:
        turns: Those that ended well, with the audio of their reference.
        failed: Why others failed.
        different: Those whose audio is another than their reference's, and how.
        longest_gap_s: Longest wait for a frame behind the first of its turn.

    """

    turns: int = 0
    failed: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    longest_gap_s: float = 0.0

    @property
    def bad(self) -> list[str]:
        """Everything that must not be."""
        return self.failed + self.different


class Callers:
    """Asks and says the same things over and over, and compares what comes with what came first.

    A third of them talk, each in a conversation of its own that goes on from turn to turn; the others make a
    call for each turn. Chunks are sentences, so that the time at which text comes has no say in the audio.

    Args:
        client: The mesh.
        cache: Whether audio may come from the cache; leases and followers are then among what is restarted.
        asking: Given, every turn asks the model so, in a call of its own, and is a call of each service.

    """

    def __init__(
        self, client: VoiceMesh, *, cache: bool = True, asking: GenerationOptions | None = None
    ) -> None:
        self.counts = Counts()
        self._asking = asking
        self._client = client
        self._speech = SpeechOptions(policy="sentence", max_lead_ms=0, cache=cache)
        self._references: dict[str, bytes] = {}
        self._stopped = asyncio.Event()

    async def learn(self) -> None:
        """Take the audio of a quiet mesh as the reference."""
        for text in TEXTS:
            turn = self._client.say(text, speech=self._speech)
            self._references[text] = await self._audio(turn)
        for prompt in PROMPTS:
            self._references[prompt] = await self._audio(self._ask(prompt))

    async def run(self, count: int, while_running: Callable[[], Awaitable[None]]) -> Counts:
        """Keep `count` turns running for as long as `while_running` takes; return what became of them."""
        self._stopped.clear()
        callers = [
            asyncio.create_task(self._call(n) if n % 3 or self._asking else self._talk(n), name=f"caller {n}")
            for n in range(count)
        ]
        try:
            await while_running()
        finally:
            self._stopped.set()
            await asyncio.gather(*callers)
        return self.counts

    async def _call(self, number: int) -> None:
        for text, prompt in itertools.cycle(zip(TEXTS, PROMPTS, strict=True)):
            if self._stopped.is_set():
                return
            if number % 2 and not self._asking:
                await self._judge(text, self._client.say(text, speech=self._speech))
            else:
                await self._judge(prompt, self._ask(prompt))

    def _ask(self, prompt: str) -> Turn:
        generation = self._asking or GenerationOptions()
        return self._client.ask(prompt, speech=self._speech, generation=generation, reply_cache=False)

    async def _talk(self, number: int) -> None:
        session = f"caller-{number}"
        async with self._client.converse(
            session_id=session, speech=self._speech, reply_cache=False
        ) as conversation:
            for text in itertools.cycle(TEXTS):
                if self._stopped.is_set():
                    return
                try:
                    turn = await conversation.say(text)
                except VoiceMeshError as error:
                    self.counts.failed.append(f"conversation: {error}")
                    return
                await self._judge(text, turn)

    async def _judge(self, key: str, turn: Turn) -> None:
        try:
            audio = await self._audio(turn)
        except VoiceMeshError as error:
            self.counts.failed.append(f"{error}")
            return
        wanted = self._references[key]
        if audio == wanted:
            self.counts.turns += 1
        else:
            pairs = enumerate(zip(audio, wanted, strict=False))
            same = next((at for at, (one, other) in pairs if one != other), min(len(audio), len(wanted)))
            self.counts.different.append(
                f"{key[:20]!r}: {len(audio)} bytes, not {len(wanted)}, the same for {same}"
            )

    async def _audio(self, turn: Turn) -> bytes:
        audio = bytearray()
        last_s = 0.0
        async for event in turn:
            if isinstance(event, Frame):
                now_s = time.monotonic()
                if last_s:
                    self.counts.longest_gap_s = max(self.counts.longest_gap_s, now_s - last_s)
                last_s = now_s
                audio += event.audio
        return bytes(audio)


@contextlib.asynccontextmanager
async def doubled_mesh(**environment: str) -> AsyncIterator[tuple[Mesh, VoiceMesh]]:
    """Run a mesh with two of each process; give it, and a client that knows both gateways."""
    variables = {"VOICEMESH_TTS_VOICES": json.dumps([VOICE]), "VOICEMESH_LOG_LEVEL": "debug", **environment}
    async with running_mesh_with(variables, replicas=REPLICAS) as mesh:
        gateways = ",".join(mesh.path(name) for name in mesh.names if service_of(name) == "gateway")
        async with VoiceMesh(f"unix:{gateways}") as client:
            yield mesh, client


@dataclass(frozen=True)
class Restart:
    """One process that was stopped and started anew."""

    name: str
    status: int
    drained_s: float
    """SIGTERM to its end."""
    again_s: float
    """Its start to the end of the first call that it answered."""


async def restart_all(mesh: Mesh, names: Sequence[str] = ()) -> list[Restart]:
    """Stop each process with SIGTERM and start it anew, one after another.

    The next one is stopped when the one that came back has load again.
    """
    restarts = []
    for name in names or mesh.names:
        asked_s = time.monotonic()
        status = await mesh.processes[name].stop()
        ended_s = time.monotonic()
        await mesh.start(name)
        await load_again(mesh, (name,))
        restarts.append(Restart(name, status, ended_s - asked_s, time.monotonic() - ended_s))
    return restarts


async def load_again(mesh: Mesh, names: Sequence[str]) -> None:
    """Wait until processes that came back have answered a call, while somebody asks."""
    async with asyncio.timeout(_AGAIN_S):
        for name in names:
            await mesh.processes[name].says('"call ended"')
