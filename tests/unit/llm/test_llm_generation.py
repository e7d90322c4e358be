import asyncio
import gc

import pytest

from services.llm.core.model import (
    AttemptError,
    Connected,
    Delta,
    Finished,
    FinishReason,
    GenerationEvent,
    ProviderEnd,
    RetryNotice,
    TextPiece,
    Timing,
    Usage,
)
from services.llm.core.retries import RetryPolicy
from tests.support.virtual_time import run_virtual
from tests.unit.llm.virtual import (
    END,
    USAGE,
    Line,
    Step,
    failed,
    pieces,
)
from voicemesh.runtime.errors import (
    DeadlineError,
    LlmKeyRefusedError,
    LlmRateLimitedError,
    LlmStreamBrokenError,
    LlmUnavailableError,
    OutOfOrderError,
)


def test_a_reply_is_told_with_its_timings_usage_and_reason() -> None:
    async def story() -> Line:
        return await Line(
            [
                0.040,
                Connected(),
                0.150,
                TextPiece("Hel"),
                0.02,
                TextPiece("lo"),
                USAGE,
                0.01,
                ProviderEnd(FinishReason.LENGTH, "m-2024", "id-1"),
            ]
        ).play()

    line = run_virtual(story())
    timing = Timing(connect_ns=40_000_000, ttft_ns=150_000_000)
    assert line.read == [
        Delta("Hel", timing),
        Delta("lo"),
        Finished(FinishReason.LENGTH, "scripted", "m-2024", 220_000_000, USAGE, "id-1"),
    ]
    line.provider.asked[0].watch("POST", "http://there")
    assert line.observer.watched == [("POST", "http://there")]
    assert line.observer.texts == ["Hello"]
    assert line.observer.timings == [timing]
    assert line.observer.ends == [(line.finished, None)]
    assert line.observer.begun == [("scripted", 0)]


def test_an_empty_reply_is_a_valid_end() -> None:
    line = run_virtual(Line([Connected(), END]).play())
    assert line.read == [Finished(FinishReason.STOP, "scripted", "m-2024", 0)]


def test_a_failure_before_the_first_text_is_tried_again_with_growing_waits() -> None:
    async def story() -> tuple[Line, float]:
        began_s = asyncio.get_running_loop().time()
        line = await Line([failed()], [Connected(), failed()], [*pieces("Hi"), END]).play()
        return line, asyncio.get_running_loop().time() - began_s

    line, took_s = run_virtual(story())
    notices = [event for event in line.read if isinstance(event, RetryNotice)]
    assert notices == [
        RetryNotice("it failed; asked again after 0.2 s (retry 1 of 2)"),
        RetryNotice("it failed; asked again after 0.4 s (retry 2 of 2)"),
    ]
    assert line.text == "Hi"
    assert took_s == pytest.approx(0.6)
    assert line.provider.closed == 3
    assert line.observer.begun == [("scripted", 0), ("scripted", 1), ("scripted", 2)]
    # The timing is that of the attempt that answered, counted from the arrival of `start`.
    assert line.observer.timings[0].connect_ns == pytest.approx(600_000_000)


def test_the_wait_that_the_provider_asks_for_is_obeyed_where_it_fits() -> None:
    async def story() -> float:
        began_s = asyncio.get_running_loop().time()
        await Line([failed(retry_after_ms=3000)], [*pieces("Hi"), END]).play()
        return asyncio.get_running_loop().time() - began_s

    assert run_virtual(story()) == pytest.approx(3)


def test_a_wait_behind_the_deadline_is_not_begun() -> None:
    error = LlmRateLimitedError("slow down")

    async def story() -> float:
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(LlmRateLimitedError) as caught:
            await Line([AttemptError(error, retryable=True, retry_after_ms=60_000)]).play()
        assert caught.value.retry_after_ms == 60_000
        return asyncio.get_running_loop().time() - began_s

    assert run_virtual(story()) == 0


def test_a_failure_that_nobody_waits_for_any_more_is_no_complaint() -> None:
    async def story() -> list[object]:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        line = Line([AttemptError(LlmKeyRefusedError("no"), retryable=False)])
        running = asyncio.ensure_future(line.generation.run())
        await asyncio.sleep(0)
        asking = line.generation._asking
        assert asking is not None
        asking.add_done_callback(lambda _: running.cancel())  # the call ends in the same step
        await asyncio.wait({running})
        del asking, line
        gc.collect()
        return complaints

    assert run_virtual(story()) == []


def test_the_last_failure_is_what_the_caller_sees() -> None:
    line = Line([failed()], [failed()], [failed()])
    with pytest.raises(LlmUnavailableError) as caught:
        run_virtual(line.play())
    assert caught.value.retry_after_ms == 1000
    assert len(line.provider.asked) == 3
    assert [error for _, error in line.observer.ends][-1] is caught.value


def test_what_cannot_succeed_is_not_tried_again() -> None:
    line = Line([AttemptError(LlmKeyRefusedError("no"), retryable=False)])
    with pytest.raises(LlmKeyRefusedError):
        run_virtual(line.play())
    assert len(line.provider.asked) == 1


def test_after_the_first_text_nothing_is_tried_again_where_that_is_off() -> None:
    line = Line([*pieces("Hel"), failed()], [*pieces("never"), END])
    with pytest.raises(LlmStreamBrokenError, match="it failed"):
        run_virtual(line.play())
    assert line.text == "Hel"
    assert len(line.provider.asked) == 1


