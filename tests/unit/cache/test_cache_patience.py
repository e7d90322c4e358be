"""Who answered in time is not taken for late because this process was."""

import asyncio
import socket
import time

import pytest

from services.cache.patience import patience


async def test_an_answer_that_lies_there_counts() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    with theirs:

        async def busy() -> None:
            theirs.send(b"answer")
            time.sleep(0.02)  # noqa: ASYNC251 - this is the process that is late

        task = asyncio.create_task(busy())
        async with patience(0.005):
            assert await reader.readexactly(6) == b"answer"
        await task
        writer.close()
        await writer.wait_closed()


async def test_silence_is_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        async with patience(0.001):
            await asyncio.Event().wait()


async def test_a_block_that_ends_in_time_is_left_alone() -> None:
    async with patience(0.001):
        pass
    await asyncio.sleep(0.005)


async def test_a_cancellation_is_none_of_its_business() -> None:
    async def wait() -> None:
        async with patience(60):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
