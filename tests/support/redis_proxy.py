"""Stands between a client and a Redis, and breaks the connection where it is told to."""

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class RedisProxy:
    """Passes bytes on, both ways.

    Attributes:
        cut_before: A request that holds these bytes is not passed on: its connection ends instead.
        cut_within: Bytes of answers after which the connection ends; None: it goes on.
        cuts: How often that happened.

    """

    def __init__(self, path: pathlib.Path, redis_path: str) -> None:
        self._path = path
        self._redis_path = redis_path
        self.cut_before = b""
        self.cut_within: int | None = None
        self.cuts = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"unix://{self._path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection's bytes on until either side ends it."""
        with contextlib.suppress(OSError):
            from_redis, to_redis = await asyncio.open_unix_connection(self._redis_path)
            answers = asyncio.ensure_future(self._answers(from_redis, writer))
            with contextlib.suppress(OSError):
                await self._requests(reader, to_redis)
            to_redis.close()
            await answers
        writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.cut_before and self.cut_before in data:
                self.cuts += 1
                return
            writer.write(data)
            await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.cut_within is not None:
                    data = data[: self.cut_within]
                    self.cut_within -= len(data)
                writer.write(data)
                await writer.drain()
                if self.cut_within == 0:
                    self.cuts += 1
                    break
            writer.close()


@asynccontextmanager
async def redis_proxy(folder: pathlib.Path, redis_url: str) -> AsyncIterator[RedisProxy]:
    """Run a proxy to the Redis at `redis_url`, which is on a Unix socket."""
    proxy = RedisProxy(folder / "redis-proxy.sock", redis_url.removeprefix("unix://"))
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_unix_server(accept, proxy.url.removeprefix("unix://"))
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
