"""Callers of every sort, who keep what they saw."""

import asyncio
import contextlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.soak.checks import Seen
from tests.support.openai_server import Reply, Request, tokens_of
from voicemesh.client import Conversation, Event, Frame, SpeechOptions, Turn, VoiceMesh, VoiceMeshError
from voicemesh.gateway.v1 import gateway_pb2 as pb

NEW, CACHED, SLOW, INTERRUPTED, LEFT, OWN_WORDS, TALK, REFUSED = (
    "new",
    "cached",
    "slow LLM",
    "interrupted",
    "left",
    "own words",
    "conversation",
    "refused",
)
WEIGHTS: Final = {NEW: 30, CACHED: 20, SLOW: 5, INTERRUPTED: 15, LEFT: 5, OWN_WORDS: 15, TALK: 7, REFUSED: 3}
VOICES: Final = ("espeak", "quick")
_SUBJECTS: Final = (
    "the tide",
    "a lighthouse",
    "the old bridge",
    "this harbour",
    "every ferry",
    "the night train",
)
_DOINGS: Final = (
    "turns at noon",
    "waits for nobody",
    "is older than it looks",
    "carries salt",
    "leaves on time",
)
_CACHED_PROMPTS: Final = 20
_NUMBER: Final = re.compile(r"number (\d+)")
_GUARD_S: Final = 60.0
"""A turn that has not ended by then hangs."""


def reply_to(prompt: str) -> str:
    """Return what the model writes: three to six sentences, the same for the same prompt."""
    draw = random.Random(prompt)
    number = _NUMBER.search(prompt)
    first = f"Number {number.group(1)} it is." if number else "So it is."
    sentences = (
        f"{draw.choice(_SUBJECTS).capitalize()} {draw.choice(_DOINGS)}, and {draw.choice(_SUBJECTS)} "
        f"{draw.choice(_DOINGS)}."
        for _ in range(draw.randint(2, 5))
    )
    return " ".join((first, *sentences))


def answer(request: Request) -> Reply:
    """Answer a question; where it broke off before, go on behind what was said."""
    messages = request.body["messages"]
    said = ""
    asked = next(place for place in range(len(messages) - 1, -1, -1) if _is_question(messages[place]))
    if asked + 1 < len(messages):
        said = _content(messages[asked + 1])
    prompt = _content(messages[asked])
    whole = reply_to(prompt)
    rest = whole.removeprefix(said)
    slow = "slowly" in prompt
    return Reply(
        tokens=tokens_of(rest), ttft_s=0.3 if slow else 0.02, token_interval_s=0.04 if slow else 0.002
    )


def _is_question(message: dict[str, Any]) -> bool:
    return message["role"] == "user" and "number" in _content(message)


def _content(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


@dataclass(slots=True)
class Callers:
    """Callers who ask again and again.

    Attributes:
        meshes: Clients, who ask another gateway first each.
        draw: Decides everything.
        now_s: Seconds since the start.
        judge: Is given every turn when it has ended.
        until: Is set when no turn is to begin any more.
        hung: Turns that did not end.

    """

    meshes: Sequence[VoiceMesh]
    draw: random.Random
    now_s: Callable[[], float]
    judge: Callable[[Seen], None]
    until: asyncio.Event
    turns: int = 0
    hung: int = 0

    async def run(self, callers: int) -> None:
        """Ask, so many at once, until `until` is set."""
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(self._caller())

    async def _caller(self) -> None:
        while not self.until.is_set():
            (sort,) = self.draw.choices(list(WEIGHTS), list(WEIGHTS.values()))
            self.turns += 1
            mesh = self.draw.choice(self.meshes)
            try:
                async with asyncio.timeout(_GUARD_S):
                    await self._call(mesh, sort, self.turns)
            except TimeoutError:
                self.hung += 1
                seen = Seen(sort, "", "", began_s=self.now_s() - _GUARD_S, ended_s=self.now_s())
                self.judge(seen)

    async def _call(self, mesh: VoiceMesh, sort: str, number: int) -> None:
        voice = self.draw.choice(VOICES)
        speech = SpeechOptions(voice=voice, max_lead_ms=self.draw.choice((0, None)), policy="sentence")
        if sort == OWN_WORDS:
            text = reply_to(f"number {number % 200}")
            await self._watch(mesh.say(text, speech=speech), Seen(sort, "", voice))
        elif sort == TALK:
            async with contextlib.AsyncExitStack() as stack:
                # Leaving a conversation whose gateway has died tells nothing new.
                talk = await stack.enter_async_context(mesh.converse(speech=speech))
                for part in range(self.draw.randint(2, 4)):
                    if not await self._ask(
                        talk, f"What of it, number {number}{part}?", Seen(sort, "", voice)
                    ):
                        break
        elif sort == REFUSED:
            await self._watch(mesh.say("Never spoken.", voice="nobody"), Seen(sort, "", ""))
        else:
            prompt = {
                CACHED: f"Always the same, number {number % _CACHED_PROMPTS}?",
                SLOW: f"Say slowly, number {number}?",
            }.get(sort, f"What is it, number {number}?")
            async with mesh.converse(speech=speech, reply_cache=sort == CACHED) as talk:
                await self._ask(talk, prompt, Seen(sort, reply_to(prompt), voice))

    async def _ask(self, talk: Conversation, prompt: str, seen: Seen) -> bool:
        seen.expected = reply_to(prompt)
        seen.began_s = self.now_s()
        try:
            turn = await talk.ask(prompt)
        except VoiceMeshError as error:
            self._ended(seen, error)
            return False
        return await self._watch(turn, seen, talk)

    async def _watch(self, turn: Turn, seen: Seen, talk: Conversation | None = None) -> bool:
        seen.began_s = seen.began_s or self.now_s()
        cut_at = self.draw.randint(1, 12) if seen.sort in (INTERRUPTED, LEFT) else 0
        error: VoiceMeshError | None = None
        try:
            async for event in turn:
                seen.take(event)
                if cut_at and self._is_time(seen, event, cut_at) and not seen.cut:
                    seen.cut = True
                    if seen.sort == LEFT:
                        break  # and the conversation with it
                    assert talk is not None
                    await talk.interrupt()
        except VoiceMeshError as failure:
            error = failure
        seen.report = turn.report
        self._ended(seen, error)
        return error is None

    @staticmethod
    def _is_time(seen: Seen, event: Event, cut_at: int) -> bool:
        return isinstance(event, Frame) and len(seen.frames) >= cut_at

    def _ended(self, seen: Seen, error: VoiceMeshError | None) -> None:
        seen.error = error
        if error is not None and error.report is not None:
            seen.report = error.report
        seen.ended_s = self.now_s()
        self.judge(seen)


async def drop_streams(mesh: VoiceMesh, count: int) -> None:
    """Open streams to a gateway and leave them: some at once, some behind their first message."""
    for number in range(count):
        stub: Any = mesh._all().present.stub  # noqa: SLF001 - what no caller of the client can do
        call = stub.Converse()
        if number % 2:
            with contextlib.suppress(Exception):
                await call.write(pb.ConverseRequest(configure=pb.Configure()))
        call.cancel()
