"""Several providers: what all turns share, so that nobody is asked too often."""

import asyncio
import random

import pytest

from services.llm.core.buffer import ReplyBuffer
from services.llm.core.model import (
    AttemptError,
    FallbackNotice,
    RetryNotice,
)
from services.llm.core.retries import RetryPolicy
from tests.support.virtual_time import run_virtual
from tests.unit.llm.virtual import (
    END,
    Line,
    Step,
    another,
    failed,
    listed,
    notices,
    pieces,
    replace_buffer,
    until,
)
from voicemesh.runtime.breaker import BreakerSpec
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.errors import (
    LlmRateLimitedError,
    LlmStreamBrokenError,
    LlmUnavailableError,
)

LIMITED = AttemptError(LlmRateLimitedError("slow down"), retryable=True, retry_after_ms=3000)


def _many(count: int, share: float, policy: RetryPolicy, breaker: BreakerSpec) -> tuple[Line, int, int]:
    """Ask `count` times a provider that fails a share of all questions; return failures and answers too."""
    draws = random.Random(7)
    good: list[Step] = [*pieces("Hi"), END]
    bad: list[Step] = [failed()]
    plan = [bad if draws.random() < share else good for _ in range(3 * count)]
    line = Line(*plan, policy=policy, breaker=breaker)
    ends = {True: 0, False: 0}

    async def one() -> bool:
        generation = line.again(draw=draws.random)
        try:
            await generation.run()
            async for _ in line.buffer:
                pass
        except LlmUnavailableError:
            return False
        return True

    async def story() -> None:
        for _ in range(count):
            line.buffer = ReplyBuffer()
            ends[await one()] += 1

    run_virtual(story())
    return line, ends[False], ends[True]


@pytest.mark.parametrize("share", [1.0, 0.3, 0.05])
def test_retries_are_never_more_than_a_tenth(share: float) -> None:
    # Without its breaker, which would ask even less.
    never = BreakerSpec(failures=10_000)
    line, failures, answers = _many(1000, share, RetryPolicy(), never)
    assert failures + answers == 1000
    assert len(line.provider.asked) <= 1100
    assert line.listed[0].budget.spent == len(line.provider.asked) - 1000
    if share < 0.1:
        assert answers >= 995  # there the budget is enough


@pytest.mark.parametrize("asked_before", [True, False])
def test_a_call_that_was_made_before_pays_for_no_retry(*, asked_before: bool) -> None:
    line = Line(*[[*pieces("Hi"), END]] * 120)
    budget = line.listed[0].budget

    async def story() -> None:
        while budget.spend():
            pass  # nothing is saved up any more
        for _ in range(120):  # a hundred pay the reserve back
            replace_buffer(line)
            line.generation = line.again(asked_before=asked_before)
            await line.play()

    run_virtual(story())
    assert budget.spend() is not asked_before


def test_a_broken_provider_is_left_alone_and_tried_again() -> None:
    spec = BreakerSpec(failures=3, window_s=30, open_s=5)
    second: list[list[Step]] = [[*pieces("two"), END] for _ in range(5)]
    broken: list[list[Step]] = [[failed()]] * 3
    line = Line(*broken, [*pieces("one"), END], then=[another(*second)], retries=0, breaker=spec)

    async def ask() -> str:
        line.buffer, line.read = ReplyBuffer(), []
        line.generation = line.again()
        await line.play()
        return line.text

    async def story() -> None:
        assert [await ask() for _ in range(4)] == ["two"] * 4
        assert len(line.provider.asked) == 3  # the fourth went to the second at once
        (notice,) = [event for event in line.read if isinstance(event, FallbackNotice)]
        assert "left alone" in notice.detail
        await asyncio.sleep(5)
        assert await ask() == "one"

    run_virtual(story())


