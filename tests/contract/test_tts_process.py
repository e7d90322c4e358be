"""The TTS service as a process: start, drain, end."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.tts.servicer import SERVICE
from tests.contract.tts_harness import (
    CONFIGURE,
    EOF,
    GUARD_S,
    LONG,
    chunk_event,
    eventually,
)
from voicemesh.runtime.channels import open_channel
from voicemesh.tts.v1 import tts_pb2, tts_pb2_grpc


@asynccontextmanager
async def process(
    tmp_path: Path, **environment: str
) -> AsyncIterator[tuple[psutil.Process, Any, grpc.aio.Channel]]:
    address = f"unix:{tmp_path}/tts.sock"
    with (tmp_path / "log").open("w") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.tts",
            env={**os.environ, "VOICEMESH_TTS_LISTEN": address, **environment},
            stderr=log,
        )
    channel = open_channel(address)
    try:
        yield psutil.Process(child.pid), child, channel
    finally:
        await channel.close(None)
        if child.returncode is None:
            child.kill()
        await child.wait()


async def serving_now(channel: grpc.aio.Channel) -> bool:
    try:
        response = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=SERVICE), wait_for_ready=True, timeout=GUARD_S
        )
    except grpc.aio.AioRpcError:
        return False
    return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


async def test_the_process_serves_drains_and_leaves_no_worker(tmp_path):
    voices = '[{"name": "sim", "engine": "simulated", "replicas": 2, "options": {"rtf": 0.01}}]'
    async with process(tmp_path, VOICEMESH_TTS_VOICES=voices) as (parent, child, channel):
        await eventually(lambda: serving_now(channel))
        workers = parent.children()
        assert len(workers) == 2
        stub: Any = tts_pb2_grpc.TtsServiceStub(channel)
        call = stub.Synthesize(timeout=GUARD_S)
        await call.write(tts_pb2.SynthesizeRequest(**CONFIGURE))
        await call.write(tts_pb2.SynthesizeRequest(**chunk_event(0, LONG)))
        await call.read()
        # To the whole group, as a terminal does it: workers leave signals to the service.
        for member in (parent, *workers):
            member.send_signal(signal.SIGINT)
        await call.done_writing()
        last = None
        while (response := await call.read()) is not EOF:
            last = response
        assert last is not None
        assert last.finished.total_samples > 0
        assert not last.finished.resumed
        assert await child.wait() == 0
        assert not any(worker.is_running() for worker in workers)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends stopped orphans on Linux only")
async def test_workers_do_not_outlive_a_killed_service_even_when_stopped(tmp_path):
    async with process(tmp_path) as (parent, child, channel):
        await eventually(lambda: serving_now(channel))
        workers = parent.children()
        workers[0].send_signal(signal.SIGSTOP)
        child.kill()
        await child.wait()

        async def gone() -> bool:
            return not any(w.is_running() and w.status() != psutil.STATUS_ZOMBIE for w in workers)

        await eventually(gone)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        (
            "VOICEMESH_TTS_VOICES",
            '[{"name": "e", "engine": "espeak", "language": "xx"}]',
            "espeak has no 'xx'",
        ),
        ("VOICEMESH_TTS_DEFAULT_VOICE", "espeak/xx", "VOICEMESH_TTS_DEFAULT_VOICE"),
    ],
)
async def test_a_declaration_that_only_the_engine_can_judge_ends_the_process(tmp_path, variable, value, says):
    async with process(tmp_path, **{variable: value}) as (_, child, _):
        assert await asyncio.wait_for(child.wait(), GUARD_S) == 2
        assert says in (tmp_path / "log").read_text()
