"""Waits that take too long, and those that do not."""

import asyncio

import pytest

from services.llm.core.silence import Silence
from tests.support.virtual_time import run_virtual


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def test_a_wait_ends_when_it_is_due_and_no_sooner() -> None:
    async def story() -> None:
        silence, began_s = Silence(), _now_s()
        # The timer of a wait that was over early does not end a later one.
        for _ in range(10):
            assert await silence.wait(asyncio.sleep(0.9, "text"), _now_s() + 1) == "text"
        with pytest.raises(TimeoutError):
            await silence.wait(asyncio.sleep(60), _now_s() + 1)
        assert _now_s() - began_s == pytest.approx(10)
        # A sooner one than the timer's is in time as well; nothing rings between waits.
        await silence.wait(asyncio.sleep(0), _now_s() + 50)
        with pytest.raises(TimeoutError):
            await silence.wait(asyncio.sleep(60), _now_s() + 2)
        await asyncio.sleep(100)
        assert _now_s() - began_s == pytest.approx(112)
        assert await silence.wait(asyncio.sleep(0.5, "text"), _now_s() + 1) == "text"
        silence.close()

    run_virtual(story())


@pytest.mark.parametrize("cancelled_at_s", [0.5, 1.0])
def test_who_is_cancelled_is_cancelled_and_not_late(cancelled_at_s: float) -> None:
    async def story() -> None:
        silence = Silence()

        async def wait() -> None:
            await silence.wait(asyncio.sleep(60), _now_s() + 1)

        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(cancelled_at_s + _now_s(), waiting.cancel)
        await asyncio.wait({waiting})
        assert waiting.cancelled()

    run_virtual(story())


def test_what_will_not_be_cancelled_leaves_no_cancel_behind() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "text"
        return ""

    async def story() -> None:
        silence = Silence()
        assert await silence.wait(stubborn(), _now_s() + 1) == "text"
        assert silence.rang
        with pytest.raises(TimeoutError):
            await silence.wait(asyncio.sleep(60), _now_s() + 1)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(1)

    run_virtual(story())


def test_a_timer_that_was_called_off_leaves_nothing() -> None:
    async def story() -> None:
        silence = Silence()
        await silence.wait(asyncio.sleep(0), _now_s() + 60)
        silence.close()
        silence.close()
        assert silence._timer is None

    run_virtual(story())
