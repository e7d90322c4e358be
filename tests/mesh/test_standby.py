"""The stream to the LLM service that is open before a prompt comes, and its loss."""

from tests.support.mesh import Mesh, running_mesh
from voicemesh.client import Conversation, SpeechOptions, VoiceMesh

UNPACED = SpeechOptions(max_lead_ms=0)


async def _ask(conversation: Conversation, prompt: str) -> str:
    turn = await conversation.ask(prompt)
    async for _ in turn:
        pass
    assert turn.report is not None
    assert turn.report.outcome == "completed", turn.report.error
    assert abs(sum(turn.report.stages.values()) + turn.report.unattributed_ms - turn.report.ttfa_ms) < 1
    return turn.report.text


async def _replace_llm(mesh: Mesh, *, kill: bool) -> None:
    process = mesh.processes["llm"]
    if kill:
        await process.kill()
    else:
        assert await process.stop() == 0
    await mesh.start("llm")
    await mesh.wait_serving("gateway")


async def test_turns_follow_one_another_whatever_became_of_the_stream_that_stood_by() -> None:
    async with (
        running_mesh(VOICEMESH_REHEARSAL_TTFT_MS="10", VOICEMESH_REHEARSAL_TOKENS_PER_S="1000") as mesh,
        VoiceMesh(mesh.address("gateway")) as client,
        client.converse(speech=UNPACED, reply_cache=False) as conversation,
    ):
        assert "rehearsal" in await _ask(conversation, "What is a dam?")
        # Drains at once, though a stream stands by; the next turn opens one of its own.
        await _replace_llm(mesh, kill=False)
        assert "rehearsal" in await _ask(conversation, "What is a lock?")
        await _replace_llm(mesh, kill=True)
        assert "rehearsal" in await _ask(conversation, "What is a weir?")


async def test_a_stream_that_stood_by_too_long_is_let_go() -> None:
    async with (
        running_mesh(
            VOICEMESH_GATEWAY_STANDBY_S="0.01",
            VOICEMESH_REHEARSAL_TTFT_MS="10",
            VOICEMESH_REHEARSAL_TOKENS_PER_S="1000",
        ) as mesh,
        VoiceMesh(mesh.address("gateway")) as client,
        client.converse(speech=UNPACED, reply_cache=False) as conversation,
    ):
        for question in ("What is a dam?", "What is a lock?"):
            assert "rehearsal" in await _ask(conversation, question)
