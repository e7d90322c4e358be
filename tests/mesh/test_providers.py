"""Several providers behind a whole mesh: what the caller hears and is told."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from tests.support.mesh import running_mesh
from tests.support.openai_server import TEXT, OpenAiServer, Reply
from voicemesh.client import Chunk, Degraded, Frame, SpeechOptions, TurnEnded, VoiceMesh

UNPACED = SpeechOptions(max_lead_ms=0)
SPOKEN = Reply(tokens=("Here", " speaks", " the", " second", " model", "."))


@contextlib.asynccontextmanager
async def _mesh_of_two() -> AsyncIterator[tuple[VoiceMesh, OpenAiServer, OpenAiServer]]:
    async with OpenAiServer() as first, OpenAiServer(default=SPOKEN) as second:
        declared = [
            {"name": "first", "base_url": first.base_url, "model": "large", "max_retries": 0},
            {"name": "second", "base_url": second.base_url, "model": "small", "max_retries": 0},
        ]
        async with (
            running_mesh(VOICEMESH_LLM_PROVIDERS=json.dumps(declared)) as mesh,
            VoiceMesh(mesh.address("gateway")) as client,
        ):
            yield client, first, second


async def test_a_dead_first_provider_costs_no_turn_and_is_told() -> None:
    async with _mesh_of_two() as (client, first, second):
        first.default = Reply.error(503)
        events = [event async for event in client.ask("Who speaks?", speech=UNPACED)]
        told = [event for event in events if isinstance(event, Degraded)]
        assert [event.what for event in told] == ["model"]
        assert "HTTP 503" in told[0].detail
        assert "second" in told[0].detail
        recording = await client.ask("Who speaks now?", speech=UNPACED).collect()
        assert recording.text == "Here speaks the second model."
        assert recording.report.outcome == "completed"
        assert recording.report.degraded == ("model",)
        assert recording.report.audio_ms > 500
        assert len(second.requests) == 2


async def test_a_reply_that_breaks_off_is_spoken_to_its_end_once() -> None:
    async with _mesh_of_two() as (client, first, second):
        first.script(Reply(cut_after=12))
        second.default = Reply()
        recording = await client.ask("Go on?", speech=UNPACED).collect()
        assert recording.text == TEXT
        assert "".join(chunk.text for chunk in recording.report.chunks).replace(" ", "") == TEXT.replace(
            " ", ""
        )
        assert set(recording.report.degraded) == {"model", "resumed"}
        assert recording.report.outcome == "completed"


async def test_a_turn_without_a_text_is_a_valid_turn() -> None:
    async with _mesh_of_two() as (client, first, _):
        call = {"index": 0, "id": "call-1", "function": {"name": "look_up", "arguments": "{}"}}
        replies: list[list[dict[str, Any]]] = [
            [{"tool_calls": [call]}],
            [{"content": "<think>I shall look that up.</think>"}, {"tool_calls": [call]}],
            [{"reasoning_content": "Hm."}, {"tool_calls": [call]}],
        ]
        for deltas in replies:
            first.script(Reply(chunks=deltas, finish_reason="tool_calls"))
            events = [event async for event in client.ask("Look it up.", speech=UNPACED)]
            assert not [event for event in events if isinstance(event, (Frame, Chunk))]
            assert isinstance(events[-1], TurnEnded)
            report = events[-1].report
            assert (report.outcome, report.text, report.audio_ms) == ("completed", "", 0)
        # And the next one is asked anew: what had no text was not kept.
        recording = await client.ask("Look it up.", speech=UNPACED).collect()
        assert recording.text == TEXT
        assert len(first.requests) == 4


async def test_what_is_thought_aloud_is_not_spoken() -> None:
    async with _mesh_of_two() as (client, first, _):
        first.script(
            Reply(
                tokens=(
                    "<thi",
                    "nk>The",
                    " user",
                    " asks",
                    ".</",
                    "think>",
                    "\n\n",
                    "It",
                    " is",
                    " four",
                    ".",
                )
            )
        )
        recording = await client.ask("What is two and two?", speech=UNPACED).collect()
        assert recording.text == "It is four."
        assert [chunk.text for chunk in recording.report.chunks] == ["It is four."]
