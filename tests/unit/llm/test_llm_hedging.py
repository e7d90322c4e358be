"""Several providers: the next is asked too where the first text is late, and the first to speak wins."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from services.llm.core.model import (
    Connected,
    FallbackNotice,
    FinishReason,
    ProviderEvent,
    ProviderRequest,
)
from services.llm.core.retries import RetryPolicy
from tests.support.virtual_time import run_virtual
from tests.unit.llm.virtual import (
    END,
    Line,
    ScriptedProvider,
    Step,
    another,
    failed,
    notices,
    pieces,
)
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.errors import (
    LlmUnavailableError,
)
from voicemesh.runtime.retry_budget import RetryBudget


def _hedging(*attempts: list[Step], then: ScriptedProvider, percent: float = 100.0) -> Line:
    line = Line(*attempts, then=[then], policy=RetryPolicy(hedge_percent=percent))
    for _ in range(20):
        line.listed[0].first_texts.took(100_000)
    return line


def test_a_late_first_text_is_asked_of_the_next_too_and_the_first_to_speak_wins() -> None:
    line = _hedging([Connected(), 5.0, *pieces("slow"), END], then=another([0.05, *pieces("Hi"), END]))
    run_virtual(line.play())
    assert line.text == "Hi"
    assert line.finished.provider == "second"
    assert line.finished.total_ns == 160_000_000
    assert (line.figures.hedges, line.figures.hedges_won, line.figures.hedges_lost) == (1, 1, 0)
    assert line.provider.closed == 1
    assert notices(line) == [FallbackNotice]
    assert line.observer.events == [
        (names.HEDGED, "second", names.LATE),
        (names.FAILED_OVER, "second", names.LATE),
    ]
    assert [finished.reason for finished, _ in line.observer.ends if finished] == [
        FinishReason.CANCELLED,
        FinishReason.STOP,
    ]


def test_the_first_can_still_win() -> None:
    second = another([60.0, *pieces("never"), END])
    line = run_virtual(_hedging([0.2, *pieces("Hi"), END], then=second).play())
    assert line.text == "Hi"
    assert second.closed == 1
    assert (line.figures.hedges, line.figures.hedges_won, line.figures.hedges_lost) == (1, 0, 1)
    assert notices(line) == []


def test_what_is_in_time_is_not_asked_twice() -> None:
    second = another()
    line = run_virtual(_hedging([0.1, *pieces("Hi"), END], then=second).play())
    assert (line.text, second.asked) == ("Hi", [])


def test_a_loser_that_closes_badly_harms_nobody() -> None:
    second = ScriptedProvider([60.0], name="second", closes_badly=True)
    line = run_virtual(_hedging([0.2, *pieces("Hi"), END], then=second).play())
    assert line.text == "Hi"
    assert second.closed == 1


def test_hedges_are_paid_from_a_budget() -> None:
    budget = RetryBudget(1, reserve=0)
    line = _hedging([0.5, *pieces("Hi"), END], then=another())
    line.hedges = budget
    line.generation = line.again()
    run_virtual(line.play())
    assert (line.text, line.figures.hedges) == ("Hi", 0)


@pytest.mark.parametrize("second", [[failed()], [0.01, failed()]], ids=["at once", "later"])
def test_a_hedge_that_fails_harms_nobody(second: list[Step]) -> None:
    line = run_virtual(_hedging([0.5, *pieces("Hi"), END], then=another(second)).play())
    assert line.text == "Hi"


def test_where_both_fail_the_turn_fails() -> None:
    line = _hedging([0.5, failed()], then=another([0.01, failed()]))
    line.listed[1].spec = replace(line.listed[1].spec, max_retries=0)
    with pytest.raises(LlmUnavailableError):
        run_virtual(line.play())
    assert line.provider.closed == len(line.provider.asked) == 1


def test_a_caller_that_cancels_and_hangs_up_leaves_no_stream_open() -> None:
    closing = ["first", "second"]

    class Slow(ScriptedProvider):
        """Takes a while to close a connection, as TLS does."""

        async def generate(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
            try:
                yield Connected()
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.1)
                closing.remove(self.name)

    async def story() -> None:
        line = _hedging([], then=another())
        for listed, name in zip(line.listed, ("first", "second"), strict=True):
            listed.provider = Slow(name=name)
        line.generation = line.again()
        running = asyncio.ensure_future(line.generation.run())
        await asyncio.sleep(1)
        line.generation.cancel()
        await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait({running})
        assert closing == []

    run_virtual(story())


def test_cancel_closes_both() -> None:
    second = another([60.0])
    line = _hedging([60.0], then=second)
    run_virtual(line.play(line.generation.cancel, after_s=1))
    assert (line.provider.closed, second.closed) == (1, 1)
    assert line.finished.reason is FinishReason.CANCELLED
