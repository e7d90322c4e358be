"""What breaks, and what the caller sees: against the real processes."""

import asyncio
import signal
from contextlib import AbstractAsyncContextManager

import psutil
import pytest

from tests.support.mesh import Mesh, running_mesh
from tests.support.openai_server import OpenAiServer, Reply
from tests.support.redis_server import redis_server
from voicemesh.client import Degraded, Frame, SpeechOptions, VoiceMesh, VoiceMeshError

UNPACED = SpeechOptions(max_lead_ms=0)
LONG = " ".join(f"Sentence number {n} of a text that takes a while to say." for n in range(40))


async def test_a_provider_that_refuses_the_key_fails_the_turn_and_says_so() -> None:
    async with OpenAiServer() as server:
        server.default = Reply.error(401, "Incorrect API key provided: sk-sec****cret")
        async with running_llm_mesh(server) as mesh, VoiceMesh(mesh.address("gateway")) as client:
            with pytest.raises(VoiceMeshError) as raised:
                await client.ask("Hello?").collect()
            assert (raised.value.code, raised.value.reason) == ("FAILED_PRECONDITION", "LLM_KEY_REFUSED")
            assert "OPENAI_API_KEY" in raised.value.message
            assert "sk-secret" not in raised.value.message
            # Words of the caller's own need no LLM.
            assert (await client.say("Still here.").collect()).report.outcome == "completed"
            for process in mesh.processes.values():
                assert not [line for line in process.lines if "sk-secret" in line]


async def test_a_provider_that_breaks_off_is_spoken_so_far_and_then_fails() -> None:
    async with OpenAiServer() as server:
        server.default = Reply(cut_after=12)
        async with running_llm_mesh(server) as mesh, VoiceMesh(mesh.address("gateway")) as client:
            with pytest.raises(VoiceMeshError) as raised:
                await client.ask("Hello?", speech=UNPACED).collect()
            assert raised.value.reason == "LLM_STREAM_BROKEN"
            assert raised.value.report is not None
            assert raised.value.report.audio_ms > 0
            server.default = Reply()
            recording = await client.ask("And now?", speech=UNPACED).collect()
            assert recording.report.outcome == "completed"
            assert recording.text.startswith("Hello, this is the scripted model.")


async def test_an_interrupt_closes_the_providers_stream() -> None:
    async with OpenAiServer() as server:
        server.default = Reply(hangs_after=30)
        async with running_llm_mesh(server) as mesh, VoiceMesh(mesh.address("gateway")) as client:
            async with client.converse() as conversation:
                turn = await conversation.ask("Go on and on.")
                async for event in turn:
                    if isinstance(event, Frame):
                        await conversation.interrupt()
            request = next(r for r in server.requests if r.path.endswith("/chat/completions"))
            async with asyncio.timeout(10):
                await request.disconnected.wait()


def running_llm_mesh(server: OpenAiServer) -> AbstractAsyncContextManager[Mesh]:
    return running_mesh(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-secret-of-the-tests")


async def test_a_cache_that_goes_away_is_done_without_and_comes_back() -> None:
    async with (
        running_mesh(VOICEMESH_GATEWAY_CACHE_BREAKER_S="0.1") as mesh,
        VoiceMesh(mesh.address("gateway")) as client,
    ):
        await client.say("Before.").collect()
        await mesh.processes["cache"].kill()
        events = [event async for event in client.ask("Without a cache?", speech=UNPACED)]
        assert "cache" in {event.what for event in events if isinstance(event, Degraded)}
        await mesh.start("cache")
        async with asyncio.timeout(30):
            while True:
                recording = await client.say("Again.").collect()
                if recording.report.chunks[0].cache == "memory":
                    break


async def test_a_redis_that_is_not_there_costs_no_turn(socket_folder: object) -> None:
    async with (
        running_mesh(VOICEMESH_REDIS_URL=f"unix://{socket_folder}/no-redis.sock") as mesh,
        VoiceMesh(mesh.address("gateway")) as client,
    ):
        first = await client.ask("Is Redis there?", speech=UNPACED).collect()
        again = await client.ask("Is Redis there?", speech=UNPACED).collect()
    assert first.report.outcome == "completed"
    assert again.report.reply_cache == "hit"


async def test_a_redis_that_is_killed_and_restarted_under_turns_fails_none_of_them() -> None:
    async with (
        redis_server() as redis,
        running_mesh(
            VOICEMESH_REDIS_URL=redis.url,
            VOICEMESH_CACHE_REDIS_RETRY_MIN_MS="10",
            VOICEMESH_CACHE_REDIS_RETRY_MAX_MS="50",
        ) as mesh,
        VoiceMesh(mesh.address("gateway")) as client,
    ):
        told, done = asyncio.Event(), asyncio.Event()
        outcomes: list[str] = []

        async def call(caller: int) -> None:
            turn = 0
            while not done.is_set():
                turn += 1
                recording = await client.ask(f"Question {turn} of {caller}?", speech=UNPACED).collect()
                outcomes.append(recording.report.outcome)
                if "cache" in recording.report.degraded:
                    told.set()

        async with asyncio.timeout(120), asyncio.TaskGroup() as callers:
            for caller in range(8):
                callers.create_task(call(caller))
            for _ in range(2):
                told.clear()
                await redis.kill()
                await told.wait()
                await redis.start()
            while (await client.say("Is it back?").collect()).report.degraded:
                pass
            done.set()
        assert set(outcomes) == {"completed"}


async def test_sigterm_lets_turns_finish_and_every_process_exits_with_0() -> None:
    async with running_mesh() as mesh:
        pids = [process.process.pid for process in mesh.processes.values()]
        children = [child for pid in pids for child in psutil.Process(pid).children(recursive=True)]
        assert children, "engines run in processes of their own"
        async with VoiceMesh(mesh.address("gateway")) as client:
            speaking = client.say(LONG, speech=SpeechOptions(max_lead_ms=0, cache=False))
            frames = 0
            stopping: asyncio.Task[dict[str, int]] | None = None
            async for event in speaking:
                if isinstance(event, Frame):
                    frames += 1
                    if stopping is None:
                        stopping = asyncio.create_task(mesh.stop())
            assert speaking.report is not None
            assert speaking.report.outcome == "completed"
            assert stopping is not None
            assert await stopping == dict.fromkeys(mesh.processes, 0)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
async def test_a_mesh_whose_supervisor_dies_ends_by_itself(signal_number: int) -> None:
    async with running_mesh() as mesh:
        gateway = mesh.processes["gateway"].process
        gateway.send_signal(signal_number)
        assert await mesh.processes["gateway"].wait() == 0
        for name, process in mesh.processes.items():
            if name != "gateway":
                assert process.process.stdin is not None
                process.process.stdin.close()
                assert await process.wait() == 0
