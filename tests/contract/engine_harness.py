"""Engines in real worker processes, and an ear for what they say."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from services.tts.core.model import Done, Fault, Heartbeat, Progress, SpeakRequest, Together, VoiceSpec, Word
from services.tts.process import WorkerReplica, launch_worker

TEXT = "The quick brown fox doesn't jump over 12,345 lazy dogs, today."
GUARD_S = 60


def sim(**options: Any) -> VoiceSpec:
    return VoiceSpec("sim", "simulated", 1, "en", options)


@dataclass
class Take:
    """What was heard of one request."""

    frames: list[tuple[int, bytes]] = field(default_factory=list)
    timings: list[Word] = field(default_factory=list)
    end: Done | str | None = None

    @property
    def pcm(self) -> bytes:
        return b"".join(pcm for _, pcm in self.frames)

    @property
    def samples(self) -> int:
        return len(self.pcm) // 2

    @property
    def done(self) -> Done:
        assert isinstance(self.end, Done), self.end
        return self.end


class Ear:
    """A `ReplicaListener` that keeps what it hears."""

    def __init__(self) -> None:
        self.takes: dict[int, Take] = {}
        self.gone = ""
        self.beats: list[Heartbeat] = []
        self.progress_told: list[Progress] = []
        self.met: list[Together] = []
        self._news = asyncio.Event()

    def frame(self, request_id: int, offset_samples: int, pcm: bytes) -> None:
        assert self.takes[request_id].end is None
        self.takes[request_id].frames.append((offset_samples, pcm))
        self._news.set()

    def words(self, request_id: int, words: list[Word]) -> None:
        self.takes[request_id].timings += words
        self._news.set()

    def done(self, request_id: int, done: Done) -> None:
        self.takes[request_id].end = done
        self._news.set()

    def failed(self, request_id: int, message: str, fault: Fault) -> None:
        self.takes[request_id].end = f"{fault.name.lower()}: {message}"
        self._news.set()

    def together(self, together: Together) -> None:
        self.met.append(together)

    def progress(self, progress: Progress) -> None:
        self.progress_told.append(progress)

    def heartbeat(self, beat: Heartbeat) -> None:
        self.beats.append(beat)
        self._news.set()

    def lost(self, reason: str) -> None:
        self.gone = reason
        self._news.set()

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(GUARD_S):
            while not predicate():
                self._news.clear()
                await self._news.wait()


class Speaker:
    """A replica and its ear."""

    def __init__(self, replica: WorkerReplica, ear: Ear) -> None:
        self.replica = replica
        self.ear = ear
        self._next_id = 1

    def begin(self, text: str, **values: Any) -> tuple[int, Take]:
        number = self._next_id
        self._next_id += 1
        take = self.ear.takes[number] = Take()
        variant = values.pop("variant", self.replica.capabilities.default_variant)
        self.replica.speak(number, SpeakRequest(text, variant, **values))
        return number, take

    async def speak(self, text: str, **values: Any) -> Take:
        _, take = self.begin(text, **values)
        await self.ended(take)
        return take

    async def ended(self, take: Take) -> None:
        await self.ear.until(lambda: take.end is not None)

    async def reached(self, take: Take, samples: int) -> None:
        await self.ear.until(lambda: take.samples >= samples or take.end is not None)


@asynccontextmanager
async def speaker(spec: VoiceSpec) -> AsyncIterator[Speaker]:
    ear = Ear()
    replica = await launch_worker(spec, ear)
    try:
        yield Speaker(replica, ear)
    finally:
        await replica.close()
        assert not alive(replica.pid)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def check(take: Take, text: str, rate_hz: int, start: int = 0) -> None:
    """What holds for every take: frames without a gap, words in order and inside."""
    assert take.done.made_samples == take.samples + start or not take.frames
    at = start
    for offset, pcm in take.frames:
        assert offset == at
        assert pcm
        assert len(pcm) % 2 == 0
        assert len(pcm) // 2 <= rate_hz // 5
        at += len(pcm) // 2
    text_end = heard_at = 0
    for word in take.timings:
        assert word.text_offset >= text_end
        assert word.text_length >= 1
        text_end = word.text_offset + word.text_length
        assert text_end <= len(text)
        assert heard_at <= word.offset_samples <= take.done.made_samples
        heard_at = word.offset_samples


HOSTILE = {
    "blank": " \n\t ",
    "marks": "... ?! — “”",
    "lt": "<",
    "nul": "before\x00after",
    "command": "\x0150S fast \x0110P high",
    "markup": '<speak><voice name="de">hello</voice><break time="90s"/></speak> &lt;b&gt;',
    "phonemes": "[[h@loU]]",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x85\x9b",
    "private": "\ue000\uf8ff hello",
    "emoji": "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "combining": "e" + "\u0301" * 200,
    "bidi": "abc \u202e def \u2066 ghi",
    "runes": "ᚠᚢᚦ ᐁᐂ",
    "mixed": "Hello 你好 привет مرحبا नमस्ते",
    "digits": "9" * 300,
    "brackets": "(" * 1000,
    "one word": "a" * 1000,
    "format": "%s%n%d {0} $(reboot) `x` ; DROP TABLE",
    "path": "../../../../etc/passwd",
    "last plane": "\U0010ffff x",
}
