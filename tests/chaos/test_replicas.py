"""Two of each process, of which one is restarted, stopped or killed: nobody hears it, but of a gateway.

`benchmarks/rolling.py` and `benchmarks/faults.py` do it for as long as one likes, one process at a time.
"""

import asyncio
import signal
from dataclasses import dataclass, field

from tests.support.mesh import SERVICES, Mesh
from tests.support.rolling import Callers, doubled_mesh, load_again, restart_all
from voicemesh.client import Frame, SpeechOptions, TurnReport, VoiceMesh, VoiceMeshError

BEHIND = ("llm", "chunker", "tts")
AT_ONCE = 8
"""Turns that run while processes go: enough that each of two has some of them."""
GUARD_S = 240.0
"""Ends a test that hangs."""
# Cut at sentences, and made anew each time: then the same reply has the same samples.
SPEECH = SpeechOptions(max_lead_ms=0, policy="sentence", cache=False)
PROMPT = "Why do harbours silt up?"
TEXT = " ".join(f"Sentence number {n} takes a while to say, and it is not the last." for n in range(12))


@dataclass
class Outcome:
    """One turn."""

    asked: bool
    """Whether it is a reply; else its words are its caller's."""
    audio: bytearray = field(default_factory=bytearray)
    error: VoiceMeshError | None = None
    report: TurnReport | None = None


async def listen(client: VoiceMesh, begun: asyncio.Event, *, asked: bool) -> Outcome:
    """Have one turn; `begun` is set with its first frame, or where there is none."""
    outcome = Outcome(asked)
    reply = client.ask(PROMPT, speech=SPEECH, reply_cache=False) if asked else None
    turn = reply or client.say(TEXT, speech=SPEECH)
    try:
        async for event in turn:
            if isinstance(event, Frame):
                assert 2 * event.turn_offset_samples == len(outcome.audio)
                outcome.audio += event.audio
                begun.set()
    except VoiceMeshError as error:
        outcome.error = error
    begun.set()
    outcome.report = turn.report
    return outcome


async def under_turns(
    mesh: Mesh, client: VoiceMesh, names: tuple[str, ...], number: signal.Signals
) -> list[Outcome]:
    """Begin turns, send a signal to processes once all of them are heard, and wait for their ends."""
    begun = [asyncio.Event() for _ in range(AT_ONCE)]
    async with asyncio.TaskGroup() as group:
        turns = [
            group.create_task(listen(client, event, asked=place % 2 == 0))
            for place, event in enumerate(begun)
        ]
        for event in begun:
            await event.wait()
        for name in names:
            mesh.processes[name].process.send_signal(number)
    return [turn.result() for turn in turns]


async def test_nobody_hears_what_becomes_of_one_of_two_but_of_a_gateway() -> None:
    """One mesh for all of it: it takes longest to start."""
    slow = {"VOICEMESH_REHEARSAL_TOKENS_PER_S": "60"}  # every service has something left to do
    async with asyncio.timeout(GUARD_S), doubled_mesh(**slow) as (mesh, client):
        callers = Callers(client)
        await callers.learn()
        await restart_one_of_each(mesh, callers)
        # It takes no gateway for lost because this process was held up.
        async with VoiceMesh(client.address, stall_s=GUARD_S) as patient:
            whole = {
                asked: (await listen(patient, asyncio.Event(), asked=asked)).audio for asked in (True, False)
            }
            nothing_was_heard(await under_turns(mesh, patient, BEHIND, signal.SIGSTOP), whole)
            await mesh.start(*BEHIND)
            await callers.run(4, lambda: load_again(mesh, BEHIND))
            assert callers.counts.bad == []
            nothing_was_heard(await under_turns(mesh, patient, BEHIND, signal.SIGKILL), whole)
        names = {mesh.address(name): name for name in ("gateway", "gateway-b")}
        async with VoiceMesh(tuple(names), stall_s=1) as several:
            what_was_heard_is_told(await under_turns(mesh, several, ("gateway",), signal.SIGKILL), whole)
            assert names[several.asked_now] == "gateway-b"
            await mesh.start("gateway")
            what_was_heard_is_told(await under_turns(mesh, several, ("gateway-b",), signal.SIGSTOP), whole)
            assert (await listen(several, asyncio.Event(), asked=True)).audio == whole[True]
            await mesh.processes["gateway-b"].kill()


async def restart_one_of_each(mesh: Mesh, callers: Callers) -> None:
    """Restart one process of each service, all at once, under turns that cache and follow each other."""
    statuses: dict[str, int] = {}

    async def restart() -> None:
        done = await asyncio.gather(*(restart_all(mesh, (name,)) for name in SERVICES))
        statuses.update((each.name, each.status) for restarts in done for each in restarts)

    counts = await callers.run(20, restart)
    assert counts.bad == []
    assert counts.turns >= 20
    assert statuses == dict.fromkeys(SERVICES, 0)


def nothing_was_heard(outcomes: list[Outcome], whole: dict[bool, bytearray]) -> None:
    """Check turns that went on with the other process of each service."""
    reports = [outcome.report for outcome in outcomes if outcome.report is not None]
    assert [outcome.error for outcome in outcomes] == [None] * AT_ONCE
    assert [report.outcome for report in reports] == ["completed"] * AT_ONCE
    assert all(outcome.audio == whole[outcome.asked] for outcome in outcomes)
    assert {failover for report in reports for failover in report.failovers} == set(BEHIND)
    assert [report.attribution_violations for report in reports] == [()] * AT_ONCE


def what_was_heard_is_told(outcomes: list[Outcome], whole: dict[bool, bytearray]) -> None:
    """Check turns whose gateway went away: they end as lost, behind what was heard, or they had ended."""
    for outcome in outcomes:
        assert whole[outcome.asked].startswith(outcome.audio)
        if outcome.error is None:
            assert outcome.audio == whole[outcome.asked]
        else:
            assert (outcome.error.reason, outcome.error.reached) == ("SERVICE_UNAVAILABLE", False)
            assert outcome.error.heard_ms is not None
    assert any(outcome.error is not None for outcome in outcomes)
