"""The cache service as a process of its own: its settings, its start and its end."""

import asyncio
import json
import os
import pathlib
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.cache.settings import CacheSettings
from tests.contract.cache_harness import GUARD_S, Stream, audio, audio_key
from tests.support.redis_server import redis_server
from voicemesh.cache.v1 import cache_pb2, cache_pb2_grpc
from voicemesh.runtime import settings
from voicemesh.runtime.channels import open_channel
from voicemesh.runtime.errors import SettingsError

ROOT = pathlib.Path(__file__).resolve().parents[2]


@asynccontextmanager
async def process(*program: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        *(program or ("-m", "services.cache")),
        cwd=ROOT,
        # Redis is given everything at once: what is worth keeping has tests of its own.
        env={**os.environ, "VOICEMESH_CACHE_ADMIT_REQUESTS": "1", **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(2 * GUARD_S):
            yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def logged(running: asyncio.subprocess.Process, event: str) -> dict[str, object]:
    assert running.stderr is not None
    while line := await running.stderr.readline():
        entry = json.loads(line)
        if entry["event"] == event:
            return dict(entry)
    pytest.fail(f"the process ended before it logged {event!r}")


async def warned(running: asyncio.subprocess.Process, many: int) -> set[str]:
    """Return the events of the next warnings."""
    assert running.stderr is not None
    events: set[str] = set()
    while len(events) < many and (line := await running.stderr.readline()):
        entry = json.loads(line)
        if entry["level"] == "warning":
            events.add(entry["event"])
    return events


async def test_it_serves_with_a_redis_that_is_not_there_and_ends_in_order(unix_address: str) -> None:
    url = "redis://:sesame@127.0.0.1:1/0"
    async with process(VOICEMESH_CACHE_LISTEN=unix_address, VOICEMESH_REDIS_URL=url) as running:
        assert (await logged(running, "settings"))["VOICEMESH_REDIS_URL"] == "set"
        warning = await logged(running, "Redis does not answer; memory only")
        assert warning["address"] == "redis://127.0.0.1:1/0"
        assert "sesame" not in str(warning)
        channel = open_channel(unix_address)
        async with channel, Stream(cache_pb2_grpc.CacheServiceStub(channel)) as stream:
            assert (await stream.put(audio_key(), audio())).done == cache_pb2.Done(degraded=True)
            assert (await stream.get(audio_key())).HasField("hit")
        running.send_signal(signal.SIGTERM)
        assert (await logged(running, "stopped"))["exit_status"] == 0
        assert await running.wait() == 0


async def test_what_was_put_before_the_end_is_in_redis(unix_address: str) -> None:
    async with redis_server() as redis:
        async with process(VOICEMESH_CACHE_LISTEN=unix_address, VOICEMESH_REDIS_URL=redis.url) as running:
            await logged(running, "Redis answers")
            channel = open_channel(unix_address)
            async with channel, Stream(cache_pb2_grpc.CacheServiceStub(channel)) as stream:
                for number in range(50):
                    await stream.put(audio_key(str(number)), audio())
            running.send_signal(signal.SIGTERM)
            assert await running.wait() == 0
        async with redis.client() as client:
            assert await client.dbsize() == 50


async def test_it_says_as_loudly_that_redis_is_back_as_that_it_is_gone(unix_address: str) -> None:
    async with (
        redis_server() as redis,
        process(VOICEMESH_CACHE_LISTEN=unix_address, VOICEMESH_REDIS_URL=redis.url) as running,
    ):
        await logged(running, "Redis answers")
        await redis.kill()
        channel = open_channel(unix_address)
        async with channel, Stream(cache_pb2_grpc.CacheServiceStub(channel)) as stream:
            await stream.get(audio_key())
        events = {
            "Redis does not answer; memory only",
            "what other cache services remove is not heard until Redis answers again",
        }
        assert await warned(running, len(events)) == events
        await redis.start()
        events = {"Redis answers again", "what other cache services remove is heard again"}
        assert await warned(running, len(events)) == events


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """Return an HTTP/2 frame of the connection."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + bytes(4) + payload


async def test_a_connection_that_is_given_up_is_no_line_of_the_log(unix_address: str) -> None:
    """A peer gives one up whose process stood still; gRPC would tell of that between the lines."""
    settings_frame, ack, go_away = frame(4), frame(4, flags=1), (11).to_bytes(8, "big") + b"ping_timeout"
    async with process(VOICEMESH_CACHE_LISTEN=unix_address, GRPC_VERBOSITY="") as running:
        await logged(running, "serving")
        reader, writer = await asyncio.open_unix_connection(unix_address.removeprefix("unix:"))
        try:
            writer.write(PREFACE + settings_frame)
            await reader.readexactly(9)  # its settings begin: the connection is one
            writer.write(ack + frame(7, go_away))
            while await reader.read(1000):
                pass  # it takes leave
        finally:
            writer.close()
        running.send_signal(signal.SIGTERM)
        assert (await logged(running, "stopped"))["exit_status"] == 0  # every line up to it is JSON


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VOICEMESH_REDIS_URL", "http://:sesame@host"),
        ("VOICEMESH_REDIS_URL", "redis://:sesame@host:port/0"),
        ("VOICEMESH_CACHE_MEMORY_BYTES", "12"),
        ("VOICEMESH_CACHE_MAX_VALUE_BYTES", "4194304"),
        ("VOICEMESH_CACHE_LISTEN", "nowhere"),
    ],
)
async def test_a_wrong_setting_is_named_and_its_secret_is_not(name: str, value: str) -> None:
    async with process(**{"VOICEMESH_CACHE_LISTEN": "127.0.0.1:0", name: value}) as running:
        assert running.stderr is not None
        text = (await running.stderr.read()).decode()
        assert await running.wait() == 2
    assert name in text
    assert "sesame" not in text


def test_an_empty_redis_url_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEMESH_REDIS_URL", "")
    assert settings.load(CacheSettings).redis_url is None


def test_retries_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEMESH_CACHE_REDIS_RETRY_MIN_MS", "5000")
    monkeypatch.setenv("VOICEMESH_CACHE_REDIS_RETRY_MAX_MS", "1000")
    with pytest.raises(SettingsError, match="VOICEMESH_CACHE_REDIS_RETRY_MIN_MS"):
        settings.load(CacheSettings)
