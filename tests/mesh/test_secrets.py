"""Secrets are where they are used and nowhere else: not in logs, traces, metrics, errors, answers or `ps`."""

import asyncio
import json
import os
import pathlib
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx2
import psutil
import pytest
import pytest_asyncio

from tests.support.openai_server import OpenAiServer, Reply
from tests.support.otlp import otlp_process
from tests.support.redis_server import redis_server
from voicemesh.client import Turn, VoiceMesh, VoiceMeshError
from voicemesh.secret_variables import SERVICES

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = pathlib.Path(__file__).resolve().parents[2]
GUARD_S = 120.0


def mark(name: str) -> str:
    return f"mark{name}{secrets.token_hex(12)}"


MARKS = {name: mark(name) for name in ("openai", "other", "redis", "otlp", "hmac", "caller", "header")}


@dataclass
class Watched:
    """A mesh of `voicemesh up`, and all that it let out."""

    addresses: dict[str, str]
    metrics: dict[str, str]
    pids: dict[str, int]
    spans: pathlib.Path
    lines: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """What callers were told."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched() -> AsyncIterator[Watched]:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vm-"))
    with otlp_process(folder) as (collector, spans):
        async with redis_server(password=MARKS["redis"]) as redis, OpenAiServer() as provider:
            provider.script(
                Reply(tokens=("Hello ", "there. ")), Reply.error(401, f"bad key {MARKS['other']}")
            )
            providers = [
                {
                    "name": "p",
                    "base_url": provider.base_url,
                    "model": "m",
                    "api_key_env": "OTHER_API_KEY",
                    "headers": {"x-extra": MARKS["header"]},
                }
            ]
            environment = {
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "OPENAI_API_KEY": MARKS["openai"],
                "OTHER_API_KEY": MARKS["other"],
                "VOICEMESH_API_KEY": MARKS["caller"],
                "VOICEMESH_LLM_PROVIDERS": json.dumps(providers),
                "VOICEMESH_REDIS_URL": redis.url,
                "VOICEMESH_CACHE_HMAC_KEYS": MARKS["hmac"],
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
                "OTEL_BSP_SCHEDULE_DELAY": "200",
                "OTEL_EXPORTER_OTLP_HEADERS": f"x-token={MARKS['otlp']}",
                "VOICEMESH_LOG_LEVEL": "debug",
                "VOICEMESH_TRACE_CONTENT": "true",
            }
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "voicemesh.cli", "up", "--free-ports", "--json", "--verbose"),
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                limit=1 << 24,
            )
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                async with asyncio.timeout(GUARD_S):
                    ready = json.loads(await process.stdout.readline())
                running = Watched(ready["addresses"], ready["metrics"], ready["pids"], spans)
                reading = asyncio.create_task(_read(process.stderr, running.lines))
                yield running
            finally:
                process.terminate()
                await process.wait()
            await reading


async def _read(stream: asyncio.StreamReader, lines: list[str]) -> None:
    while line := await stream.readline():
        lines.append(line.decode())


async def test_each_process_has_its_own_secrets_and_none_is_in_a_command_line(watched: Watched) -> None:
    own = {
        "gateway": {"otlp"},
        "chunker": {"otlp"},
        "tts": {"otlp"},
        "llm": {"otlp", "openai", "other", "header"},
        "cache": {"otlp", "redis", "hmac"},
    }
    assert watched.pids.keys() == set(SERVICES)
    for name, pid in watched.pids.items():
        process = psutil.Process(pid)
        held = " ".join(process.environ().values())
        assert {secret for secret, text in MARKS.items() if text in held} == own[name], name
        for child in process.children(recursive=True):
            held = " ".join(child.environ().values())
            assert not [secret for secret, text in MARKS.items() if text in held], child.cmdline()
    everybody = [_command_line(process) for process in psutil.Process().children(recursive=True)]
    assert len(everybody) > len(SERVICES)
    assert not [line for line in everybody for text in MARKS.values() if text in line]


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it ended meanwhile
        return ""


async def _failing(turn: Turn) -> list[str]:
    """Return all that a turn tells that fails."""
    with pytest.raises(VoiceMeshError) as failed:
        await turn.collect()
    return [str(failed.value), repr(failed.value)]


def _text_of(path: pathlib.Path) -> str:
    return path.read_text() if path.exists() else ""


async def _exported(spans: pathlib.Path, services: int) -> str:
    """Return what was exported, once so many services have."""
    async with asyncio.timeout(GUARD_S):
        while True:
            text = await asyncio.to_thread(_text_of, spans)
            if sum(f'"voicemesh-{name}"' in text for name in SERVICES) == services:
                return text
            await asyncio.sleep(0.05)


async def test_turns_failures_and_pages_tell_no_secret(watched: Watched) -> None:
    async with VoiceMesh(watched.addresses["gateway"]) as client:
        async for event in client.ask("Hello?"):
            watched.seen.append(repr(event))
        watched.seen += await _failing(client.ask("And now?"))
        watched.seen += await _failing(client.ask("Hi.", voice="nobody"))
    async with httpx2.AsyncClient(timeout=30) as http:
        pages = [
            f"http://{watched.addresses['http']}{path}" for path in ("/", "/metrics", "/v1/nothing", "/live")
        ]
        pages += [f"http://{address}/metrics" for address in watched.metrics.values()]
        for page in pages:
            answer = await http.get(page)
            watched.seen += [answer.text, repr(answer.headers)]
    assert any("there" in text for text in watched.seen)
    assert any("voicemesh_" in text for text in watched.seen)
    assert len(watched.lines) > 20
    exported = await _exported(watched.spans, len(SERVICES))
    for what, texts in (("told", watched.seen), ("logged", watched.lines), ("traced", [exported])):
        found = [secret for secret, text in MARKS.items() if any(text in each for each in texts)]
        assert not found, what
