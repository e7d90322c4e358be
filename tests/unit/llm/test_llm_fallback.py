"""Several providers: whom a reply is asked of, and what becomes of it where they fail."""

import asyncio
import random
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from services.llm.core.buffer import ReplyBuffer
from services.llm.core.candidates import ListedProvider, ProviderSpec, candidates_for
from services.llm.core.model import (
    AttemptError,
    Billed,
    Connected,
    FallbackNotice,
    FinishReason,
    ProviderEnd,
    ProviderEvent,
    ProviderRequest,
    ResumedNotice,
    RetryNotice,
    Role,
    TextPiece,
    Unspoken,
    Usage,
)
from services.llm.core.retries import Budget, RetryPolicy
from tests.support.virtual_time import run_virtual
from tests.unit.llm.virtual import END, Line, ScriptedProvider, Step, failed, pieces, until
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.breaker import BreakerSpec
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.errors import (
    LlmKeyRefusedError,
    LlmRateLimitedError,
    LlmRequestRefusedError,
    LlmStreamBrokenError,
    LlmUnavailableError,
    UnknownModelError,
)

LIMITED = AttemptError(LlmRateLimitedError("slow down"), retryable=True, retry_after_ms=3000)
REFUSED = AttemptError(LlmKeyRefusedError("bad key"), retryable=False)
GOES_ON = RetryPolicy(continues=True)


def _second(*attempts: list[Step]) -> ScriptedProvider:
    return ScriptedProvider(*(attempts or ([*pieces("Hi"), END],)), name="second")


def _notices(line: Line) -> list[type]:
    return [
        type(event) for event in line.read if isinstance(event, (RetryNotice, FallbackNotice, ResumedNotice))
    ]


@pytest.mark.parametrize("failure", [LIMITED, REFUSED], ids=["a long Retry-After", "a refused key"])
def test_what_the_turn_cannot_afford_goes_to_the_next_at_once(failure: AttemptError) -> None:
    line = Line([failure], then=[_second()])

    async def story() -> float:
        began_s = asyncio.get_running_loop().time()
        await line.play()
        return asyncio.get_running_loop().time() - began_s

    assert run_virtual(story()) == 0
    assert line.text == "Hi"
    assert _notices(line) == [FallbackNotice]
    assert (line.finished.provider, line.finished.model) == ("second", "m-2024")
    assert line.observer.begun == [("scripted", 0), ("second", 1)]
    assert [error for _, error in line.observer.ends] == [failure.error, None]


def test_the_first_is_asked_again_before_the_second_is_asked() -> None:
    line = run_virtual(Line([failed()], [failed()], [failed()], then=[_second()]).play())
    assert _notices(line) == [RetryNotice, RetryNotice, FallbackNotice]
    assert line.text == "Hi"
    assert (line.figures.asked, line.figures.retries, line.figures.fallbacks) == (4, 2, 1)


def test_a_request_that_is_refused_is_refused_by_all() -> None:
    line = Line([AttemptError(LlmRequestRefusedError("no"), retryable=False)], then=[_second()])
    with pytest.raises(LlmRequestRefusedError):
        run_virtual(line.play())
    assert line.providers[1].asked == []


def test_where_all_fail_the_caller_is_told_of_each() -> None:
    line = Line([failed()], then=[_second([REFUSED])], retries=0)
    with pytest.raises(LlmKeyRefusedError, match="scripted: it failed; second: bad key"):
        run_virtual(line.play())


def test_a_silent_provider_is_given_up_for_the_next() -> None:
    line = run_virtual(
        Line([Connected(), 60.0], then=[_second()], retries=0, first_token_timeout_s=2.0).play()
    )
    assert line.text == "Hi"
    assert line.finished.total_ns == 2_000_000_000
    assert line.provider.closed == 1


def test_reasoning_is_a_sign_of_life_and_no_text() -> None:
    pause: list[Step] = [0.9, Unspoken()]
    thinking: list[Step] = [Connected(), *(pause * 10)]
    line = run_virtual(
        Line([*thinking, TextPiece("Hi"), END], first_token_timeout_s=1.0, idle_timeout_s=1.0).play()
    )
    assert line.text == "Hi"
    assert line.figures.asked == 1


def test_a_call_of_a_tool_alone_is_a_valid_end() -> None:
    line = run_virtual(Line([Connected(), Unspoken(), ProviderEnd(FinishReason.TOOL_CALLS, "m")]).play())
    assert line.text == ""
    assert line.finished.reason is FinishReason.TOOL_CALLS


