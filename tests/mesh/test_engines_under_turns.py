"""What the mesh does with work that nobody wants any more, and with engines that die."""

import asyncio
import os
import signal

import grpc
import pytest

from tests.support.mesh import Mesh
from voicemesh.client import Chunk, Frame, SpeechOptions, VoiceMesh
from voicemesh.tts.v1 import tts_pb2
from voicemesh.tts.v1.tts_pb2_grpc import TtsServiceStub

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = " ".join(f"Sentence number {n} of a text that takes a while to say." for n in range(40))


async def test_a_client_that_goes_away_stops_the_work(client: VoiceMesh, mesh: Mesh) -> None:
    async for event in client.say(LONG, speech=SpeechOptions(max_lead_ms=0, cache=False)):
        if isinstance(event, Frame):
            break
    async with grpc.aio.insecure_channel(mesh.address("tts")) as channel:
        stub = TtsServiceStub(channel)
        async with asyncio.timeout(20):
            while True:
                (pool,) = (await stub.GetPoolStats(tts_pb2.GetPoolStatsRequest())).pools
                if not pool.active_leases and not pool.queued_chunks:
                    break
    assert pool.ready_replicas + pool.starting_replicas == 2


async def test_a_worker_killed_in_mid_sentence_costs_no_sample(client: VoiceMesh, mesh: Mesh) -> None:
    options = SpeechOptions(max_lead_ms=0, cache=False)
    undisturbed = await client.say(LONG, speech=options).collect()
    other = asyncio.create_task(client.say(LONG, speech=options).collect())
    audio, killed = b"", False
    async with grpc.aio.insecure_channel(mesh.address("tts")) as channel:
        async for event in client.say(LONG, speech=options):
            if isinstance(event, Frame):
                audio += event.audio
            if isinstance(event, Chunk) and event.index == 10 and not killed:
                killed = True
                stats = await TtsServiceStub(channel).GetPoolStats(tts_pb2.GetPoolStatsRequest())
                for pid in stats.pools[0].worker_pids:
                    os.kill(pid, signal.SIGKILL)
    assert killed
    assert audio == undisturbed.audio
    assert (await other).audio == undisturbed.audio
