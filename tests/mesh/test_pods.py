"""Pods of the overlay `dev` as their manifests have them: probed as kubelet does, spoken to, told to end."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.loopback import free_block
from tests.support.pods import PROBES, Pod, build, pods_of
from tests.support.redis_server import redis_server
from voicemesh.client import Frame, SpeechOptions, VoiceMesh

GUARD_S = 120.0
"""Ends a test that hangs."""
PASSWORD = "dev"
REDIS = f"redis://mesh:{PASSWORD}@redis.voicemesh.svc.cluster.local:6379/0"
SPEECH = SpeechOptions(max_lead_ms=0)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pod]:
    """Make the pods of `dev`, on addresses that no other test has."""
    return pods_of(build("k8s/overlays/dev"), tmp_path_factory.mktemp("pods"), f"{free_block()}.")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(dev: dict[str, Pod]) -> AsyncIterator[dict[str, Pod]]:
    """Start them all, and wait until each may have calls."""
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(GUARD_S):
        redis = await stack.enter_async_context(redis_server(password=PASSWORD))
        told = dev["cache"].environment
        assert told["VOICEMESH_REDIS_URL"] == REDIS
        told["VOICEMESH_REDIS_URL"] = redis.url
        for pod in dev.values():
            await pod.start()
            stack.push_async_callback(pod.process.kill)
        await asyncio.gather(*(pod.until("startupProbe") for pod in dev.values()))
        yield dev


async def test_what_has_started_is_ready_and_alive(running: dict[str, Pod]) -> None:
    for pod in running.values():
        assert [await pod.probe(kind) for kind in PROBES] == [True, True, True], pod.component


async def test_a_process_of_the_manifests_knows_all_that_it_is_told(running: dict[str, Pod]) -> None:
    for pod in running.values():
        said = [line["event"] for line in pod.process.logs]
        assert "settings" in said, pod.component
        assert "unknown setting" not in said, pod.component


async def test_a_turn_goes_through_all_of_them(running: dict[str, Pod]) -> None:
    async with asyncio.timeout(GUARD_S), VoiceMesh(running["gateway"].port("grpc")) as client:
        recording = await client.ask("Why is the sky blue?", speech=SPEECH).collect()
    assert recording.frames
    assert not recording.report.degraded


async def test_a_gateway_is_ready_no_more_from_the_signal_on_and_ends_with_its_last_turn(
    running: dict[str, Pod],
) -> None:
    gateway = running["gateway"]
    async with asyncio.timeout(GUARD_S), VoiceMesh(gateway.port("grpc")) as client:
        turn = client.ask("How do tides work?", speech=SPEECH)
        events = aiter(turn)
        while not isinstance(await anext(events), Frame):
            pass
        gateway.process.process.send_signal(signal.SIGTERM)
        await gateway.until("readinessProbe", passes=False)
        # kubelet leaves alone what is about to end, and would kill nothing here.
        assert await gateway.probe("livenessProbe")
        # Whoever has not heard of it yet is served.
        async with VoiceMesh(gateway.port("grpc")) as late:
            assert [e async for e in late.ask("What is a mesh?", speech=SPEECH) if isinstance(e, Frame)]
        rest = [event async for event in events if isinstance(event, Frame)]
        assert rest
        assert await gateway.process.wait() == 0


async def test_every_other_process_ends_in_order(running: dict[str, Pod]) -> None:
    async with asyncio.timeout(GUARD_S):
        others = [pod for pod in running.values() if pod.component != "gateway"]
        assert [await pod.process.stop() for pod in others] == [0, 0, 0, 0]
