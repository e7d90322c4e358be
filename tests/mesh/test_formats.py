"""Turns in every encoding and at other rates, decoded as a caller decodes them, and held against PCM."""

import re
from pathlib import Path

import httpx2
import numpy as np
import pytest

from tests.support.command_line import voicemesh
from tests.support.decoding import decoded_file, decoded_mu_law, decoded_opus, likeness, samples_of
from tests.support.mesh import Mesh
from voicemesh.client import Recording, SpeechOptions, VoiceMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "Mind the gap, please. The next train leaves in ten minutes, from platform two. Hold on!"


async def said(client: VoiceMesh, encoding: str, rate_hz: int = 0) -> Recording:
    # Cut at sentences, whatever the clock says: so two turns have the same chunks.
    speech = SpeechOptions(encoding=encoding, sample_rate_hz=rate_hz, policy="sentence")
    return await client.say(TEXT, speech=speech).collect()


def check_places(recording: Recording) -> None:
    """What holds for the frames of a turn in every encoding: no gap and no overlap, chunk by chunk."""
    at = 0
    chunk, sequence, offset = -1, 0, 0
    for frame in recording.frames:
        if frame.chunk_index != chunk:
            assert frame.chunk_index == chunk + 1
            # A frame that a chunk ends in takes the beginning of the next one with it.
            chunk, sequence, offset = frame.chunk_index, 0, frame.offset_samples
            assert offset < recording.format.sample_rate_hz // 4
        assert (frame.sequence, frame.offset_samples) == (sequence, offset)
        assert frame.turn_offset_samples == at
        at, offset, sequence = at + frame.samples, offset + frame.samples, sequence + 1
    assert chunk == len(recording.report.chunks) - 1
    assert at * 1000 / recording.format.sample_rate_hz == pytest.approx(recording.report.audio_ms, abs=0.1)


@pytest.mark.parametrize(
    ("encoding", "rate_hz", "told_hz"),
    [
        ("pcm_s16le", 16000, 16000),
        ("mulaw", 8000, 8000),
        ("opus", 48000, 48000),
        ("opus", 0, 24000),
        ("opus", 8000, 8000),
        ("flac", 0, 22050),
        ("flac", 44100, 44100),
        ("mp3", 0, 22050),
        ("aac", 24000, 24000),
    ],
)
async def test_what_is_decoded_is_what_was_said(
    client: VoiceMesh, encoding: str, rate_hz: int, told_hz: int
) -> None:
    recording = await said(client, encoding, rate_hz)
    assert (recording.format.encoding, recording.format.sample_rate_hz) == (encoding, told_hz)
    assert recording.report.outcome == "completed"
    check_places(recording)
    pcm = samples_of((await said(client, "pcm_s16le", told_hz)).audio)
    assert sum(frame.samples for frame in recording.frames) == len(pcm)
    match encoding:
        case "pcm_s16le":
            assert np.array_equal(samples_of(recording.audio), pcm)
        case "mulaw":
            assert likeness(decoded_mu_law(recording.audio), pcm) > 0.999
        case "opus":
            packets = [frame.audio for frame in recording.frames]
            heard = decoded_opus(packets, told_hz, recording.format.preskip_samples)
            # The codec keeps what is heard and not the wave: alike it is all the same, and in its place.
            assert likeness(heard[:: 48000 // told_hz], pcm) > 0.9
        case "flac":
            heard, heard_hz = decoded_file(recording.audio)
            assert heard_hz == told_hz
            assert np.array_equal(heard, pcm)
        case _:
            heard, heard_hz = decoded_file(recording.audio)
            assert heard_hz == told_hz
            shifts = (0, recording.format.preskip_samples)
            assert max(likeness(heard[shift:], pcm) for shift in shifts) > 0.95


async def test_callers_of_all_encodings_share_what_is_cached(client: VoiceMesh) -> None:
    text = "Nobody has said this before, in no encoding."
    speech = SpeechOptions(encoding="opus", sample_rate_hz=16000)
    first = await client.say(text, speech=speech).collect()
    second = await client.say(text, speech=SpeechOptions(encoding="flac", sample_rate_hz=16000)).collect()
    other = await client.say(text, speech=SpeechOptions(encoding="flac", sample_rate_hz=8000)).collect()
    assert {chunk.cache for chunk in first.report.chunks} == {"miss"}
    assert {chunk.cache for chunk in second.report.chunks} == {"memory"}
    assert {chunk.cache for chunk in other.report.chunks} == {"miss"}


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("mp3", "audio/mpeg"),
        ("opus", "audio/ogg"),
        ("aac", "audio/aac"),
        ("flac", "audio/flac"),
    ],
)
async def test_http_gives_files_that_are_opened(mesh: Mesh, name: str, media_type: str) -> None:
    transport = httpx2.AsyncHTTPTransport(uds=f"{mesh.folder}/http.sock")
    async with httpx2.AsyncClient(transport=transport, base_url="http://mesh", timeout=30) as http:
        # One chunk: how more are cut, and so their pauses, depends on how fast they are spoken.
        text = "This is one sentence."
        response = await http.post("/v1/audio/speech", json={"input": text, "response_format": name})
        assert response.headers["content-type"] == media_type
        heard, rate_hz = decoded_file(response.content)
        raw = await http.post("/v1/audio/speech", json={"input": text, "response_format": "pcm"})
    length_s = len(raw.content) / 2 / 22050
    assert len(heard) / rate_hz == pytest.approx(length_s, abs=0.12)
    if name == "opus":
        # The last page says how many samples count, exactly.
        assert abs(len(heard) / 48000 - length_s) < 0.001
    assert np.abs(heard).max() > 5000


@pytest.mark.parametrize("end", ["flac", "opus", "mp3", "aac", "ulaw", "wav"])
async def test_the_command_line_writes_the_file_that_is_named(mesh: Mesh, tmp_path: Path, end: str) -> None:
    out = tmp_path / f"said.{end}"
    address = mesh.address("gateway")
    said = await voicemesh("say", TEXT, "--out", str(out), "--rate", "16000", "--addr", address)
    assert said.status == 0
    length = re.search(r"\((\d+\.\d+) s, 16000 Hz\)", said.out)
    assert length is not None
    if end == "ulaw":
        heard, rate_hz = decoded_mu_law(out.read_bytes()), 16000
    else:
        heard, rate_hz = decoded_file(out.read_bytes())
    assert len(heard) / rate_hz == pytest.approx(float(length[1]), abs=0.2)
    if end == "flac":
        # Players that look at the header alone know how long it is.
        assert int.from_bytes(out.read_bytes()[18:26], "big") & (2**36 - 1) == len(heard)
