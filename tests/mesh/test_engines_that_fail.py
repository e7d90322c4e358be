"""What a caller hears when an engine fails for good: another voice, or a request to speak by itself."""

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.mesh import running_mesh
from voicemesh.client import Degraded, SpeakLocally, SpeechOptions, TurnReport, VoiceMesh

TEXT = "The first sentence is here to be heard. The second one is here as well, and it is longer."


@dataclass
class Heard:
    audio: bytes
    report: TurnReport
    local: list[SpeakLocally] = field(default_factory=list)
    degraded: list[Degraded] = field(default_factory=list)


async def say(client: VoiceMesh, *, cache: bool = True) -> Heard:
    turn = client.say(TEXT, speech=SpeechOptions(max_lead_ms=0, cache=cache))
    local, degraded, audio = [], [], b""
    async for event in turn:
        if isinstance(event, SpeakLocally):
            local.append(event)
        elif isinstance(event, Degraded):
            degraded.append(event)
        else:
            audio += getattr(event, "audio", b"")
    assert turn.report is not None
    return Heard(audio, turn.report, local, degraded)


@asynccontextmanager
async def fused_mesh(
    fuse: pathlib.Path, letters: int, fallback: list[str] | None = None
) -> AsyncIterator[VoiceMesh]:
    fused = {
        "name": "fused",
        "engine": "tests.contract.own_engine_with_a_fuse:FusedEngine",
        "options": {"fuse": str(fuse), "letters": letters},
        "fallback": fallback or [],
        "breaker": {"failures": 1, "open_s": 0.2},
    }
    voices = json.dumps([fused, {"name": "espeak", "engine": "espeak"}])
    async with (
        running_mesh(VOICEMESH_TTS_VOICES=voices, VOICEMESH_TTS_MAX_ATTEMPTS="0") as mesh,
        VoiceMesh(mesh.address("gateway")) as client,
    ):
        yield client


async def whole(client: VoiceMesh) -> Heard:
    """Speak until the engine is well again."""
    async with asyncio.timeout(60):
        while (heard := await say(client)).degraded:
            pass
    return heard


async def test_without_any_engine_the_caller_is_asked_to_speak_and_the_turn_completes(tmp_path) -> None:
    fuse = tmp_path / "fuse"
    async with fused_mesh(fuse, letters=0) as client:
        fuse.touch()
        heard = await say(client)
        assert " ".join(event.text.strip() for event in heard.local) == TEXT
        assert heard.audio == b""
        assert heard.report.outcome == "completed"
        assert heard.report.degraded == ("local_speech",)
        assert [event.what for event in heard.degraded] == ["local_speech"]
        fuse.unlink()
        again = await whole(client)
        assert not again.local
        assert again.audio
        assert again.report.degraded == ()


async def test_the_caller_is_asked_for_what_is_left_from_a_whole_word_on(tmp_path) -> None:
    fuse = tmp_path / "fuse"
    async with fused_mesh(fuse, letters=20) as client:
        fuse.touch()
        heard = await say(client)
        assert heard.audio
        first = heard.local[0].text
        assert first
        begin = TEXT.index(first)
        assert begin > 0
        assert TEXT[begin - 1].isspace()
        assert heard.report.outcome == "completed"


async def test_another_voice_speaks_and_is_never_kept_for_the_one_that_was_asked_for(tmp_path) -> None:
    fuse = tmp_path / "fuse"
    async with fused_mesh(fuse, letters=0, fallback=["espeak"]) as client:
        fuse.touch()
        heard = await say(client)
        assert not heard.local
        assert [event.what for event in heard.degraded][:1] == ["voice"]
        assert "espeak" in heard.degraded[0].detail
        assert heard.report.degraded.count("voice") == 1
        fuse.unlink()
        again = await whole(client)
        kept, anew = await say(client), await say(client, cache=False)
        assert {chunk.cache for chunk in kept.report.chunks} == {"memory"}
        assert heard.audio != again.audio
        assert kept.audio == again.audio == anew.audio


async def test_a_voice_that_never_started_is_spoken_by_another() -> None:
    away = {
        "name": "away",
        "engine": "openai",
        "options": {"base_url": "http://127.0.0.1:9/v1", "max_retries": 0},
        "fallback": ["espeak"],
    }
    voices = json.dumps([away, {"name": "espeak", "engine": "espeak"}])
    async with (
        running_mesh(VOICEMESH_TTS_VOICES=voices) as mesh,
        VoiceMesh(mesh.address("gateway")) as client,
    ):
        for voice in ("", "away", "away/nova"):
            turn = client.say("Somebody else says this.", voice=voice)
            events = [event async for event in turn]
            assert any(getattr(event, "audio", b"") for event in events)
            degraded = [event for event in events if isinstance(event, Degraded)]
            assert [event.what for event in degraded] == ["voice"]
            assert "espeak" in degraded[0].detail
        assert "away" in {listed.name for listed in await client.voices()}
