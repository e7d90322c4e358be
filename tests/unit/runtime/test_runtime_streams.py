"""The outbox: bounded, in order, with an end."""

import asyncio

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from voicemesh.runtime.streams import Outbox


async def everything(outbox: Outbox[int]) -> list[int]:
    """Read to the end."""
    return [item async for item in outbox]


async def settled() -> None:
    """Let every task that can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("limit", [0, -1])
def test_it_has_room_for_one_at_least(limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Outbox[int](limit)


async def test_items_come_in_order_and_then_the_end() -> None:
    outbox = Outbox[int](10)
    for item in range(3):
        assert await outbox.put(item)
    outbox.close()
    assert await everything(outbox) == [0, 1, 2]
    assert await everything(outbox) == []


async def test_a_full_outbox_makes_its_writer_wait() -> None:
    outbox = Outbox[int](2)
    written: list[int] = []

    async def write() -> None:
        for item in range(5):
            await outbox.put(item)
            written.append(item)
        outbox.close()

    writer = asyncio.create_task(write())
    await settled()
    assert written == [0, 1]
    assert await anext(outbox) == 0
    await settled()
    assert written == [0, 1, 2]
    assert await everything(outbox) == [1, 2, 3, 4]
    await writer


async def test_writers_that_wait_are_all_let_go_by_the_end() -> None:
    outbox = Outbox[int](1)
    assert outbox.push(0)
    writers = [asyncio.create_task(outbox.put(item)) for item in range(1, 4)]
    await settled()
    outbox.close()
    assert await asyncio.gather(*writers) == [False, False, False]
    assert await everything(outbox) == [0]


async def test_a_reader_that_waits_gets_what_comes() -> None:
    outbox = Outbox[int](1)
    reader = asyncio.create_task(everything(outbox))
    await settled()
    for item in range(3):
        await outbox.put(item)
    outbox.close()
    assert await reader == [0, 1, 2]


async def test_an_error_comes_behind_the_items() -> None:
    outbox = Outbox[int](3)
    outbox.push(1)
    outbox.close(KeyError("why"))
    outbox.close(ValueError("too late"))
    assert await anext(outbox) == 1
    for _ in range(2):
        with pytest.raises(KeyError, match="why"):
            await anext(outbox)


async def test_abort_drops_what_is_queued() -> None:
    outbox = Outbox[int](3)
    outbox.push(1)
    outbox.abort(KeyError("why"))
    assert not await outbox.put(2)
    assert not outbox.push(2)
    with pytest.raises(KeyError):
        await anext(outbox)


async def test_abort_after_close_keeps_the_first_end() -> None:
    outbox = Outbox[int](3)
    outbox.push(1)
    outbox.close()
    outbox.abort(KeyError("too late"))
    assert await everything(outbox) == []


async def test_discarding_makes_room() -> None:
    outbox = Outbox[int](3)
    for item in range(3):
        outbox.push(item)
    writer = asyncio.create_task(outbox.put(9))
    await settled()
    assert not writer.done()
    assert outbox.discard(lambda item: item < 2) == 2
    assert await writer
    outbox.close()
    assert await everything(outbox) == [2, 9]


async def test_a_push_goes_over_the_limit_and_room_waits_until_it_is_kept_again() -> None:
    outbox = Outbox[int](2)
    assert all(outbox.push(item) for item in range(4))
    room = asyncio.create_task(outbox.room())
    for expected in range(2):
        await settled()
        assert not room.done()
        assert await anext(outbox) == expected
    await settled()
    assert not room.done()
    assert await anext(outbox) == 2
    await room


async def test_a_full_outbox_is_eased_when_half_of_it_is_read() -> None:
    outbox = Outbox[int](4)
    full = []
    for item in range(4):
        outbox.push(item)
        full.append(outbox.full)
    assert full == [False, False, False, True]
    eased = asyncio.create_task(outbox.eased())
    for _ in range(2):
        await settled()
        assert not eased.done()
        await anext(outbox)
    await eased
    assert not outbox.full


async def test_the_end_eases_an_outbox() -> None:
    outbox = Outbox[int](1)
    outbox.push(1)
    eased = asyncio.create_task(outbox.eased())
    await settled()
    assert not eased.done()
    outbox.close()
    await eased
    assert not outbox.full


async def test_a_writer_that_is_cancelled_leaves_nothing() -> None:
    outbox = Outbox[int](1)
    outbox.push(0)
    writer = asyncio.create_task(outbox.put(1))
    await settled()
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    outbox.close()
    assert await everything(outbox) == [0]


class OutboxModel(RuleBasedStateMachine):
    """Any order of calls, with many writers and one reader, against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.limit = 3
        self.outbox = Outbox[int](self.limit)
        self.writers: list[asyncio.Task[bool]] = []
        self.reader: asyncio.Task[int] | None = None
        self.queued: list[int] = []
        self.waiting: list[int] = []
        self.closed = False
        self.next = 0
        self.pushed = 0

    def _settle(self) -> None:
        self.loop.run_until_complete(settled())
        while self.waiting and len(self.queued) < self.limit and not self.closed:
            self.queued.append(self.waiting.pop(0))
        if self.closed:
            self.waiting.clear()

    @rule()
    def put(self) -> None:
        self.writers.append(self.loop.create_task(self.outbox.put(self.next)))
        self.waiting.append(self.next)
        self.next += 1
        self._settle()

    @rule()
    def push(self) -> None:
        assert self.outbox.push(self.next) != self.closed
        if not self.closed:
            self.queued.append(self.next)
            self.pushed += 1
        self.next += 1
        self._settle()

    @rule()
    def read(self) -> None:
        if self.queued:
            assert self.loop.run_until_complete(anext(self.outbox)) == self.queued.pop(0)
            self._settle()
        elif self.closed:
            with pytest.raises(StopAsyncIteration):
                self.loop.run_until_complete(anext(self.outbox))

    @rule(odd=st.booleans())
    def discard(self, odd: bool) -> None:
        stale = [item for item in self.queued if item % 2 == odd]
        assert self.outbox.discard(lambda item: item % 2 == odd) == len(stale)
        self.queued = [item for item in self.queued if item not in stale]
        self._settle()

    @rule(drop=st.booleans())
    def end(self, drop: bool) -> None:
        if drop:
            self.outbox.abort()
            self.queued.clear()
        else:
            self.outbox.close()
        self.closed = True
        self._settle()

    @invariant()
    def agrees(self) -> None:
        assert len(self.outbox) == len(self.queued) <= self.limit + self.pushed
        assert self.outbox.closed == self.closed
        assert sum(not writer.done() for writer in self.writers) == len(self.waiting)

    def teardown(self) -> None:
        self.outbox.abort()
        self.loop.run_until_complete(settled())
        assert all(writer.done() for writer in self.writers)
        self.loop.close()


TestOutboxModel = OutboxModel.TestCase
TestOutboxModel.settings = hypothesis_settings(max_examples=60, stateful_step_count=30, deadline=None)
