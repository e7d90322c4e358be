"""The LLM service as a process of its own."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.contract.llm_harness import GUARD_S, Caller
from tests.support.openai_server import OpenAiServer, Reply
from voicemesh.llm.v1 import llm_pb2, llm_pb2_grpc


@contextlib.asynccontextmanager
async def _process(address: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.llm",
        env=os.environ | {"VOICEMESH_LLM_LISTEN": address} | variables,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(GUARD_S):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _log_until(process: asyncio.subprocess.Process, text: str) -> str:
    assert process.stderr is not None
    while text not in (line := (await process.stderr.readline()).decode()):
        assert line, f"it ended without {text!r}"
    return line


@contextlib.asynccontextmanager
async def _stubs(
    address: str,
) -> AsyncIterator[tuple[llm_pb2_grpc.LlmServiceStub, health_pb2_grpc.HealthStub]]:
    # A server that has ended its last call closes the connection. A client of grpc 1.85 that writes into
    # it at that moment, here its bandwidth probe, drops the answer that it has not read yet.
    options = (("grpc.http2.bdp_probe", 0),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield llm_pb2_grpc.LlmServiceStub(channel), health_pb2_grpc.HealthStub(channel)


async def test_sigterm_lets_the_reply_end_and_exits_with_0(unix_address: str) -> None:
    async with _process(unix_address, VOICEMESH_REHEARSAL_TOKENS_PER_S="200") as process:
        await _log_until(process, '"serving"')
        async with _stubs(unix_address) as (stub, health):
            answer = await health.Check(health_pb2.HealthCheckRequest(service="voicemesh.llm.v1.LlmService"))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            call = Caller(stub)
            await call.start()
            await call.until("delta")
            process.send_signal(signal.SIGTERM)
            await call.to_the_end()
            assert call.finished.reason == llm_pb2.FINISH_REASON_STOP
        assert await process.wait() == 0


async def test_a_real_provider_is_asked_and_the_key_is_never_logged(unix_address: str) -> None:
    async with OpenAiServer(default=Reply(tokens=("Hi",))) as server:
        key = "sk-very-secret"
        async with _process(unix_address, OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY=key) as process:
            assert key not in await _log_until(process, '"settings"')
            await _log_until(process, '"serving"')
            async with _stubs(unix_address) as (stub, _):
                call = Caller(stub)
                await call.start()
                await call.to_the_end()
                assert call.text == "Hi"
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert key.encode() not in await process.stderr.read()
            assert await process.wait() == 0


async def test_a_refused_key_is_logged_as_a_warning(unix_address: str) -> None:
    async with OpenAiServer() as server:
        server.models = Reply.error(401)
        async with _process(unix_address, OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-1") as process:
            line = await _log_until(process, "cannot be used yet")
            assert "HTTP 401" in line
            assert '"level": "warning"' in line
            async with _stubs(unix_address) as (_, health):
                answer = await health.Check(health_pb2.HealthCheckRequest())
                assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


@pytest.mark.parametrize(
    ("variable", "value"), [("VOICEMESH_LLM_PROVIDER", "openai"), ("VOICEMESH_LLM_MAX_RETRIES", "many")]
)
async def test_a_wrong_setting_ends_the_process_with_its_name(
    unix_address: str, variable: str, value: str
) -> None:
    async with _process(unix_address, **{variable: value}) as process:
        await _log_until(process, f"{variable}: ")
        assert await process.wait() == 2


async def test_a_process_that_rehearses_never_loads_the_openai_package() -> None:
    script = (
        "import sys, services.llm.__main__ as m\n"
        "m.providers_of(m.LlmSettings(), __import__('voicemesh.runtime.clock').runtime.clock.SystemClock())\n"
        "sys.exit(3 if {'openai', 'httpx2'} & sys.modules.keys() else 0)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    assert await process.wait() == 0
