"""The port that tells health alone: to who probes a process as kubelet does, in plain text and by name."""

import asyncio
import pathlib
import signal
import socket
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from tests.contract.tiny_process import HANG_S, NAME, NOT_SERVING, SERVING, Tiny, answer, begin, let_go
from tests.support.certificates import Authority
from voicemesh.chunker.v1 import chunker_pb2_grpc
from voicemesh.runtime.channels import open_channel
from voicemesh.runtime.health import ACCEPTS, ALIVE

UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


async def probe(address: str, name: str) -> int:
    """Ask over a connection of its own, as kubelet does; wait for a process that does not listen yet."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        told = await stub.Check(
            health_pb2.HealthCheckRequest(service=name), wait_for_ready=True, timeout=HANG_S
        )
        return int(told.status)


async def until(address: str, name: str, status: int) -> None:
    """Probe until that is the answer."""
    async with asyncio.timeout(HANG_S):
        while await probe(address, name) != status:  # noqa: ASYNC110 - a probe asks, and is not told
            await asyncio.sleep(0.01)


async def test_a_probe_is_told_the_start_the_drain_and_the_end(socket_folder: pathlib.Path) -> None:
    health = f"unix:{socket_folder}/health.sock"
    with Tiny(socket_folder, VOICEMESH_HEALTH_LISTEN=health) as tiny:
        await until(health, ACCEPTS, SERVING)
        assert await probe(health, ALIVE) == await probe(health, NAME) == await probe(health, "") == SERVING
        async with tiny.channel() as channel:
            held = await begin(channel, "hold")
            assert await answer(held) == "holding"
            tiny.signal(signal.SIGTERM)
            # It has left its door: the port of its callers is closed, and this one answers to the end.
            await tiny.event("drain")
            assert await probe(health, ACCEPTS) == await probe(health, "") == NOT_SERVING
            assert await probe(health, ALIVE) == SERVING
            assert await let_go(held) == "let go"
        assert await tiny.exit_status() == 0
    assert [line["address"] for line in tiny.logged() if line["event"] == "health"] == [health]


async def test_a_process_that_starts_is_alive_and_takes_no_calls(socket_folder: pathlib.Path) -> None:
    health = f"unix:{socket_folder}/health.sock"
    with Tiny(socket_folder, VOICEMESH_HEALTH_LISTEN=health, VOICEMESH_TINY_START="forever") as tiny:
        assert await probe(health, ALIVE) == SERVING
        assert await probe(health, ACCEPTS) == NOT_SERVING
        tiny.signal(signal.SIGTERM)
        assert await tiny.exit_status() == 0


async def test_health_is_told_in_plain_text_where_callers_need_a_certificate(
    socket_folder: pathlib.Path,
) -> None:
    authority = Authority(socket_folder)
    pair = authority.issue("tiny")
    health = f"unix:{socket_folder}/health.sock"
    inside = {
        "VOICEMESH_TLS_CA": str(authority.path),
        "VOICEMESH_TLS_CERT": str(pair.cert),
        "VOICEMESH_TLS_KEY": str(pair.key),
    }
    with Tiny(socket_folder, VOICEMESH_HEALTH_LISTEN=health, **inside) as tiny:
        await until(health, ACCEPTS, SERVING)
        async with open_channel(tiny.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=HANG_S
                )
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        tiny.signal(signal.SIGTERM)
        assert await tiny.exit_status() == 0


async def test_nothing_but_health_is_told(socket_folder: pathlib.Path) -> None:
    health = f"unix:{socket_folder}/health.sock"
    with Tiny(socket_folder, VOICEMESH_HEALTH_LISTEN=health):
        await until(health, ALIVE, SERVING)
        async with grpc.aio.insecure_channel(health) as channel:
            chunker: Any = chunker_pb2_grpc.ChunkerServiceStub(channel)
            assert await chunker.Chunk().code() is UNIMPLEMENTED
            reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
            assert await reflection.ServerReflectionInfo().code() is UNIMPLEMENTED


async def test_an_address_that_is_taken_is_named(socket_folder: pathlib.Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with Tiny(socket_folder, VOICEMESH_HEALTH_LISTEN=address) as tiny:
            assert await tiny.exit_status() == 3
    assert f"cannot listen on {address}: in use" in tiny.text()
    assert "VOICEMESH_HEALTH_LISTEN" in tiny.text()


async def test_a_wrong_address_is_named(socket_folder: pathlib.Path) -> None:
    with Tiny(socket_folder, VOICEMESH_HEALTH_LISTEN="50060") as tiny:
        assert await tiny.exit_status() == 2
    assert "VOICEMESH_HEALTH_LISTEN: must be HOST:PORT" in tiny.text()
