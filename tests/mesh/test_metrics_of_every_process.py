"""A mesh that is scraped: every instrument of every process is there, and nothing of what callers said."""

import asyncio
import json
import pathlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Final

import pytest
import pytest_asyncio
from prometheus_client.samples import Sample

import gateway.instruments
import services.cache.instruments
import services.chunker.instruments
import services.llm.instruments
import services.tts.instruments
from tests.support.mesh import SERVICES, Mesh, running_mesh
from tests.support.openai_server import OpenAiServer, Reply
from tests.support.redis_server import redis_server
from tests.support.scraped import OPENMETRICS, samples_of
from voicemesh.client import SpeechOptions, VoiceMesh
from voicemesh.client.errors import VoiceMeshError
from voicemesh.runtime import breaker_metrics, calls, process_metrics
from voicemesh.runtime.instruments import Instrument, Kind

GUARD_S: Final = 60.0
PROMPT: Final = "What is a lighthouse for?"
ALIKE: Final = "Can you please tell me what a lighthouse is for?"
SESSION: Final = "a-session-of-its-own"
OWN: Final[dict[str, ModuleType]] = {
    "llm": services.llm.instruments,
    "chunker": services.chunker.instruments,
    "tts": services.tts.instruments,
    "cache": services.cache.instruments,
    "gateway": gateway.instruments,
}
TROUBLE: Final = {
    gateway.instruments.UNDERRUNS,
    gateway.instruments.UNDERRUN,
    gateway.instruments.DEGRADATIONS,
    gateway.instruments.FAILOVERS,
    gateway.instruments.ACCESS_REFUSALS,
}
"""Of what does not happen in a mesh that is well."""


def instruments_of(name: str) -> set[Instrument]:
    """Return what the process is to show."""
    wanted = {each for each in vars(OWN[name]).values() if isinstance(each, Instrument)} - TROUBLE
    wanted |= {each for each in vars(process_metrics).values() if isinstance(each, Instrument)}
    wanted |= {calls.ACTIVE, calls.CLIENT if name == "gateway" else calls.SERVER}
    return wanted if name == "chunker" else wanted | {breaker_metrics.BREAKER_STATE}


def sample_of(instrument: Instrument) -> str:
    """Return the name of a sample that shows it."""
    return instrument.prometheus + ("_count" if instrument.kind is Kind.HISTOGRAM else "")


class Scraped:
    """A mesh with its addresses to scrape."""

    def __init__(self, mesh: Mesh, provider: OpenAiServer, folder: pathlib.Path) -> None:
        self.mesh = mesh
        self.provider = provider
        self._folder = folder

    async def samples(self, name: str) -> list[Sample]:
        reader, writer = await asyncio.open_unix_connection(self._folder / name)
        writer.write(f"GET /metrics HTTP/1.0\r\nAccept: {OPENMETRICS}\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0]
        return samples_of(body)

    async def missing(self) -> dict[str, set[str]]:
        """Return what the processes do not show yet."""
        found = {}
        for name in SERVICES:
            seen = {sample.name for sample in await self.samples(name)}
            if left := {sample_of(each) for each in instruments_of(name)} - seen:
                found[name] = left
        return found


@pytest_asyncio.fixture
async def scraped() -> AsyncIterator[Scraped]:
    """Run a mesh with all that can be measured: Redis, embeddings, a provider, an engine that batches."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vm-metrics-"))
    voices = [{"name": "steps", "engine": "simulated-steps", "options": {"step_ms": 2, "char_ms": 10}}]
    async with (
        OpenAiServer() as provider,
        redis_server() as redis,
        running_mesh(
            OPENAI_BASE_URL=provider.base_url,
            VOICEMESH_REDIS_URL=redis.url,
            VOICEMESH_CACHE_SIMILAR="true",
            VOICEMESH_CACHE_SIMILAR_BASE_URL=provider.base_url,
            VOICEMESH_CACHE_SIMILAR_MODEL="bag",
            VOICEMESH_CACHE_SIMILAR_TIMEOUT_MS="2000",
            VOICEMESH_TTS_VOICES=json.dumps(voices),
            **{f"VOICEMESH_{name.upper()}_METRICS_LISTEN": f"unix:{folder / name}" for name in SERVICES},
        ) as mesh,
    ):
        yield Scraped(mesh, provider, folder)
    shutil.rmtree(folder)


async def test_every_instrument_is_scraped_and_nothing_of_what_callers_said(scraped: Scraped) -> None:
    scraped.provider.script(Reply.error(503))  # it is asked again
    unpaced = SpeechOptions(max_lead_ms=0)
    async with VoiceMesh(scraped.mesh.address("gateway")) as client:
        for prompt in (PROMPT, PROMPT, ALIKE):
            await client.ask(prompt, speech=unpaced).collect()
        scraped.provider.script(Reply(hangs_after=3))
        async with client.converse(speech=unpaced, session_id=SESSION) as conversation:
            await conversation.ask("And what is a buoy for?")
            turn = await conversation.ask("And a pier?")  # spoken over the first
            await turn.collect()
        with pytest.raises(VoiceMeshError):
            await client.say("Hello.", voice="nobody").collect()
    missing: dict[str, set[str]] = {}
    try:
        async with asyncio.timeout(GUARD_S):
            # A turn is measured behind its end, a heartbeat comes once a second.
            while missing := await scraped.missing():  # noqa: ASYNC110 - others set no event here
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"not scraped: {missing}")
    for name in SERVICES:
        holds_nothing_of_callers(await scraped.samples(name))
    scales(await scraped.samples("tts"))


def holds_nothing_of_callers(samples: list[Sample]) -> None:
    """Check that no label has words or names of a caller in it."""
    for sample in samples:
        for value in sample.labels.values():
            assert len(value) <= 64
            assert SESSION not in value
            assert "lighthouse" not in value.lower()


def scales(samples: list[Sample]) -> None:
    """Check that Kubernetes can scale on what waits for a voice, and on what there is for it."""
    shown = {(sample.name, sample.labels.get("voice", "")): sample.value for sample in samples}
    assert shown["voicemesh_tts_slots", "steps"] == 64
    assert 0 <= shown["voicemesh_tts_leases", "steps"] <= 64
    assert shown["voicemesh_tts_queue_depth", "steps"] == 0
