"""The HTTP edge, as OpenAI's own client and others call it."""

import base64
import io
import json
import struct
import wave
from collections.abc import AsyncIterator

import httpx2
import numpy as np
import openai
import pytest
import pytest_asyncio

from tests.support.decoding import decoded_file
from tests.support.mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "Mind the gap, please."


@pytest_asyncio.fixture(loop_scope="module")
async def http(mesh: Mesh) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.AsyncHTTPTransport(uds=f"{mesh.folder}/http.sock")
    async with httpx2.AsyncClient(transport=transport, base_url="http://mesh", timeout=30) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def client(http: httpx2.AsyncClient) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        api_key="none", base_url="http://mesh/v1", http_client=http, max_retries=0
    ) as opened:
        yield opened


async def test_openais_client_gets_a_wav(client: openai.AsyncOpenAI) -> None:
    response = await client.audio.speech.create(
        input=TEXT, model="voicemesh", voice="espeak/en-gb", response_format="wav"
    )
    data = response.content
    assert struct.unpack("<I", data[4:8]) == (0xFFFFFFFF,)
    # A reader that wants sizes gets them as it would have to write them itself.
    fixed = (
        data[:4]
        + struct.pack("<I", len(data) - 8)
        + data[8:40]
        + struct.pack("<I", len(data) - 44)
        + data[44:]
    )
    with wave.open(io.BytesIO(fixed)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (22050, 1, 2)
        assert sound.getnframes() > 22050 / 2


async def test_pcm_and_server_sent_events_have_the_same_samples(http: httpx2.AsyncClient) -> None:
    pcm = await http.post("/v1/audio/speech", json={"input": TEXT, "response_format": "pcm"})
    assert pcm.headers["content-type"] == "audio/pcm"
    assert pcm.headers["x-voicemesh-turn-id"]
    assert await from_events(http, "pcm") == pcm.content


async def from_events(http: httpx2.AsyncClient, response_format: str) -> bytes:
    body = {"input": TEXT, "stream_format": "sse", "response_format": response_format}
    sse = await http.post("/v1/audio/speech", json=body)
    assert sse.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in sse.text.splitlines() if line]
    assert events[-1] == {"type": "speech.audio.done"}
    assert all(event["type"] == "speech.audio.delta" and event["audio"] for event in events[:-1])
    return b"".join(base64.b64decode(event["audio"]) for event in events[:-1])


@pytest.mark.parametrize("name", ["wav", "mp3", "opus", "aac", "flac"])
async def test_the_events_of_a_stream_are_the_file_in_parts(http: httpx2.AsyncClient, name: str) -> None:
    heard, rate_hz = decoded_file(await from_events(http, name))
    pcm = await http.post("/v1/audio/speech", json={"input": TEXT, "response_format": "pcm"})
    assert len(heard) / rate_hz == pytest.approx(len(pcm.content) / 2 / 22050, abs=0.12)
    assert np.abs(heard).max() > 5000


async def test_who_names_no_format_gets_mp3_as_from_openai(client: openai.AsyncOpenAI) -> None:
    response = await client.audio.speech.create(input=TEXT, model="voicemesh", voice="espeak/en-gb")
    assert response.response.headers["content-type"] == "audio/mpeg"
    heard, _ = decoded_file(response.content)
    assert np.abs(heard).max() > 5000


@pytest.mark.parametrize("name", ["wav", "mp3", "opus", "aac", "flac", "pcm"])
async def test_openais_client_streams_every_format(client: openai.AsyncOpenAI, name: str) -> None:
    parts = []
    async with client.audio.speech.with_streaming_response.create(
        input=TEXT,
        model="tts-1",
        voice="espeak/en-gb",
        response_format=name,  # type: ignore[arg-type] # one of them
        speed=1.5,
    ) as response:
        parts = [part async for part in response.iter_bytes()]
    assert len(parts) > 1
    if name == "pcm":
        assert len(b"".join(parts)) > 22050
    else:
        heard, rate_hz = decoded_file(b"".join(parts))
        assert 0.3 < len(heard) / rate_hz < 2


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, "body"),
        (b"\xff\xfe", 400, "body"),
        (b"{}", 400, "input"),
        (b'{"input": ""}', 400, "input"),
        (b'{"input": "   "}', 400, "input"),
        (b'{"input": "%s"}' % (b"x" * 4097), 400, "input"),
        (b'{"input": "half \\ud800 of a character"}', 400, "body"),
        (b'{"input": "Hi", "speed": 7}', 400, "speed"),
        (b'{"input": "Hi", "response_format": "mp4"}', 400, "response_format"),
        (b'{"input": "Hi", "voice": "nobody"}', 404, "voice"),
        (b'{"input": "%s"}' % (b"x" * 1_000_001), 400, "body"),
    ],
)
async def test_what_is_wrong_is_named(http: httpx2.AsyncClient, body: bytes, status: int, param: str) -> None:
    response = await http.post("/v1/audio/speech", content=body)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert error["message"]


async def test_a_load_balancer_learns_whether_to_send_turns(http: httpx2.AsyncClient) -> None:
    response = await http.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "serving"})


async def test_voices_are_listed(http: httpx2.AsyncClient) -> None:
    voices = (await http.get("/v1/voices")).json()["voices"]
    assert sum(voice["default"] for voice in voices) == 1
    assert "espeak/de" in {voice["name"] for voice in voices}


async def test_the_index_names_what_answers_here(http: httpx2.AsyncClient) -> None:
    index = (await http.get("/")).json()
    assert index["name"] == "voicemesh"
    assert index["version"]
    for endpoint in index["endpoints"]:
        method, path = endpoint.split()
        response = await http.request(method, path)
        assert response.status_code not in (404, 405), endpoint
