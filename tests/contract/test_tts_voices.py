"""Voices that are declared in a file: added, rolled, refused and removed while turns run."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from services.tts.settings import TtsSettings
from tests.contract.test_tts_process import process, serving_now
from tests.contract.tts_harness import EOF, GUARD_S, eventually
from tests.support.config_map import ConfigMap
from voicemesh.common.v1 import common_pb2
from voicemesh.tts.v1 import tts_pb2, tts_pb2_grpc

TEXT = "One two three four five."
FIRST = {"name": "sim", "engine": "simulated", "replicas": 2, "options": {"rtf": 0.1, "slots": 4}}
OTHER = {**FIRST, "options": {**FIRST["options"], "char_ms": 40}}  # type: ignore[dict-item] # a dict
ADDED = {"name": "added", "engine": "simulated", "options": {"load_s": 0.3, "char_ms": 30}}


class Talk:
    """Turns that never cease, each checked when it has ended."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self.revisions: Counter[str] = Counter()
        self.audio: dict[str, set[bytes]] = {}

    async def refusal(self, voice: str) -> grpc.StatusCode:
        """Ask for a voice that is not to be had; return the status."""
        call = self._stub.Synthesize(timeout=GUARD_S)
        configure = tts_pb2.SynthesizeConfigure(turn_id="t", voice=voice)
        await call.write(tts_pb2.SynthesizeRequest(configure=configure))
        code: grpc.StatusCode = await call.code()
        return code

    async def turn(self, voice: str = "") -> str:
        """Speak a turn of two chunks; return the revision that spoke it."""
        call = self._stub.Synthesize(timeout=GUARD_S)
        await call.write(
            tts_pb2.SynthesizeRequest(configure=tts_pb2.SynthesizeConfigure(turn_id="t", voice=voice))
        )
        audio = [b"", b""]
        revisions = set()
        ended = 0
        for index in range(2):
            chunk = tts_pb2.SynthesizeChunk(chunk_index=index, text=TEXT)
            await call.write(tts_pb2.SynthesizeRequest(chunk=chunk))
        await call.done_writing()
        while (response := await call.read()) is not EOF:
            kind = response.WhichOneof("event")
            if kind == "frame":
                frame = response.frame.frame
                assert frame.offset_samples * 2 == len(audio[frame.chunk_index])
                audio[frame.chunk_index] += frame.audio
                if response.frame.HasField("start"):
                    revisions.add(response.frame.start.model_revision)
            else:
                assert kind == "finished", response
                ended += 1
        assert ended == 2
        assert audio[0] == audio[1]
        (revision,) = revisions
        self.revisions[revision] += 1
        self.audio.setdefault(revision, set()).add(audio[0])
        return str(revision)

    async def for_ever(self) -> None:
        while True:
            await self.turn()

    async def until_other(self, revision: str) -> str:
        async def other() -> str:
            spoken = await self.turn()
            return "" if spoken == revision else spoken

        return str(await eventually(other))


@asynccontextmanager
async def talking(talk: Talk, turns: int) -> AsyncIterator[None]:
    """Have so many turns run at once all the time; a failed one fails the test."""
    tasks = [asyncio.ensure_future(talk.for_ever()) for _ in range(turns)]
    try:
        yield
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [r for r in results if not isinstance(r, (asyncio.CancelledError, grpc.aio.UsageError))]
    assert not failed


async def until(
    stub: Any, seen: Callable[[tts_pb2.GetPoolStatsResponse], bool]
) -> tts_pb2.GetPoolStatsResponse:
    async def matches() -> tts_pb2.GetPoolStatsResponse | None:
        stats = await stub.GetPoolStats(tts_pb2.GetPoolStatsRequest())
        return stats if seen(stats) else None

    found: tts_pb2.GetPoolStatsResponse = await eventually(matches)
    return found


def states(stats: tts_pb2.GetPoolStatsResponse) -> set[tuple[str, str]]:
    name: Callable[[Any], str] = common_pb2.VoiceState.Name
    return {(pool.voice, name(pool.state).removeprefix("VOICE_STATE_")) for pool in stats.pools}


async def test_voices_change_while_turns_run_and_no_turn_notices(tmp_path):
    mounted = ConfigMap(tmp_path, "voices.json")
    mounted.write([FIRST])
    async with process(tmp_path, VOICEMESH_TTS_VOICES_FILE=str(mounted.path)) as (_, _, channel):
        await eventually(lambda: serving_now(channel))
        stub: Any = tts_pb2_grpc.TtsServiceStub(channel)
        talk = Talk(stub)
        async with talking(talk, 3):
            first = await talk.turn()

            mounted.write([FIRST, ADDED])
            await until(stub, lambda stats: ("added", "LOADING") in states(stats))
            assert await talk.refusal("added") is grpc.StatusCode.UNAVAILABLE
            await until(stub, lambda stats: ("added", "READY") in states(stats))
            added = await talk.turn("added")

            mounted.write([OTHER, ADDED])
            second = await talk.until_other(first)
            await until(stub, lambda stats: states(stats) == {("sim", "READY"), ("added", "READY")})

            mounted.write('[{"name": "sim", "engine": "simulated", "replicas": 0}]')
            stats = await until(stub, lambda stats: stats.refused_voice_changes == 1)
            assert "voice 'sim': replicas: Input should be greater than or equal to 1" in stats.refusal
            mounted.write([ADDED])
            stats = await until(stub, lambda stats: stats.refused_voice_changes == 2)
            assert "'sim' is the default voice" in stats.refusal
            assert await talk.turn("added") == added

            mounted.write([OTHER])
            stats = await until(stub, lambda stats: states(stats) == {("sim", "READY")})
            assert (stats.voice_changes, stats.refusal) == (3, "")
            assert len(stats.pools[0].worker_pids) == 2
        assert {first, second, added} == set(talk.revisions)
        # Each revision has audio of its own, and every turn of it the same, whole.
        assert all(len(audio) == 1 for audio in talk.audio.values())
        assert len(set().union(*talk.audio.values())) == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        ("[{", "not valid JSON"),
        ([], "at least 1 item"),
        ([FIRST, FIRST], "two voices have the same name"),
        ([{**FIRST, "memory_mb": 600}], "2 * 600 (sim) = 1200 MB"),
        ([FIRST], "'sim' needs memory_mb"),
        ([{**FIRST, "preload": False, "memory_mb": 1}], "needs preload"),
        ([{**FIRST, "memory_mb": 1, "options": {"rtff": 1}}], "did you mean rtf?"),
    ],
)
async def test_a_file_that_is_wrong_at_the_start_ends_the_process_with_its_reason(tmp_path, content, says):
    path = tmp_path / "voices.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    environment = {"VOICEMESH_TTS_VOICES_FILE": str(path), "VOICEMESH_TTS_DEVICE_MEMORY_MB": '{"cpu": 1000}'}
    async with process(tmp_path, **environment) as (_, child, _):
        assert await asyncio.wait_for(child.wait(), GUARD_S) == 2
        log = (tmp_path / "log").read_text()
        assert says in log
        assert f"VOICEMESH_TTS_VOICES_FILE: {path}: " in log


def test_a_list_and_a_file_are_not_set_together(monkeypatch):
    monkeypatch.setenv("VOICEMESH_TTS_VOICES", json.dumps([FIRST]))
    monkeypatch.setenv("VOICEMESH_TTS_VOICES_FILE", "/voices.json")
    with pytest.raises(ValueError, match="set one of them"):
        TtsSettings()
