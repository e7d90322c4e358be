"""Two of each process, one of them killed or stopped while turns run: nobody hears it, but of a gateway."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.mesh import Mesh, running_mesh_with
from voicemesh.client import Frame, SpeechOptions, VoiceMesh, VoiceMeshError

SERVICES = ("llm", "chunker", "tts")
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
    """A mesh with two of each, and what its turns sound like undisturbed."""

    mesh: Mesh
    client: VoiceMesh
    patient: VoiceMesh
    """A client that takes no gateway for lost because this process was held up."""
    asked: bytes
    said: bytes


@asynccontextmanager
async def running_pairs() -> AsyncIterator[Pairs]:
    environment = {
        "VOICEMESH_TTS_VOICES": json.dumps(VOICES),
        "VOICEMESH_REHEARSAL_TOKENS_PER_S": "60",
    }
    replicas = [f"{name}-b" for name in (*SERVICES, "gateway")]
    async with running_mesh_with(environment, replicas=replicas) as mesh:
        addresses = [mesh.address("gateway"), mesh.address("gateway-b")]
        async with (
            VoiceMesh(addresses, stall_s=1) as client,
            VoiceMesh(addresses, stall_s=GUARD_S) as patient,
        ):
            asked = await patient.ask(PROMPT, speech=SPEECH, reply_cache=False).collect()
            said = await patient.say(TEXT, speech=SPEECH).collect()
            yield Pairs(mesh, client, patient, asked.audio, said.audio)


@dataclass
class Outcome:
    """One turn."""

    audio: bytes
    error: VoiceMeshError | None


async def listen(client: VoiceMesh, number: int, heard: asyncio.Event) -> Outcome:
    """Have one turn; every second one brings its own words."""
    audio, error = b"", None
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


async def break_under_turns(
    pairs: Pairs, client: VoiceMesh, name: str, number: signal.Signals
) -> list[Outcome]:
    """Begin turns, break a process once one of them is heard, and wait for their ends."""
    heard = asyncio.Event()
    async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as group:
        turns = [group.create_task(listen(client, caller, heard)) for caller in range(CALLERS)]
        await heard.wait()
        pairs.mesh.processes[name].process.send_signal(number)
    await pairs.mesh.start(name)
    return [turn.result() for turn in turns]


async def test_turns_go_on_with_the_other_replica_and_say_what_was_heard_where_it_was_a_gateway() -> None:
    """One mesh for all of it: it takes longest to start."""
    async with running_pairs() as pairs:
        for name in SERVICES:
            for number in (signal.SIGKILL, signal.SIGSTOP):
                outcomes = await break_under_turns(pairs, pairs.patient, name, number)
                what = f"{number.name} of {name}"
                assert [outcome.error for outcome in outcomes] == [None] * CALLERS, what
                for caller, outcome in enumerate(outcomes):
                    assert outcome.audio == (pairs.said if caller % 2 else pairs.asked), what
        names = {pairs.mesh.address(name): name for name in ("gateway", "gateway-b")}
        for number in (signal.SIGKILL, signal.SIGSTOP):
            outcomes = await break_under_turns(pairs, pairs.client, names[pairs.client.asked_now], number)
            for caller, outcome in enumerate(outcomes):
                reference = pairs.said if caller % 2 else pairs.asked
                assert reference.startswith(outcome.audio), number.name
                assert outcome.error is not None or outcome.audio == reference, number.name
                if outcome.error is not None:
                    assert (outcome.error.reason, outcome.error.reached) == ("SERVICE_UNAVAILABLE", False)
                    assert outcome.error.heard_ms is not None
            assert any(outcome.error is not None for outcome in outcomes), number.name
            recording = await pairs.patient.ask(PROMPT, speech=SPEECH, reply_cache=False).collect()
            assert recording.audio == pairs.asked
