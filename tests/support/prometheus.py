"""A real Prometheus for tests, with the rules that are shipped; scrapes and evaluates once a second."""

import asyncio
import json
import pathlib
import re
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tests.support.programs import program

RULES = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "observability" / "prometheus" / "rules"
_LISTENING = re.compile(r'msg="Listening on" address=(\S+)')
_READY_S = 60.0


class Prometheus:
    """Asks it over its HTTP API; `base_url` is where it answers."""

    def __init__(self, base_url: str, client: httpx2.AsyncClient) -> None:
        self.base_url = base_url
        self._client = client

    async def get(self, path: str, **parameters: str) -> Any:
        """Return the `data` of an answer; an error of Prometheus' own fails the test with its text."""
        answer = await self._client.get(f"{self.base_url}/api/v1/{path}", params=parameters)
        told = answer.json()
        assert told["status"] == "success", f"{path} {parameters}: {told.get('error')}"
        return told["data"]

    async def query(self, expr: str) -> list[Any]:
        """Return the series that a query gives now."""
        data = await self.get("query", query=expr)
        assert data["resultType"] == "vector", expr
        found: list[Any] = data["result"]
        return found

    async def until(self, expr: str, within_s: float = 60.0) -> list[Any]:
        """Wait until a query gives something; return it."""
        async with asyncio.timeout(within_s):
            while True:
                if found := await self.query(expr):
                    return found
                await asyncio.sleep(0.1)


@asynccontextmanager
async def prometheus(folder: pathlib.Path, targets: Mapping[str, str]) -> AsyncIterator[Prometheus]:
    """Run one that scrapes `targets`: job to `HOST:PORT`. Its process always ends."""
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [f"{RULES}/*.yml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()
        ],
    }
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config))  # JSON is YAML
    process = await asyncio.create_subprocess_exec(
        program("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--enable-feature=exemplar-storage",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    lines: list[str] = []
    reading: asyncio.Task[None] | None = None
    try:
        address = ""
        async with asyncio.timeout(_READY_S):
            while not address:
                line = (await process.stderr.readline()).decode()
                assert line, "prometheus ended:\n" + "".join(lines[-5:])
                lines.append(line)
                if found := _LISTENING.search(line):
                    address = found[1]
        reading = asyncio.create_task(_drain(process.stderr), name="log of prometheus")
        async with httpx2.AsyncClient() as client:
            yield Prometheus(f"http://{address}", client)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)  # what it has stored is thrown away in any case
        await process.wait()
        if reading is not None:
            await reading


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.readline():
        pass