# ------------------------------------------------------------ after the first text


def test_a_broken_stream_goes_on_behind_what_was_said() -> None:
    line = run_virtual(
        Line(
            [*pieces("Once upon", " a ti"), Usage(5, 3), failed()],
            [*pieces("a time there", " was."), Usage(9, 4, 2), END],
            policy=GOES_ON,
        ).play()
    )
    assert line.text == "Once upon a time there was."
    assert _notices(line) == [ResumedNotice]
    assert line.finished.usage == Usage(9, 4, 2)
    assert line.finished.also_billed == (Billed(line.finished.provider, "m", Usage(5, 3)),)
    again = line.provider.asked[1]
    assert [message.role for message in again.messages[-2:]] == [Role.ASSISTANT, Role.USER]
    assert again.messages[-2].text == "Once upon a"
    assert again.max_tokens < line.provider.asked[0].max_tokens


def test_a_broken_stream_goes_on_at_the_next_provider() -> None:
    second = _second([*pieces(" a time."), END])
    line = run_virtual(Line([*pieces("Once upon"), REFUSED], then=[second], policy=GOES_ON).play())
    assert line.text == "Once upon a time."
    assert _notices(line) == [FallbackNotice, ResumedNotice]
    assert line.finished.provider == "second"


def test_a_stream_that_stalls_is_broken() -> None:
    second = _second([*pieces(" a time."), END])
    line = run_virtual(
        Line([*pieces("Once upon"), 60.0], then=[second], policy=GOES_ON, idle_timeout_s=3.0).play()
    )
    assert line.text == "Once upon a time."
    assert line.finished.total_ns == 3_000_000_000


def test_a_slow_reader_is_no_silence_of_the_provider() -> None:
    async def story() -> None:
        line = Line([*pieces(*["x" * 10_000] * 20), END], idle_timeout_s=1.0)
        running = asyncio.ensure_future(line.generation.run())
        await asyncio.sleep(10)
        await line.reading()
        await running
        assert len(line.text) == 200_000
        assert line.figures.asked == 1

    run_virtual(story())


def test_a_server_that_goes_on_by_itself_is_asked_without_an_instruction() -> None:
    line = run_virtual(
        Line(
            [*pieces("Once upon a ti"), failed()],
            [*pieces("me."), END],
            policy=GOES_ON,
            continues_by="prefill",
        ).play()
    )
    assert line.text == "Once upon a time."
    again = line.provider.asked[1]
    assert again.continues
    assert again.messages[-1].role is Role.ASSISTANT
    assert again.messages[-1].text == "Once upon a ti"


@pytest.mark.parametrize(
    "again", [[Connected(), END], [*pieces("Once upon"), END]], ids=["nothing", "what was said already"]
)
def test_a_reply_that_goes_on_with_nothing_is_told_of_all_the_same(again: list[Step]) -> None:
    # It may be half a reply: whoever keeps replies must know.
    line = run_virtual(Line([*pieces("Once upon"), failed()], again, policy=GOES_ON).play())
    assert line.text == "Once upon"
    assert _notices(line) == [ResumedNotice]
    assert line.figures.resumed == 1


@pytest.mark.parametrize(
    ("again", "spec"),
    [
        ([*pieces("Once upon a time they"), END], {}),
        ([AttemptError(LlmRequestRefusedError("no"), retryable=False)], {}),
        ([*pieces("never"), END], {"continues_by": "never"}),
    ],
    ids=["begun anew in other words", "refused", "never"],
)
def test_what_cannot_go_on_ends_with_a_clear_event(again: list[Step], spec: dict[str, Any]) -> None:
    line = Line([*pieces("Once upon a time there"), failed()], again, policy=GOES_ON, **spec)
    with pytest.raises(LlmStreamBrokenError, match="broke off"):
        run_virtual(line.play())
    assert line.text == "Once upon a time there"


def test_a_reply_goes_on_only_so_often() -> None:
    attempts: list[list[Step]] = [[*pieces(f" part{number}"), failed()] for number in range(9)]
    line = Line(*attempts, policy=GOES_ON, retries=9)
    with pytest.raises(LlmStreamBrokenError):
        run_virtual(line.play())
    assert line.text == " part0 part1 part2 part3"


# ------------------------------------------------------------ what all turns share


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


def test_a_budget_is_a_tenth_at_any_time() -> None:
    budget = Budget(10)
    more = 0
    for asked in range(1, 1001):
        budget.earn()
        while budget.spend():
            more += 1
        assert more <= max(10, asked / 10)
    assert more == 100
    assert not Budget(0).spend()


