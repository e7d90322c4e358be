"""The Redis of k8s/components/redis and redis-tls, as its pod would run it, on this machine."""

import asyncio
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.support.cert_manager import CertManager, SecretVolume, documents
from tests.support.programs import program

COMPONENTS: Final = Path(__file__).resolve().parents[2] / "k8s" / "components"
PASSWORD: Final = "of-a-test"
NEXT_PASSWORD: Final = "that-comes-next"
_NAME: Final = "redis.voicemesh.svc.cluster.local"
_READY_S: Final = 20.0


class RedisPod:
    """Both containers of the pod.

    Args:
        folder: Stands for the root of its file system.
        name: The host that the certificate is for.

    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        authorities = documents(COMPONENTS / "mtls" / "authorities.yaml")
        text = (COMPONENTS / "redis-tls" / "certificate.yaml").read_text()
        assert _NAME in text
        self.manager = CertManager([*authorities, yaml.safe_load(text.replace(_NAME, name))])
        self.etc, self.run = folder / "etc", folder / "run"
        self.tls = SecretVolume(self.etc / "tls", self.manager.secret("redis-tls"))
        self.run.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        for file in ("redis/redis.conf", "redis/start.sh", "redis-tls/listen.conf", "redis-tls/renew.sh"):
            (self.etc / Path(file).name).write_text(self._here((COMPONENTS / file).read_text()))
        self.processes: list[Process] = []
        self.lines: list[str] = []
        """What the container that renews certificates wrote."""
        self._news = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    def _here(self, text: str) -> str:
        text = text.replace("tls-port 6379", f"tls-port {self.port}").replace("bind * -::*", "bind 127.0.0.1")
        return text.replace("/etc/redis", str(self.etc)).replace("/run/redis", str(self.run))

    def url(self, host: str = "localhost", user: str = "mesh", password: str = PASSWORD) -> str:
        """Return what VOICEMESH_REDIS_URL is, as docs/kubernetes_security.md has it."""
        ca = self.tls.path / "ca.crt"
        return f"rediss://{user}:{password}@{host}:{self.port}/0?ssl_ca_certs={ca}"

    async def start(self) -> None:
        """Start both containers, and wait until the probe is content."""
        hashes = [hashlib.sha256(each.encode()).hexdigest() for each in (PASSWORD, NEXT_PASSWORD)]
        environment = {**os.environ, "REDIS_PASSWORD_SHA256": " ".join(hashes)}
        redis = await asyncio.create_subprocess_exec(
            "sh", str(self.etc / "start.sh"), env=environment, stdout=PIPE, stderr=STDOUT
        )  # fmt: skip
        self.processes.append(redis)
        async with asyncio.timeout(_READY_S):
            while not await self.probe():
                if redis.returncode is not None and redis.stdout is not None:
                    pytest.fail(f"redis-server ended: {(await redis.stdout.read()).decode()}")
                await asyncio.sleep(0.02)
        renewing = await asyncio.create_subprocess_exec(
            "sh", str(self.etc / "renew.sh"), env={**environment, "RENEW_EVERY_S": "0.1"},
            stdout=PIPE, stderr=STDOUT, start_new_session=True,
        )  # fmt: skip
        self.processes.append(renewing)
        self._reader = asyncio.create_task(self._read(renewing))

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            self.lines.append(line.decode().rstrip())
            self._news.set()

    async def says(self, line: str, times: int) -> None:
        """Wait until what renews certificates has written a line so many times."""
        while self.lines.count(line) < times:
            self._news.clear()
            await self._news.wait()

    async def probe(self, file: str = "redis/deployment.yaml", container: str = "redis") -> bool:
        """Run the command of the probes of a container; return whether it is content."""
        (deployment,) = documents(COMPONENTS / file)
        containers = {each["name"]: each for each in deployment["spec"]["template"]["spec"]["containers"]}
        probe = containers[container]["livenessProbe"]
        command = [self._here(word) for word in probe["exec"]["command"]]
        asked = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
        return await asked.wait() == 0

    async def stop(self) -> None:
        """End both."""
        for each in self.processes:
            if each.returncode is None:
                each.terminate()
            await each.wait()
        if self._reader is not None:
            await self._reader


@asynccontextmanager
async def redis_pod(name: str = "localhost") -> AsyncIterator[RedisPod]:
    """Run one; leave the test out where there is no Redis that speaks TLS."""
    needs_tls(program("redis-server"))
    program("redis-cli")
    folder = Path(tempfile.mkdtemp(prefix="vm-redis-pod-"))
    pod = RedisPod(folder, name)
    try:
        await pod.start()
        yield pod
    finally:
        await pod.stop()
        shutil.rmtree(folder)


def needs_tls(server: str) -> None:
    """Leave the test out where a redis-server was built without TLS."""
    command = [server, "--port", "0", "--tls-port", "none"]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=_READY_S, check=False)
    # It stops at the number, or at the setting where it knows none of that name.
    if "argument couldn't be parsed" not in asked.stdout + asked.stderr:
        pytest.skip(f"{server} was built without TLS")
