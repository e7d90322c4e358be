"""Two processes of each service: a turn outlives the one that worked for it, and nobody hears of it."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.mesh import Mesh, running_mesh_with
from voicemesh.client import Frame, SpeechOptions, TurnReport, VoiceMesh

GUARD_S = 120.0
"""Ends a test that hangs."""
AT_ONCE = 6
"""Turns that run while a process goes: enough that each of two has some of them."""
PROMPT = "Why is the sky blue, and what do ships do in a storm?"
# Cut at sentences, and made anew each time: then the same reply has the same samples.
SPEECH = SpeechOptions(policy="sentence", cache=False, max_lead_ms=0)
VARIABLES = {
    # Slow enough that every service has something left to do for a turn whose first audio has come.
    "VOICEMESH_REHEARSAL_TOKENS_PER_S": "60",
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    """Run two of each service that a turn cannot do without."""
    async with running_mesh_with(VARIABLES, replicas=("llm-b", "chunker-b", "tts-b")) as running:
        yield running


async def ask(mesh: Mesh, begun: asyncio.Event) -> tuple[bytes, TurnReport]:
    """Ask for the reply; return its audio, and what the gateway says of it. `begun` is set with the first."""
    async with VoiceMesh(mesh.address("gateway"), stall_s=GUARD_S) as client:
        turn = client.ask(PROMPT, speech=SPEECH, reply_cache=False)
        audio = bytearray()
        async for event in turn:
            if isinstance(event, Frame):
                assert 2 * event.turn_offset_samples == len(audio)
                audio += event.audio
                begun.set()
        return bytes(audio), await client.explain(turn.turn_id)


@pytest.mark.parametrize("name", ["llm", "chunker", "tts"])
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
async def test_nobody_hears_that_a_process_is_gone(mesh: Mesh, name: str, number: signal.Signals) -> None:
    async with asyncio.timeout(GUARD_S):
        reference, _ = await ask(mesh, asyncio.Event())
        begun = [asyncio.Event() for _ in range(AT_ONCE)]
        turns = [asyncio.create_task(ask(mesh, event)) for event in begun]
        await asyncio.gather(*(event.wait() for event in begun))
        mesh.processes[name].process.send_signal(number)
        heard = await asyncio.gather(*turns)
        mesh.processes[name].process.send_signal(
            signal.SIGCONT
        )  # who was killed stays so: the other is enough
    reports = [report for _, report in heard]
    assert [report.outcome for report in reports] == ["completed"] * AT_ONCE
    assert all(audio == reference for audio, _ in heard)
    assert name in {failover for report in reports for failover in report.failovers}
    assert [report.attribution_violations for report in reports] == [()] * AT_ONCE
