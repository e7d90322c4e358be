import asyncio

import pytest

from services.llm.core.buffer import MESSAGE_CHARS, ReplyBuffer
from services.llm.core.model import Delta, Finished, FinishReason, GenerationEvent, RetryNotice, Timing
from tests.support.virtual_time import run_virtual
from tests.unit.llm.virtual import until

TIMING = Timing(1, 2)
FINISHED = Finished(FinishReason.STOP, "p", "m", 1)


async def _all(buffer: ReplyBuffer) -> list[GenerationEvent]:
    return [event async for event in buffer]


def test_what_nobody_waits_for_is_joined_and_keeps_its_order() -> None:
    async def story() -> list[GenerationEvent]:
        buffer = ReplyBuffer()
        await buffer.put(RetryNotice("again"))
        await buffer.put(Delta("a", TIMING))
        await buffer.put(Delta("b"))
        await buffer.put(Delta("c"))
        await buffer.put(FINISHED)
        buffer.close()
        return await _all(buffer)

    assert run_virtual(story()) == [RetryNotice("again"), Delta("abc", TIMING), FINISHED]


def test_a_reader_that_keeps_up_gets_every_delta_alone() -> None:
    async def story() -> list[GenerationEvent]:
        buffer = ReplyBuffer()
        reading = asyncio.ensure_future(_all(buffer))
        for text in "abc":
            await asyncio.sleep(1)
            await buffer.put(Delta(text))
        await asyncio.sleep(1)
        buffer.close()
        return await reading

    assert run_virtual(story()) == [Delta("a"), Delta("b"), Delta("c")]


def test_a_patient_reader_gets_text_joined_until_it_hurries_or_something_else_comes() -> None:
    async def story() -> list[tuple[float, GenerationEvent]]:
        loop = asyncio.get_running_loop()
        buffer = ReplyBuffer()
        got: list[tuple[float, GenerationEvent]] = []

        async def read() -> None:
            stamped = ((round(loop.time(), 3), event) async for event in buffer)
            got.extend([pair async for pair in stamped])

        began = round(loop.time(), 3)
        reading = asyncio.ensure_future(read())
        buffer.join(0.1)
        await buffer.put(Delta("first", TIMING))
        for text in ("a", "b", "c", "d", "e", "f"):
            await asyncio.sleep(0.03)
            await buffer.put(Delta(text))
        buffer.join(0)
        await asyncio.sleep(0.03)
        await buffer.put(Delta("g"))
        buffer.join(0.1)
        await asyncio.sleep(0.03)
        await buffer.put(Delta("h"))
        await asyncio.sleep(0.03)
        await buffer.put(RetryNotice("again"))
        await asyncio.sleep(0.03)
        await buffer.put(Delta("i"))
        await asyncio.sleep(0.03)
        buffer.finish(FINISHED)
        await reading
        return [(round(when - began, 3), event) for when, event in got]

    assert run_virtual(story()) == [
        (0, Delta("first", TIMING)),
        (0.13, Delta("abcd")),
        (0.18, Delta("ef")),
        (0.27, Delta("gh")),
        (0.27, RetryNotice("again")),
        (0.33, Delta("i")),
        (0.33, FINISHED),
    ]


def test_a_full_buffer_holds_the_writer_until_it_is_read() -> None:
    async def story() -> None:
        buffer = ReplyBuffer(limit_chars=10)
        writing = asyncio.ensure_future(buffer.put(Delta("x" * 11)))
        await asyncio.sleep(1)
        assert not writing.done()
        assert await anext(buffer) == Delta("x" * 11)
        await writing

    run_virtual(story())


@pytest.mark.parametrize("end", ["close", "abort", "drop"])
def test_the_end_lets_a_held_writer_go(end: str) -> None:
    async def story() -> None:
        buffer = ReplyBuffer(limit_chars=1)
        writing = asyncio.ensure_future(buffer.put(Delta("long")))
        await asyncio.sleep(1)
        getattr(buffer, end)()
        await writing

    run_virtual(story())


def test_a_huge_delta_leaves_in_messages_of_bounded_size() -> None:
    text = "0123456789" * 5_000

    async def story() -> list[GenerationEvent]:
        buffer = ReplyBuffer()
        await buffer.put(Delta(text, TIMING))
        buffer.close()
        return await _all(buffer)

    events = run_virtual(story())
    texts = [event.text for event in events if isinstance(event, Delta)]
    assert "".join(texts) == text
    assert max(map(len, texts)) == MESSAGE_CHARS
    assert [event.timing for event in events if isinstance(event, Delta)] == [TIMING, None, None, None]


def test_an_error_comes_behind_what_waits_and_abort_drops_that() -> None:
    async def story() -> None:
        buffer = ReplyBuffer()
        await buffer.put(Delta("a"))
        buffer.close(ValueError("end"))
        assert await anext(buffer) == Delta("a")
        with pytest.raises(ValueError, match="end"):
            await anext(buffer)

        buffer = ReplyBuffer()
        await buffer.put(Delta("a"))
        buffer.abort(ValueError("now"))
        buffer.close()
        await buffer.put(Delta("too late"))
        with pytest.raises(ValueError, match="now"):
            await anext(buffer)

    run_virtual(story())


def test_a_waiting_reader_wakes_at_the_end() -> None:
    async def story() -> list[GenerationEvent]:
        buffer = ReplyBuffer()
        reading = asyncio.ensure_future(_all(buffer))
        await until(lambda: True)
        await asyncio.sleep(1)
        buffer.close()
        return await reading

    assert run_virtual(story()) == []
