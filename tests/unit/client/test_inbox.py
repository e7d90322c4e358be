"""The bounded queue between a call and the reader of its turn."""

import asyncio

import pytest

from voicemesh.client.events import TextDelta
from voicemesh.client.turn import Inbox


def text(number: int) -> TextDelta:
    return TextDelta("t", str(number))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_full_inbox_holds_its_writer_until_there_is_room():
    inbox = Inbox(limit=1)
    await inbox.put(text(1))
    writer = asyncio.create_task(inbox.put(text(2)))
    await settle()
    assert not writer.done()
    assert await inbox.next() == text(1)
    await writer
    assert await inbox.next() == text(2)


async def test_the_end_has_always_room():
    inbox = Inbox(limit=1)
    await inbox.put(text(1))
    await inbox.end(text(9))
    assert len(inbox) == 2
    assert [await inbox.next(), await inbox.next(), await inbox.next()] == [text(1), text(9), None]
    await inbox.put(text(3))
    await inbox.end(text(4))
    assert await inbox.next() is None


async def test_an_error_comes_after_what_is_queued_and_again():
    inbox = Inbox()
    await inbox.put(text(1))
    await inbox.end(RuntimeError("broken"))
    assert await inbox.next() == text(1)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            await inbox.next()


async def test_muting_drops_all_but_the_end_and_frees_the_writer():
    inbox = Inbox(limit=1)
    await inbox.put(text(1))
    writer = asyncio.create_task(inbox.put(text(2)))
    await settle()
    await inbox.mute()
    await writer
    await inbox.put(text(3))
    assert len(inbox) == 0
    await inbox.end(text(9))
    await inbox.mute()
    assert await inbox.next() == text(9)


async def test_a_reader_waits():
    inbox = Inbox()
    reader = asyncio.create_task(inbox.next())
    await settle()
    assert not reader.done()
    await inbox.put(text(1))
    assert await reader == text(1)
