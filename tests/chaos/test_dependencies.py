"""What the mesh depends on breaks, one thing after another, under a mesh whose logs are on a full disk."""

import asyncio
import json
import os
import pathlib
import resource
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass

import psutil
import pytest
import pytest_asyncio

from tests.support.mesh import SERVICES, Mesh, Own, running_mesh_with
from tests.support.openai_server import TEXT as TEXT_OF_THE_MODEL
from tests.support.openai_server import OpenAiServer, Reply
from tests.support.redis_server import RedisServer, redis_server
from voicemesh.client import Frame, Recording, SpeechOptions, VoiceMesh, VoiceMeshError

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Where text is cut must not depend on the moment: audio is compared.
UNPACED = SpeechOptions(max_lead_ms=0, policy="sentence")
UNCACHED = SpeechOptions(max_lead_ms=0, policy="sentence", cache=False)
TEXT = "The first sentence is here to be heard. The second one is here as well, and it is longer."
GUARD_S = 60.0
FULL = (
    Own(wrapper=("/bin/sh", "-c", 'exec "$0" "$@" 2>/dev/full'))
    if pathlib.Path("/dev/full").exists()
    else Own()
)
"""Nothing that such a process logs can be written."""


@dataclass
class Frail:
    """A mesh and what it depends on."""

    mesh: Mesh
    client: VoiceMesh
    provider: OpenAiServer
    redis: RedisServer

    async def ask(self, prompt: str) -> Recording:
        async with asyncio.timeout(GUARD_S):
            return await self.client.ask(prompt, speech=UNPACED, reply_cache=False).collect()

    async def outcome_of(self, prompt: str) -> Recording | VoiceMeshError:
        try:
            return await self.ask(prompt)
        except VoiceMeshError as error:
            return error

    async def say(self, text: str = TEXT, speech: SpeechOptions = UNCACHED) -> Recording:
        async with asyncio.timeout(GUARD_S):
            return await self.client.say(text, speech=speech).collect()

    async def well_again(self) -> None:
        """Wait until nothing is given up any more."""
        async with asyncio.timeout(GUARD_S):
            while (await self.say("Is all well?", UNPACED)).report.degraded:
                pass


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def frail() -> AsyncIterator[Frail]:
    async with OpenAiServer() as provider, redis_server() as redis:
        environment = {
            "VOICEMESH_LLM_PROVIDERS": json.dumps(
                [
                    {
                        "name": "only",
                        "base_url": provider.base_url,
                        "model": "m",
                        "max_retries": 1,
                        "first_token_timeout_s": 1,
                        "idle_timeout_s": 1,
                        "breaker": {"failures": 1000},
                    }
                ]
            ),
            "VOICEMESH_TTS_STALL_TIMEOUT_S": "0.5",
            "VOICEMESH_REDIS_URL": redis.url,
            "VOICEMESH_CACHE_REDIS_RETRY_MIN_MS": "10",
            "VOICEMESH_CACHE_REDIS_RETRY_MAX_MS": "50",
            "VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS": "200",
            "VOICEMESH_GATEWAY_CACHE_BREAKER_S": "0.1",
        }
        services = [name for name in SERVICES if name != "gateway"]
        async with (
            running_mesh_with(environment, own={"gateway": FULL, "llm": FULL}, proxied=services) as mesh,
            VoiceMesh(mesh.address("gateway")) as client,
        ):
            yield Frail(mesh, client, provider, redis)
            assert set((await mesh.stop()).values()) == {0}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply.error(429, retry_after="0.05"), "LLM_RATE_LIMITED"),
        (Reply.error(500), "LLM_UNAVAILABLE"),
        (Reply(body=b"\x00\xff<html>no event stream</html>"), "LLM_UNAVAILABLE"),
        (Reply(body=b""), "LLM_UNAVAILABLE"),
        (Reply(hangs_after=0), "LLM_UNAVAILABLE"),
        (Reply(cut_after=0), "LLM_UNAVAILABLE"),
    ],
    ids=["429", "500", "garbage", "nothing", "silence", "broken"],
)
async def test_a_provider_that_fails_twice_is_a_typed_error_and_the_next_turn_is_well(
    frail: Frail, reply: Reply, reason: str
) -> None:
    frail.provider.script(reply, reply)
    with pytest.raises(VoiceMeshError) as raised:
        await frail.ask("What now?")
    assert raised.value.reason == reason
    frail.provider.forget()
    assert (await frail.ask("And now?")).text.startswith("Hello, this is the scripted model.")


async def test_a_provider_that_fails_once_is_not_heard(frail: Frail) -> None:
    frail.provider.script(Reply.error(503, retry_after="0.05"))
    assert (await frail.ask("Once more?")).report.outcome == "completed"