def test_a_quiet_process_saves_no_more_than_its_reserve() -> None:
    budget = Budget(10)
    for _ in range(10_000):
        budget.earn()
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]


def test_a_broken_provider_is_left_alone_and_tried_again() -> None:
    spec = BreakerSpec(failures=3, window_s=30, open_s=5)
    second: list[list[Step]] = [[*pieces("two"), END] for _ in range(5)]
    broken: list[list[Step]] = [[failed()]] * 3
    line = Line(*broken, [*pieces("one"), END], then=[_second(*second)], retries=0, breaker=spec)

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


def replace_buffer(line: Line) -> Line:
    """Prepare a further generation of the same providers."""
    line.buffer, line.read = ReplyBuffer(), []
    line.generation = line.again()
    return line


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
    listed, clock = _listed("a", "m"), ManualClock()
    listed._clock = clock
    for wait_ms in (5000, 1000):
        listed.failed(LIMITED.error, retryable=True, retry_after_ms=wait_ms)
    clock.advance_ms(4900)
    assert not listed.allows
    clock.advance_ms(200)
    assert listed.allows


def test_a_retry_is_not_asked_of_a_provider_that_is_left_alone_by_then() -> None:
    line = Line([failed()], [*pieces("never"), END], breaker=BreakerSpec(failures=2, open_s=5))

    def another_turn_failed() -> None:
        line.listed[0].breaker.failed()

    with pytest.raises(LlmUnavailableError, match="left alone"):
        run_virtual(line.play(another_turn_failed, after_s=0.05))
    assert len(line.provider.asked) == 1


def test_a_retry_goes_to_the_next_where_the_first_is_left_alone_by_then() -> None:
    line = Line([failed()], then=[_second()], breaker=BreakerSpec(failures=2, open_s=5))
    run_virtual(line.play(line.listed[0].breaker.failed, after_s=0.05))
    assert line.text == "Hi"
    assert _notices(line) == [RetryNotice, FallbackNotice]
    assert len(line.provider.asked) == 1


def test_who_waits_waits_on_where_another_turn_was_told_to() -> None:
    line = Line([failed()], [*pieces("Hi"), END])

    def another_turn_was_limited() -> None:
        line.listed[0].failed(LIMITED.error, retryable=True, retry_after_ms=LIMITED.retry_after_ms)

    run_virtual(line.play(another_turn_was_limited, after_s=0.05))
    assert line.text == "Hi"
    assert line.finished.total_ns >= 3_050_000_000
    assert _notices(line) == [RetryNotice, RetryNotice]


# ------------------------------------------------------------ hedging


def _hedging(*attempts: list[Step], then: ScriptedProvider, percent: float = 100.0) -> Line:
    line = Line(*attempts, then=[then], policy=RetryPolicy(hedge_percent=percent))
    for _ in range(20):
        line.listed[0].first_texts.took(100_000)
    return line


def test_a_late_first_text_is_asked_of_the_next_too_and_the_first_to_speak_wins() -> None:
    line = _hedging([Connected(), 5.0, *pieces("slow"), END], then=_second([0.05, *pieces("Hi"), END]))
    run_virtual(line.play())
    assert line.text == "Hi"
    assert line.finished.provider == "second"
    assert line.finished.total_ns == 160_000_000
    assert (line.figures.hedges, line.figures.hedges_won, line.figures.hedges_lost) == (1, 1, 0)
    assert line.provider.closed == 1
    assert _notices(line) == [FallbackNotice]
    assert line.observer.events == [
        (names.HEDGED, "second", names.LATE),
        (names.FAILED_OVER, "second", names.LATE),
    ]
    assert [finished.reason for finished, _ in line.observer.ends if finished] == [
        FinishReason.CANCELLED,
        FinishReason.STOP,
    ]


def test_the_first_can_still_win() -> None:
    second = _second([60.0, *pieces("never"), END])
    line = run_virtual(_hedging([0.2, *pieces("Hi"), END], then=second).play())
    assert line.text == "Hi"
    assert second.closed == 1
    assert (line.figures.hedges, line.figures.hedges_won, line.figures.hedges_lost) == (1, 0, 1)
    assert _notices(line) == []


def test_what_is_in_time_is_not_asked_twice() -> None:
    second = _second()
    line = run_virtual(_hedging([0.1, *pieces("Hi"), END], then=second).play())
    assert (line.text, second.asked) == ("Hi", [])


