"""A mesh whose voice is another mesh: its engine `openai` asks the other's `/v1/audio/speech`."""

import json
import socket
from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio

from tests.support.mesh import running_mesh
from voicemesh.client import SpeechOptions, VoiceMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "Mind the gap, please."
VOICE = "espeak/en-gb"
RATE_HZ = 22050


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def base_url() -> AsyncIterator[str]:
    """Run the mesh that is asked; return where."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    async with running_mesh(VOICEMESH_HTTP_LISTEN=address):
        yield f"http://{address}/v1"


@pytest_asyncio.fixture(loop_scope="module")
async def client(base_url: str) -> AsyncIterator[VoiceMesh]:
    options = {"base_url": base_url, "model": "voicemesh", "voices": [VOICE], "sample_rate_hz": RATE_HZ}
    declared = {"name": "far", "engine": "openai", "language": "en-gb", "options": options}
    async with (
        running_mesh(VOICEMESH_TTS_VOICES=json.dumps([declared])) as near,
        VoiceMesh(near.address("gateway")) as opened,
    ):
        yield opened


async def test_a_mesh_speaks_through_another(base_url: str, client: VoiceMesh) -> None:
    body = {"input": TEXT, "voice": VOICE, "response_format": "pcm"}
    async with httpx2.AsyncClient() as http:
        direct = (await http.post(f"{base_url}/audio/speech", json=body, timeout=30)).content
    assert [voice.name for voice in await client.voices()] == ["far"]
    recording = await client.say(TEXT, speech=SpeechOptions(max_lead_ms=0)).collect()
    # The near mesh shapes the edges once more; what is between them is what the far one said.
    third = len(direct) // 6 * 2
    assert third > RATE_HZ / 2
    assert direct[third : 2 * third] in recording.audio