async def test_a_stream_that_stops_in_the_middle_goes_on_where_it_stopped(frail: Frail) -> None:
    frail.provider.script(Reply(hangs_after=22))
    recording = await frail.ask("Go on?")
    assert recording.text == TEXT_OF_THE_MODEL
    assert recording.report.degraded == ("resumed",)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_an_engine_that_dies_or_stalls_in_mid_sentence_is_not_heard(
    frail: Frail, number: signal.Signals
) -> None:
    reference = (await frail.say()).audio
    workers = psutil.Process(frail.mesh.processes["tts"].process.pid).children()
    assert workers
    turn, broken, audio = frail.client.say(TEXT, speech=UNCACHED), False, b""
    async with asyncio.timeout(GUARD_S):
        async for event in turn:
            if isinstance(event, Frame):
                audio += event.audio
                if not broken:
                    broken = True
                    for worker in workers:
                        os.kill(worker.pid, number)
    assert audio == reference
    assert turn.report is not None
    assert turn.report.outcome == "completed"


async def test_a_cache_that_is_stopped_costs_no_turn(frail: Frail) -> None:
    reference = (await frail.say()).audio
    cache = frail.mesh.processes["cache"].process
    cache.send_signal(signal.SIGSTOP)
    try:
        first, second = await frail.say(speech=UNPACED), await frail.ask("Who remembers?")
    finally:
        cache.send_signal(signal.SIGCONT)
    assert first.audio == reference
    assert {first.report.outcome, second.report.outcome} == {"completed"}
    assert "cache" in (*first.report.degraded, *second.report.degraded)
    await frail.well_again()


async def test_a_redis_that_is_stopped_costs_no_turn(frail: Frail) -> None:
    frail.redis.pause()
    try:
        recordings = await asyncio.gather(*(frail.say(f"Sentence {n}.", UNPACED) for n in range(4)))
    finally:
        frail.redis.resume()
    assert {recording.report.outcome for recording in recordings} == {"completed"}
    await frail.well_again()


async def test_a_redis_whose_disk_is_full_costs_no_turn(frail: Frail) -> None:
    async with frail.redis.client() as client:
        await client.config_set("save", "3600 1")
        await client.set("something", "to dump")
        resource.prlimit(frail.redis.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        try:
            await client.bgsave()
            async with asyncio.timeout(GUARD_S):
                while (await client.info("persistence"))["rdb_last_bgsave_status"] != "err":
                    pass
            text = "It refuses whatever is to be kept."
            said, again = await frail.say(text, UNPACED), await frail.say(text, UNPACED)
            assert (said.report.outcome, again.report.outcome) == ("completed", "completed")
            assert said.audio == again.audio
        finally:
            limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(frail.redis.pid, resource.RLIMIT_FSIZE, limit)
            await client.config_set("save", "")
    await frail.well_again()


async def test_a_slow_and_lossy_network_costs_time_and_no_sample(frail: Frail) -> None:
    reference, reply = (await frail.say()).audio, (await frail.ask("How far?")).audio
    for proxy in frail.mesh.proxies.values():
        proxy.delay_s, proxy.jitter_s, proxy.loss, proxy.again_s = 0.01, 0.02, 0.05, 0.2
    try:
        said = await asyncio.gather(*(frail.say() for _ in range(3)))
        asked = await asyncio.gather(*(frail.ask("How far?") for _ in range(3)))
    finally:
        for proxy in frail.mesh.proxies.values():
            proxy.delay_s = proxy.jitter_s = proxy.loss = 0.0
    assert {recording.audio for recording in said} == {reference}
    assert {recording.audio for recording in asked} == {reply}
    await frail.well_again()


@pytest.mark.parametrize("name", ["llm", "chunker", "tts", "cache"])
async def test_a_connection_that_is_cut_in_the_middle_ends_turns_in_one_way_and_is_made_anew(
    frail: Frail, name: str
) -> None:
    proxy = frail.mesh.proxies[name]
    reference = (await frail.ask("What was cut?")).audio
    cuts = proxy.cuts
    turn, audio = frail.client.ask("What was cut?", speech=UNCACHED, reply_cache=False), b""
    error: VoiceMeshError | None = None
    try:
        async with asyncio.timeout(GUARD_S):
            async for event in turn:
                if isinstance(event, Frame):
                    audio += event.audio
                    if proxy.cuts == cuts:
                        proxy.cut()
    except VoiceMeshError as raised:
        error = raised
    assert proxy.cuts > cuts
    if error is not None:
        assert error.reason in ("SERVICE_UNAVAILABLE", "LLM_STREAM_BROKEN"), error
        assert reference.startswith(audio)
    elif turn.report is not None and "local_speech" not in turn.report.degraded:
        assert audio == reference
    async with asyncio.timeout(GUARD_S):
        while isinstance(outcome := await frail.outcome_of("What was cut?"), VoiceMeshError):
            assert outcome.reason == "SERVICE_UNAVAILABLE"
    assert outcome.audio == reference
