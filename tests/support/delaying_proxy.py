"""Stands between a client and a service: a slow, unsteady or broken network, as it is told."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_READ_BYTES = 65_536


class DelayingProxy:
    """Passes bytes on between Unix sockets, both ways and in order.

    Args:
        path: Where it listens.
        target: Where the service listens; looked at when a connection comes.

    Attributes:
        delay_s: How long each byte of the service's answers is held back, from when it came. May be changed
            at any time: bytes never overtake.
        jitter_s: Up to how much longer, by lot.
        loss: Which part of what is read at once is lost on its way, 0 to 1: as TCP sends it again, it and all
            behind it come later by `again_s`.
        again_s: How long that takes; no less than 200 ms with Linux.
        cuts: Connections that `cut` broke.

    """

    def __init__(self, path: str, target: str) -> None:
        self.path = path
        self.target = target
        self.delay_s = 0.0
        self.jitter_s = 0.0
        self.loss = 0.0
        self.again_s = 0.2
        self.cuts = 0
        # Repeatable: the same network each time.
        self._chance = random.Random(7)
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                await self._pass_on(reader, writer)
        finally:
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_service, to_service = await asyncio.open_unix_connection(self.target)
        ends = {writer, to_service}
        self._writers |= ends
        answers = asyncio.ensure_future(self._answers(from_service, writer))
        try:
            while data := await reader.read(_READ_BYTES):
                to_service.write(data)
                await to_service.drain()
            to_service.close()
            await answers
        finally:
            self._writers -= ends
            answers.cancel()
            to_service.close()

    def _held_back_s(self) -> float:
        lost = self.loss and self._chance.random() < self.loss
        return self.delay_s + self.jitter_s * self._chance.random() + (self.again_s if lost else 0.0)

    def cut(self) -> None:
        """Break every connection, in the middle of whatever it carries. New ones are taken."""
        for writer in self._writers:
            writer.transport.abort()
        self.cuts += len(self._writers) // 2

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def write() -> None:
            while True:
                due_s, data = await late.get()
                if (wait_s := due_s - loop.time()) > 0:
                    await asyncio.sleep(wait_s)
                writer.write(data)
                await writer.drain()
                if not data:
                    writer.close()
                    return

        writing = asyncio.ensure_future(write())
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(_READ_BYTES):
                    late.put_nowait((loop.time() + self._held_back_s(), data))
                late.put_nowait((loop.time() + self.delay_s, b""))
                await writing
        finally:
            writing.cancel()

    async def close(self) -> None:
        """End what is open."""
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


@asynccontextmanager
async def delaying_proxy(path: str, target: str) -> AsyncIterator[DelayingProxy]:
    """Run a proxy at `path`, a Unix socket, in front of the service at `target`, another."""
    proxy = DelayingProxy(path, target)
    server = await asyncio.start_unix_server(proxy.accept, path)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()