def test_a_loser_that_closes_badly_harms_nobody() -> None:
    second = ScriptedProvider([60.0], name="second", closes_badly=True)
    line = run_virtual(_hedging([0.2, *pieces("Hi"), END], then=second).play())
    assert line.text == "Hi"
    assert second.closed == 1


def test_hedges_are_paid_from_a_budget() -> None:
    budget = Budget(1, reserve=0)
    line = _hedging([0.5, *pieces("Hi"), END], then=_second())
    line.hedges = budget
    line.generation = line.again()
    run_virtual(line.play())
    assert (line.text, line.figures.hedges) == ("Hi", 0)


@pytest.mark.parametrize("second", [[failed()], [0.01, failed()]], ids=["at once", "later"])
def test_a_hedge_that_fails_harms_nobody(second: list[Step]) -> None:
    line = run_virtual(_hedging([0.5, *pieces("Hi"), END], then=_second(second)).play())
    assert line.text == "Hi"


def test_where_both_fail_the_turn_fails() -> None:
    line = _hedging([0.5, failed()], then=_second([0.01, failed()]))
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
        line = _hedging([], then=_second())
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
    second = _second([60.0])
    line = _hedging([60.0], then=second)
    run_virtual(line.play(line.generation.cancel, after_s=1))
    assert (line.provider.closed, second.closed) == (1, 1)
    assert line.finished.reason is FinishReason.CANCELLED


# ------------------------------------------------------------ models


def _listed(name: str, model: str, *models: str) -> ListedProvider:
    provider = ScriptedProvider(name=name)
    provider.model = model
    return ListedProvider(provider, ProviderSpec(name, models), ManualClock())


def test_a_named_model_is_asked_of_those_that_have_it_first() -> None:
    providers = [_listed("a", "large"), _listed("b", "small", "tiny"), _listed("c", "own", "*")]
    asked = candidates_for("tiny", providers)
    assert [(each.listed.name, each.model) for each in asked] == [
        ("b", "tiny"),
        ("c", "tiny"),
        ("a", "large"),
    ]
    assert [each.model for each in candidates_for("", providers)] == ["large", "small", "own"]
    with pytest.raises(UnknownModelError, match="large, small, tiny"):
        candidates_for("huge", providers[:2])


def test_a_model_that_nobody_has_is_the_callers_mistake() -> None:
    unknown = AttemptError(UnknownModelError("no such model"), retryable=False)
    line = Line([unknown], then=[_second()])
    named = tuple(
        replace(each, named=position == 0) for position, each in enumerate(line.generation._candidates)
    )
    line.generation._candidates = named
    with pytest.raises(UnknownModelError):
        run_virtual(line.play())
    assert line.providers[1].asked == []


def test_one_that_was_not_reached_at_start_is_passed_but_asked_where_it_is_the_only_one() -> None:
    second = _second()
    line = Line([*pieces("Hi"), END], then=[second])
    line.listed[0].unreachable = "no connection"
    run_virtual(line.play())
    assert (len(line.provider.asked), len(second.asked)) == (0, 1)
    (notice,) = [event for event in line.read if isinstance(event, FallbackNotice)]
    assert notice.detail.startswith("scripted was not reached yet: no connection; asked second")

    alone = Line([*pieces("Hi"), END])
    alone.listed[0].unreachable = "no connection"
    run_virtual(alone.play())
    assert len(alone.provider.asked) == 1
    assert alone.listed[0].unreachable == ""


def test_each_provider_that_failed_is_named_once() -> None:
    attempts: list[list[Step]] = [[failed()]] * 3
    line = Line(*attempts, then=[_second(*attempts)])
    with pytest.raises(LlmUnavailableError, match=r"^no provider answered: scripted, second: it failed$"):
        run_virtual(line.play())


def test_where_all_are_left_alone_each_is_named_and_the_shortest_wait_is_told() -> None:
    spec = BreakerSpec(failures=1, open_s=5)
    line = Line([failed()], retries=0, breaker=spec, then=[_second([failed()])])
    with pytest.raises(LlmUnavailableError, match="no provider answered"):
        run_virtual(line.play())
    line.listed[1].failed(LlmRateLimitedError("later"), retryable=True, retry_after_ms=50_000)
    line.listed[1].breaker.adopt(BreakerSpec(failures=1))
    line.listed[1].breaker.failed()
    with pytest.raises(LlmUnavailableError, match="no provider can be asked now") as caught:
        run_virtual(replace_buffer(line).play())
    assert caught.value.retry_after_ms == 5000
    assert str(caught.value).count("scripted is left alone") == 1
    assert str(caught.value).count("second is left alone") == 1
