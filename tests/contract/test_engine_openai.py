"""The engine that asks a server of OpenAI's speech protocol, against one over real HTTP."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.tts.core.model import Done, ReplicaStartError, VoiceSpec
from services.tts.process import launch_worker
from tests.contract.engine_harness import TEXT, Ear, Speaker, check, speaker
from tests.support.openai_server import OpenAiServer, Reply
from tests.support.openai_speech import RATE_HZ, Speech, speech_of, wav_of

KEY = "sk-secret-0123456789"
LONG = f"{TEXT} " * 20


@pytest.fixture(autouse=True)
def key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("A_KEY", KEY)
        yield


def declared(server: OpenAiServer, **options: Any) -> VoiceSpec:
    options = {"base_url": server.base_url, "api_key_env": "A_KEY", **options}
    return VoiceSpec("api", "openai", 1, "en", options, trim_silence=False)


@asynccontextmanager
async def speaking(**options: Any) -> AsyncIterator[tuple[OpenAiServer, Speaker]]:
    async with OpenAiServer() as server, speaker(declared(server, **options)) as voice:
        yield server, voice


async def failure(voice: Speaker, text: str = TEXT, **values: Any) -> str:
    take = await voice.speak(text, **values)
    assert isinstance(take.end, str), take.end
    assert KEY not in take.end
    return take.end


async def test_it_asks_as_the_protocol_says():
    async with speaking(model="m-1", voices=["Alloy", "Nova"], instructions="Calmly.") as (server, voice):
        assert [variant.name for variant in voice.replica.capabilities.variants] == ["alloy", "nova"]
        take = await voice.speak(TEXT, variant="nova", speed=1.5)
        request = server.speeches[0]
        assert request.method == "POST"
        assert request.path == "/v1/audio/speech"
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.body == {
            "model": "m-1",
            "voice": "Nova",
            "input": TEXT,
            "response_format": "pcm",
            "speed": 1.5,
            "instructions": "Calmly.",
        }
        assert take.pcm == speech_of(request.body)
        assert take.done == Done(take.samples, take.done.engine_us, cancelled=False)


async def test_frames_leave_as_bytes_come():
    async with speaking() as (server, voice):
        server.script_speech(Speech(hangs_after=2))
        request, take = voice.begin(TEXT)
        await voice.reached(take, 2000)
        assert take.end is None
        voice.replica.cancel(request)
        await voice.ended(take)
        assert take.done.cancelled
        await asyncio.wait_for(server.speeches[0].disconnected.wait(), 30)


@pytest.mark.parametrize("reply", [Speech(hangs_before_headers=True), Speech(hangs_after=0)])
async def test_a_cancel_closes_the_connection_before_the_first_byte_too(reply):
    async with speaking(silence_timeout_s=60, timeout_s=60) as (server, voice):
        server.script_speech(reply)
        request, take = voice.begin(TEXT)
        asked = await server.speech(0)
        voice.replica.cancel(request)
        await voice.ended(take)
        assert take.done.cancelled
        assert not take.frames
        await asyncio.wait_for(asked.disconnected.wait(), 30)
        assert (await voice.speak(TEXT)).samples


async def test_a_slow_listener_slows_the_server_down():
    async with speaking() as (server, voice):
        audio = bytes(2 * RATE_HZ * 200)
        server.script_speech(Speech(audio=b"\1\1" + audio))
        request, take = voice.begin(TEXT, window_samples=2000)
        await voice.reached(take, 2000)
        assert not server.speeches[0].answered.is_set()
        voice.replica.grant(request, 2**40)
        await voice.ended(take)
        assert take.samples == len(audio) // 2 + 1


async def test_more_requests_than_slots_wait():
    async with speaking(slots=2) as (server, voice):
        server.script_speech(Speech(hangs_before_headers=True), Speech(hangs_before_headers=True))
        begun = [voice.begin(f"Number {number}.") for number in range(4)]
        await server.speech(1)
        assert len(server.speeches) == 2
        voice.replica.cancel(begun[0][0])
        voice.replica.cancel(begun[1][0])
        await voice.ear.until(lambda: all(take.end for _, take in begun))
        assert {request.body["input"] for request in server.speeches[2:]} == {"Number 2.", "Number 3."}


@pytest.mark.parametrize(
    "reply",
    [
        Reply.error(429, retry_after="0.05"),
        Reply.error(500),
        Reply.error(503, retry_after="0"),
        Speech(cut_after=0),
        Speech(audio=b""),
    ],
)
async def test_what_fails_before_the_first_byte_is_tried_again(reply):
    async with speaking(silence_timeout_s=30) as (server, voice):
        server.script_speech(reply, reply)
        take = await voice.speak(TEXT)
        assert take.pcm == speech_of({"input": TEXT, "voice": "alloy", "model": "gpt-4o-mini-tts"})
        assert len(server.speeches) == 3
        server.script_speech(*[reply] * 3)
        assert "3 tries" in await failure(voice)
        assert (await voice.speak(TEXT)).samples


async def test_a_wait_that_is_longer_than_the_listener_can_bear_is_not_waited():
    async with speaking() as (server, voice):
        server.script_speech(Reply.error(429, retry_after="60"))
        assert "HTTP 429: scripted failure" in await failure(voice)
        assert len(server.speeches) == 1


@pytest.mark.parametrize("slices", [1, 3])
async def test_a_stream_that_breaks_is_not_asked_for_again(slices):
    async with speaking() as (server, voice):
        server.script_speech(Speech(cut_after=slices))
        assert "in the middle of the audio" in await failure(voice, LONG)
        assert len(server.speeches) == 1


async def test_a_connection_that_was_kept_and_is_gone_does_no_harm():
    async with speaking() as (server, voice):
        server.script_speech(Speech(), Speech(closes_behind=True))
        for number in range(4):
            assert (await voice.speak(f"Number {number}.")).samples
        assert server.connections >= 2


@pytest.mark.parametrize("reply", [Speech(hangs_before_headers=True), Speech(hangs_after=3)])
async def test_silence_has_an_end(reply):
    async with speaking(silence_timeout_s=2, max_retries=0) as (server, voice):
        server.script_speech(reply)
        assert "silence_timeout_s" in await failure(voice, LONG)
        await asyncio.wait_for(server.speeches[0].disconnected.wait(), 30)


async def test_a_server_that_dawdles_has_an_end():
    async with speaking(timeout_s=0.5, silence_timeout_s=30, max_retries=0) as (server, voice):
        # Each slice comes in time, and all of them together would take a minute.
        server.script_speech(Speech(audio=b"\1\1" * 24000, slice_bytes=100, slice_interval_s=0.125))
        assert "too long for the whole text: see the option timeout_s" in await failure(voice)
        await asyncio.wait_for(server.speeches[0].disconnected.wait(), 30)


async def test_nobody_who_listens_is_told():
    async with OpenAiServer() as server:
        spec = declared(server, max_retries=1)
    async with speaker(spec) as voice:
        assert "takes no connection" in await failure(voice)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply.error(401, f"bad key {KEY}"), "engine: .*refused the key .HTTP 401.: check A_KEY"),
        (
            Reply.error(404, "no model x"),
            "engine: .*HTTP 404.: no model x; check the options base_url, model",
        ),
        (Reply.error(400, f"too rude {KEY}"), r"engine: .*HTTP 400.: too rude \*\*\*"),
        (Reply.error(429, code="insufficient_quota"), "request: .*HTTP 429: scripted failure$"),
        (Reply.raw(b"<html>Log in</html>", "text/html; charset=utf-8"), "engine: .*answered with text/html"),
        (Reply.raw(b"<html>Log in</html>", "audio/pcm"), "engine: .*a page of HTML where PCM"),
        (Reply.raw(b"{}", "application/json"), "engine: .*answered with application/json"),
        (Speech(audio=wav_of(bytes(5000), 8000)), "engine: .*sample_rate_hz to 8000"),
    ],
)
async def test_refusals_say_whose_fault_it_is(reply, says):
    async with speaking() as (server, voice):
        server.script_speech(reply)
        said = await failure(voice)
        assert re.search(says, said), said
        assert len(server.speeches) == 1


async def test_a_text_is_at_fault_where_the_server_has_spoken_before():
    body = b'{"error": {"message": "too long", "param": "input", "code": null}}'
    fastapi = b'{"detail": [{"loc": ["body", "voice"], "msg": "no such voice"}]}'
    async with speaking() as (server, voice):
        server.script_speech(Reply(status=400, body=body))
        assert (await failure(voice)).startswith(
            "text: the speech server refused the request (HTTP 400): too"
        )
        assert (await voice.speak(TEXT)).samples
        server.script_speech(Reply.error(400, "policy"), Reply(status=422, body=fastapi), Reply.error(413))
        assert (await failure(voice)).startswith("text: ")
        assert (await failure(voice)).startswith("engine: ")
        assert (await failure(voice)).startswith("text: ")


async def test_a_wav_header_is_left_out():
    pcm = speech_of({"input": TEXT, "voice": "v", "model": "m"})
    async with speaking() as (server, voice):
        server.script_speech(Speech(audio=wav_of(pcm), content_type="audio/wav", slice_bytes=7))
        assert (await voice.speak(TEXT)).pcm == pcm


async def test_long_texts_are_asked_for_in_pieces():
    async with speaking(max_input_chars=100) as (server, voice):
        take = await voice.speak(LONG)
        check(take, LONG, RATE_HZ)
        inputs = [request.body["input"] for request in server.speeches]
        assert "".join(inputs) == LONG
        assert max(map(len, inputs)) <= 100


async def test_the_address_may_come_from_the_environment(monkeypatch):
    async with OpenAiServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url + "/")
        async with speaker(VoiceSpec("api", "openai", 1, "en", {})) as voice:
            assert (await voice.speak(TEXT)).samples
            assert "authorization" not in server.speeches[0].headers


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "option api_key_env: the environment variable OPENAI_API_KEY is not set"),
        ({"base_url": "ftp://x/v1"}, "option base_url: must be an address"),
        ({"base_url": "http://me:secret@x/v1"}, "without a key, a user"),
        ({"base_url": "http://x:99999/v1"}, "option base_url"),
        ({"base_url": "http://x/v1", "api_key_env": "BAD_KEY"}, "what BAD_KEY holds is no key"),
        ({"base_url": "http://x/v1", "voice": "alloy"}, "option voice: openai has the options base_url"),
        ({"base_url": "http://x/v1", "voices": []}, "option voices: must be a list of 1 to 256"),
        ({"base_url": "http://x/v1", "voices": ["a", "A"]}, "two have the same name"),
        ({"base_url": "http://x/v1", "voices": [" a"]}, "without spaces"),
        ({"base_url": "http://x/v1", "model": ""}, "option model: must be a text"),
        ({"base_url": "http://x/v1", "timeout_s": 0}, "option timeout_s: must be a number from 0.05 to 3600"),
        ({"base_url": "http://x/v1", "slots": 1.5}, "option slots: must be a whole number"),
        ({"base_url": "http://x/v1", "timeout_s": float("nan")}, "option timeout_s"),
    ],
)
async def test_a_wrong_declaration_says_what_it_may_be(monkeypatch, options, says):
    monkeypatch.setenv("BAD_KEY", "two words\x07")
    with pytest.raises(ReplicaStartError, match=says) as caught:
        await launch_worker(VoiceSpec("api", "openai", 1, "en", options), Ear())
    assert caught.value.declaration_at_fault
    assert "secret" not in str(caught.value)
    assert "two words" not in str(caught.value)


async def test_revisions_tell_what_sounds_different():
    revisions = set()
    changes: list[dict[str, object]] = [
        {},
        {"model": "m"},
        {"voices": ["b"]},
        {"instructions": "Softly."},
        {"slots": 3},
    ]
    for change in changes:
        options = {"base_url": "http://127.0.0.1:9/v1", **change}
        async with speaker(VoiceSpec("api", "openai", 1, "en", options)) as voice:
            revisions.add(voice.replica.capabilities.revision)
    assert len(revisions) == 4
