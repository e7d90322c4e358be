"""The whole service over scripted replicas, and readers of its turns."""

import asyncio
from dataclasses import replace
from typing import Any, Self

from services.tts.core.figures import PoolStats
from services.tts.core.model import (
    AudioFormat,
    ChunkOrder,
    VoiceSpec,
)
from services.tts.core.service import Speech
from services.tts.core.speaker import Speaker
from services.tts.core.turn import Turn
from tests.unit.tts.scripted import LIMITS, Changes, ScriptedLauncher, ScriptedReplica, Watcher
from voicemesh.runtime.clock import ManualClock


class World:
    def __init__(self, replicas: int = 1, **limits: Any) -> None:
        self.clock = ManualClock(5_000_000_000)
        self.launcher = ScriptedLauncher()
        self.health = Changes()
        self.watchers: dict[int, Watcher] = {}
        self.speech = Speech(
            [VoiceSpec("voice", "scripted", replicas, "en-us", {})],
            "",
            self.launcher,
            self.clock,
            replace(LIMITS, **limits),
            self.health,
        )

    async def __aenter__(self) -> Self:
        await self.speech.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.speech.close()

    def observe(self, order: ChunkOrder, _speaker: Speaker) -> Watcher:
        self.watchers[order.index] = Watcher()
        return self.watchers[order.index]

    def turn(self, voice: str = "", speed: float = 0) -> Turn:
        turn = self.speech.open_turn(self.observe)
        turn.configure("t", voice, AudioFormat(), speed)
        return turn

    def replica(self, index: int = -1) -> ScriptedReplica:
        return self.launcher.replicas[index]

    def stats(self) -> PoolStats:
        return self.speech.stats()[0]


async def take(turn: Turn, count: int) -> list[Any]:
    async with asyncio.timeout(5):
        return [await anext(turn) for _ in range(count)]


async def rest(turn: Turn) -> list[Any]:
    async with asyncio.timeout(5):
        return [event async for event in turn]


async def nothing_yet(turn: Turn) -> bool:
    """Whether the turn has no answer now."""
    waiting = asyncio.ensure_future(anext(turn))
    done, _ = await asyncio.wait({waiting}, timeout=0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return not done
