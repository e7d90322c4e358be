"""Two of a process, one of them killed or stopped while turns run."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.mesh import Mesh, running_mesh_with
from voicemesh.client import Frame, SpeechOptions, VoiceMesh, VoiceMeshError

SERVICES = ("gateway",)
CALLERS = 6
GUARD_S = 60.0
SPEECH = SpeechOptions(max_lead_ms=0, policy="sentence", cache=False)
PROMPT = "Why do harbours silt up?"
TEXT = " ".join(f"Sentence number {n} takes a while to say." for n in range(12))
# Each chunk takes a quarter of a second, so that turns are under way when something breaks.
VOICES = [
    {
        "name": "quick",
        "engine": "simulated",
        "replicas": 1,
        "options": {"first_frame_ms": 20, "rtf": 0.1, "slots": 16},
    }
]


@dataclass
class Pairs:
    """A mesh with two of some, and what its turns sound like undisturbed."""

    mesh: Mesh
    client: VoiceMesh
    asked: bytes
    said: bytes


@asynccontextmanager
async def running_pairs() -> AsyncIterator[Pairs]:
    environment = {
        "VOICEMESH_TTS_VOICES": json.dumps(VOICES),
        "VOICEMESH_REHEARSAL_TOKENS_PER_S": "60",
    }
    replicas = [f"{name}-b" for name in SERVICES]
    async with running_mesh_with(environment, replicas=replicas) as mesh:
        addresses = [mesh.address("gateway"), mesh.address("gateway-b")]
        async with VoiceMesh(addresses) as client:
            asked = await client.ask(PROMPT, speech=SPEECH, reply_cache=False).collect()
            said = await client.say(TEXT, speech=SPEECH).collect()
            yield Pairs(mesh, client, asked.audio, said.audio)


@dataclass
class Outcome:
    """One turn."""

    audio: bytes
    error: VoiceMeshError | None


async def listen(pairs: Pairs, number: int, heard: asyncio.Event) -> Outcome:
    """Have one turn; every second one brings its own words."""
    audio, error, client = b"", None, pairs.client
    turn = (
        client.say(TEXT, speech=SPEECH)
        if number % 2
        else client.ask(PROMPT, speech=SPEECH, reply_cache=False)
    )
    try:
        async for event in turn:
            if isinstance(event, Frame):
                heard.set()
                audio += event.audio
    except VoiceMeshError as failure:
        error = failure
    return Outcome(audio, error)


async def break_under_turns(pairs: Pairs, name: str, number: signal.Signals) -> list[Outcome]:
    """Begin turns, break a process once one of them is heard, and wait for their ends."""
    heard = asyncio.Event()
    async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as group:
        turns = [group.create_task(listen(pairs, caller, heard)) for caller in range(CALLERS)]
        await heard.wait()
        pairs.mesh.processes[name].process.send_signal(number)
    await pairs.mesh.start(name)
    return [turn.result() for turn in turns]


async def test_turns_of_a_gateway_that_is_lost_go_on_or_say_what_was_heard() -> None:
    async with running_pairs() as pairs:
        names = {pairs.mesh.address(name): name for name in ("gateway", "gateway-b")}
        for number in (signal.SIGKILL, signal.SIGSTOP):
            outcomes = await break_under_turns(pairs, names[pairs.client.asked_now], number)
            for caller, outcome in enumerate(outcomes):
                reference = pairs.said if caller % 2 else pairs.asked
                assert reference.startswith(outcome.audio), number.name
                assert outcome.error is not None or outcome.audio == reference, number.name
                if outcome.error is not None:
                    assert (outcome.error.reason, outcome.error.reached) == ("SERVICE_UNAVAILABLE", False)
                    assert outcome.error.heard_ms is not None
            assert any(outcome.error is not None for outcome in outcomes), number.name
            recording = await pairs.client.ask(PROMPT, speech=SPEECH, reply_cache=False).collect()
            assert recording.audio == pairs.asked