def test_a_provider_that_ends_without_a_reason_is_a_failure() -> None:
    line = Line([Connected()], retries=0)
    with pytest.raises(LlmUnavailableError, match="without saying why"):
        run_virtual(line.play())


def test_a_fault_in_the_provider_reaches_the_caller_as_it_is() -> None:
    line = Line([ZeroDivisionError("bug")])
    with pytest.raises(ZeroDivisionError):
        run_virtual(line.play())


@pytest.mark.parametrize(
    "steps", [[60.0], [Connected(), 60.0], [*pieces("Hel"), 60.0]], ids=["connect", "first text", "middle"]
)
def test_the_total_timeout_ends_the_reply_and_closes_the_provider(steps: list[Step]) -> None:
    line = Line(steps, timeout_s=5)

    async def story() -> float:
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineError, match="within 5 s"):
            await line.play()
        return asyncio.get_running_loop().time() - began_s

    assert run_virtual(story()) == pytest.approx(5)
    assert line.provider.closed == 1


def test_cancel_closes_the_provider_and_finishes_with_the_usage_so_far() -> None:
    line = Line([*pieces("Hel"), USAGE, 60.0])
    run_virtual(line.play(line.generation.cancel, after_s=0.5))
    assert line.provider.closed == 1
    assert line.finished.reason is FinishReason.CANCELLED
    assert line.finished.usage == USAGE
    assert line.finished.total_ns == 500_000_000
    assert line.text == "Hel"


def test_cancel_at_once_never_asks() -> None:
    line = Line([*pieces("never"), END])
    line.generation.cancel()
    run_virtual(line.play())
    assert line.provider.asked == []
    assert line.read == [Finished(FinishReason.CANCELLED, "scripted", "m", 0)]


def test_cancel_between_retries_ends_the_wait() -> None:
    line = Line([failed(retry_after_ms=20_000)])
    run_virtual(line.play(line.generation.cancel, after_s=1))
    assert line.finished.reason is FinishReason.CANCELLED
    assert line.finished.total_ns == 1_000_000_000


def test_cancel_drops_what_was_not_read() -> None:
    async def story() -> list[GenerationEvent]:
        line = Line([*pieces("a" * 70_000, "b"), END])
        running = asyncio.ensure_future(line.generation.run())
        await asyncio.sleep(1)
        assert not running.done()
        line.generation.cancel()
        await running
        await line.reading()
        return line.read

    (finished,) = run_virtual(story())
    assert isinstance(finished, Finished)
    assert finished.reason is FinishReason.CANCELLED


def test_cancel_behind_the_end_changes_nothing() -> None:
    async def story() -> Line:
        line = await Line([*pieces("Hi"), END]).play()
        line.generation.cancel()
        line.generation.fail(OutOfOrderError("late"))
        return line

    assert run_virtual(story()).finished.reason is FinishReason.STOP


def test_cancel_behind_the_end_leaves_what_waits_to_be_read() -> None:
    async def story() -> Line:
        line = Line([*pieces("a" * 60_000), END])
        await line.generation.run()
        line.generation.cancel()
        await line.reading()
        return line

    line = run_virtual(story())
    assert len(line.text) == 60_000
    assert line.finished.reason is FinishReason.STOP


@pytest.mark.parametrize("after_s", [0.0, 0.5])
def test_fail_closes_the_provider_and_raises(after_s: float) -> None:
    line = Line([*pieces("Hel"), 60.0])
    error = OutOfOrderError("a second start")
    with pytest.raises(OutOfOrderError):
        run_virtual(line.play(lambda: line.generation.fail(error), after_s=after_s))
    assert line.observer.ends == [(None, error)] * len(line.provider.asked)
    assert line.provider.closed == len(line.provider.asked)


def test_the_end_of_the_call_closes_the_provider_and_says_nothing() -> None:
    async def story() -> Line:
        line = Line([*pieces("Hel"), 60.0])
        running = asyncio.ensure_future(line.generation.run())
        await asyncio.sleep(1)
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()
        return line

    line = run_virtual(story())
    assert line.provider.closed == 1
    ((finished, error),) = line.observer.ends
    assert finished is not None
    assert (finished.reason, error) == (FinishReason.CANCELLED, None)


def test_a_slow_reader_holds_the_provider() -> None:
    async def story() -> None:
        line = Line([*pieces(*["x" * 10_000] * 20), Usage(1, 1), END])
        running = asyncio.ensure_future(line.generation.run())
        await asyncio.sleep(10)
        assert not running.done()
        await line.reading()
        await running
        assert len(line.text) == 200_000

    run_virtual(story())


def test_waits_double_are_drawn_and_bounded() -> None:
    policy = RetryPolicy(first_wait_s=0.2, longest_wait_s=1.0)
    assert policy.wait_s(0, None, 0.0) == pytest.approx(0.1)
    assert policy.wait_s(0, None, 1.0) == pytest.approx(0.2)
    assert policy.wait_s(2, None, 1.0) == pytest.approx(0.8)
    assert policy.wait_s(8, None, 1.0) == pytest.approx(1.0)
    assert policy.wait_s(0, 0, 1.0) == 0
