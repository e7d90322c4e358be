"""Turns of every sort through a real mesh, many at once.

New, cached, interrupted, of an engine that fails, of a slow LLM, and of the caller's own words.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tests.support.mesh import Mesh, running_mesh
from tests.support.openai_server import OpenAiServer, Reply, Request
from voicemesh.client import Frame, SpeechOptions, TurnReport, VoiceMesh, VoiceMeshError

NEW, CACHED, INTERRUPTED, FAILING, SLOW, OWN_WORDS = (
    "new",
    "cached",
    "interrupted",
    "failing engine",
    "slow LLM",
    "own words",
)
SORTS: Final = (NEW, CACHED, INTERRUPTED, FAILING, SLOW, OWN_WORDS)
_TOKENS: Final = tuple(f" {word}" for word in ("It is so, and so it was. " * 4).split())
_VOICES: Final = [
    {"name": "quick", "engine": "simulated", "replicas": 2, "options": {"first_frame_ms": 20, "rtf": 0.02}},
    {
        "name": "failing",
        "engine": "simulated",
        "options": {"failure_rate": 0.5, "first_frame_ms": 20, "rtf": 0.02},
        "fallback": ["quick"],
    },
]


@dataclass(frozen=True)
class MixedTurn:
    """One that was run."""

    sort: str
    report: TurnReport


def answer(request: Request) -> Reply:
    """Answer all with the same words: their audio is found from the second turn on."""
    slow = "slowly" in str(request.body["messages"][-1])
    return Reply(tokens=_TOKENS, header_delay_s=0.1 * slow, ttft_s=0.2 * slow, token_interval_s=0.05 * slow)


def answer_anew() -> Callable[[Request], Reply]:
    """Return what begins each answer with a sentence of its own, which must be spoken."""
    numbers = itertools.count()

    def own(request: Request) -> Reply:
        words = f"Number {next(numbers)} it is, and no other one.".split()
        return replace(answer(request), tokens=(words[0], *(f" {word}" for word in words[1:]), *_TOKENS))

    return own


async def run(
    turns: int,
    concurrency: int,
    answered: Callable[[Request], Reply] = answer,
    environment: Mapping[str, str] | None = None,
) -> list[MixedTurn]:
    """Run so many turns, so many of them at once, through a mesh that has ended when this returns."""
    async with _mesh(answered, environment or {}) as mesh, VoiceMesh(mesh.address("gateway")) as client:
        return await _run(client, turns, concurrency)


@contextlib.asynccontextmanager
async def _mesh(answered: Callable[[Request], Reply], environment: Mapping[str, str]) -> AsyncIterator[Mesh]:
    async with (
        OpenAiServer(default=answered) as llm,
        running_mesh(
            OPENAI_BASE_URL=llm.base_url,
            VOICEMESH_TTS_VOICES=json.dumps(_VOICES),
            VOICEMESH_TTS_MAX_ATTEMPTS="1",
            **environment,
        ) as mesh,
    ):
        yield mesh


async def _run(client: VoiceMesh, turns: int, concurrency: int) -> list[MixedTurn]:
    places = asyncio.Semaphore(concurrency)

    async def placed(number: int, sort: str) -> MixedTurn:
        async with places:
            return MixedTurn(sort, await _turn(client, number, sort))

    sorts = [SORTS[number % len(SORTS)] for number in range(turns)]
    # The reply that is asked for again and again; itself no turn of the mix.
    first = MixedTurn(NEW, await _turn(client, 0, CACHED))
    return [first, *await asyncio.gather(*(placed(number, sort) for number, sort in enumerate(sorts)))]


async def _turn(client: VoiceMesh, number: int, sort: str) -> TurnReport:
    speech = SpeechOptions(voice="failing" if sort == FAILING else "quick", max_lead_ms=0)
    if sort == OWN_WORDS:
        turn = client.say(f"Platform {number}. Mind the gap. Stand back.", speech=speech)
        with contextlib.suppress(VoiceMeshError):
            await turn.collect()
    else:
        prompt = {CACHED: "Always the same?", SLOW: f"Say slowly, {number}?"}.get(sort, f"{number}?")
        async with client.converse(speech=speech) as conversation:
            turn = await conversation.ask(prompt)
            with contextlib.suppress(VoiceMeshError):
                async for event in turn:
                    if sort == INTERRUPTED and isinstance(event, Frame):
                        await conversation.interrupt()
    assert turn.report is not None
    return turn.report
