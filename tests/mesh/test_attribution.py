"""The stages of every turn add up to what was heard: 200 turns, mixed."""

import asyncio

import pytest

from voicemesh.client import Frame, GenerationOptions, SpeechOptions, TurnReport, VoiceMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

TURNS = 200
AT_ONCE = 10
SHORT = GenerationOptions(stop=("script",))


async def one(client: VoiceMesh, number: int) -> TurnReport:
    """Run a turn: asked, asked again (cached), the caller's own words, or interrupted."""
    speech = SpeechOptions(max_lead_ms=0)
    if number % 4 == 3:
        return (await client.say(f"Platform {number}. Mind the gap.", speech=speech).collect()).report
    async with client.converse(speech=speech, generation=SHORT) as conversation:
        turn = await conversation.ask(f"What is at pier {number % 40}?")
        async for event in turn:
            if number % 4 == 2 and isinstance(event, Frame):
                await conversation.interrupt()
        assert turn.report is not None
        return turn.report


async def test_every_turn_adds_up(client: VoiceMesh) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def placed(number: int) -> TurnReport:
        async with places:
            return await one(client, number)

    reports = await asyncio.gather(*(placed(number) for number in range(TURNS)))
    heard = [report for report in reports if report.ttfa_ms]
    assert len(heard) >= TURNS * 3 // 4
    assert {report.outcome for report in reports} == {"completed", "interrupted"}
    assert "hit" in {report.reply_cache for report in reports}
    for report in heard:
        total_ms = sum(report.stages.values()) + report.unattributed_ms
        assert abs(total_ms - report.ttfa_ms) <= 0.01, report
        assert abs(sum(report.stages.values()) - report.ttfa_ms) <= 1, report
        assert abs(report.unattributed_ms) <= report.ttfa_ms / 100, report
        assert report.attribution_violations == (), report
        assert all(duration_ms >= 0 for duration_ms in report.stages.values()), report