def test_a_provider_that_speaks_again_is_asked_again_before_it_is_done() -> None:
    spec = BreakerSpec(failures=1, window_s=30, open_s=5)
    line = Line([failed()], [*pieces("long"), 20.0, END], [*pieces("other"), END], retries=0, breaker=spec)

    async def story() -> None:
        with pytest.raises(LlmUnavailableError):
            await line.play()
        await asyncio.sleep(5)
        probe = replace_buffer(line)
        running = asyncio.ensure_future(probe.generation.run())
        await asyncio.sleep(1)
        other = replace_buffer(line)
        await other.play()
        assert other.text == "other"
        assert not running.done()
        await running

    run_virtual(story())


def test_a_provider_that_breaks_off_every_reply_is_broken() -> None:
    spec = BreakerSpec(failures=3, window_s=30, open_s=5)
    line = Line(*[[*pieces("So"), failed()]] * 3, retries=0, breaker=spec)
    for _ in range(3):
        with pytest.raises(LlmStreamBrokenError):
            run_virtual(replace_buffer(line).play())
    assert not line.listed[0].breaker.allows


def test_where_everybody_is_left_alone_a_turn_fails_at_once_and_says_until_when() -> None:
    line = Line([failed()], retries=0, breaker=BreakerSpec(failures=1, open_s=5))
    with pytest.raises(LlmUnavailableError):
        run_virtual(line.play())
    with pytest.raises(LlmUnavailableError, match=r"left alone for 5 s after it failed: it failed") as caught:
        run_virtual(replace_buffer(line).play())
    assert caught.value.retry_after_ms == 5000
    assert len(line.provider.asked) == 1


def test_other_turns_wait_as_well_where_the_provider_asked_for_it() -> None:
    limited = AttemptError(LlmRateLimitedError("slow down"), retryable=True, retry_after_ms=2000)
    line = Line([limited], [*pieces("one"), END], [*pieces("two"), END])

    async def story() -> tuple[str, float]:
        began_s = asyncio.get_running_loop().time()
        first = asyncio.ensure_future(line.play())
        await until(lambda: len(line.provider.asked) == 1)
        other = replace_buffer(line)
        await asyncio.sleep(0)
        running = asyncio.ensure_future(other.generation.run())
        text = ""
        async for event in other.buffer:
            text += getattr(event, "text", "")
        await running
        first.cancel()
        await asyncio.wait({first})
        return text, asyncio.get_running_loop().time() - began_s

    text, took_s = run_virtual(story())
    assert text in ("one", "two")
    assert took_s >= 2


def test_the_longest_wait_that_was_asked_for_counts() -> None:
    provider, clock = listed("a", "m"), ManualClock()
    provider._clock = clock
    for wait_ms in (5000, 1000):
        provider.failed(LIMITED.error, retryable=True, retry_after_ms=wait_ms)
    clock.advance_ms(4900)
    assert not provider.allows
    clock.advance_ms(200)
    assert provider.allows


def test_a_retry_is_not_asked_of_a_provider_that_is_left_alone_by_then() -> None:
    line = Line([failed()], [*pieces("never"), END], breaker=BreakerSpec(failures=2, open_s=5))

    def another_turn_failed() -> None:
        line.listed[0].breaker.failed()

    with pytest.raises(LlmUnavailableError, match="left alone"):
        run_virtual(line.play(another_turn_failed, after_s=0.05))
    assert len(line.provider.asked) == 1


def test_a_retry_goes_to_the_next_where_the_first_is_left_alone_by_then() -> None:
    line = Line([failed()], then=[another()], breaker=BreakerSpec(failures=2, open_s=5))
    run_virtual(line.play(line.listed[0].breaker.failed, after_s=0.05))
    assert line.text == "Hi"
    assert notices(line) == [RetryNotice, FallbackNotice]
    assert len(line.provider.asked) == 1


def test_who_waits_waits_on_where_another_turn_was_told_to() -> None:
    line = Line([failed()], [*pieces("Hi"), END])

    def another_turn_was_limited() -> None:
        line.listed[0].failed(LIMITED.error, retryable=True, retry_after_ms=LIMITED.retry_after_ms)

    run_virtual(line.play(another_turn_was_limited, after_s=0.05))
    assert line.text == "Hi"
    assert line.finished.total_ns >= 3_050_000_000
    assert notices(line) == [RetryNotice, RetryNotice]
