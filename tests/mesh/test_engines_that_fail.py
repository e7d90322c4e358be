"""What a caller hears when an engine fails for good: another voice, or a request to speak by itself."""

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
import pytest

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


def fused_voices(fuse: pathlib.Path, letters: int, fallback: list[str] | None = None) -> str:
    fused = {
        "name": "fused",
        "engine": "tests.contract.own_engine_with_a_fuse:FusedEngine",
        "options": {"fuse": str(fuse), "letters": letters},
        "fallback": fallback or [],
        "breaker": {"failures": 1, "open_s": 0.2},
    }
    return json.dumps([fused, {"name": "espeak", "engine": "espeak"}])


@asynccontextmanager
async def fused_mesh(
    fuse: pathlib.Path, letters: int, fallback: list[str] | None = None
) -> AsyncIterator[VoiceMesh]:
    voices = fused_voices(fuse, letters, fallback)
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


@asynccontextmanager
async def blown_http(fuse: pathlib.Path, letters: int) -> AsyncIterator[httpx2.AsyncClient]:
    voices = fused_voices(fuse, letters)
    async with running_mesh(VOICEMESH_TTS_VOICES=voices, VOICEMESH_TTS_MAX_ATTEMPTS="0") as mesh:
        await asyncio.to_thread(fuse.touch)
        transport = httpx2.AsyncHTTPTransport(uds=f"{mesh.folder}/http.sock")
        async with httpx2.AsyncClient(transport=transport, base_url="http://mesh", timeout=30) as http:
            yield http


async def test_over_http_a_text_that_nobody_speaks_is_an_error(tmp_path) -> None:
    """Its callers cannot be asked to speak themselves."""
    async with blown_http(tmp_path / "fuse", letters=0) as http:
        refused = await http.post("/v1/audio/speech", json={"input": TEXT})
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "no_engine"
    assert int(refused.headers["retry-after"]) > 0


@pytest.mark.parametrize("response_format", ["pcm", "opus"])
async def test_over_http_audio_that_lacks_a_part_does_not_end_as_if_it_were_whole(
    tmp_path, response_format
) -> None:
    async def listen(http: httpx2.AsyncClient) -> None:
        body = {"input": TEXT, "response_format": response_format}
        async with http.stream("POST", "/v1/audio/speech", json=body) as response:
            assert response.status_code == 200
            async for part in response.aiter_bytes():
                assert part

    async with blown_http(tmp_path / "fuse", letters=20) as http:
        with pytest.raises(httpx2.RemoteProtocolError):
            await listen(http)
