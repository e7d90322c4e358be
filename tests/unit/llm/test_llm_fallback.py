"""Several providers: whom a reply is asked of, and what becomes of it where they fail."""

import asyncio
from dataclasses import replace

import pytest

from services.llm.core.candidates import candidates_for
from services.llm.core.model import (
    AttemptError,
    Connected,
    FallbackNotice,
    FinishReason,
    ProviderEnd,
    RetryNotice,
    TextPiece,
    Unspoken,
)
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
)
from voicemesh.runtime.breaker import BreakerSpec
from voicemesh.runtime.errors import (
    LlmKeyRefusedError,
    LlmRateLimitedError,
    LlmRequestRefusedError,
    LlmUnavailableError,
    UnknownModelError,
)

LIMITED = AttemptError(LlmRateLimitedError("slow down"), retryable=True, retry_after_ms=3000)
REFUSED = AttemptError(LlmKeyRefusedError("bad key"), retryable=False)


@pytest.mark.parametrize("failure", [LIMITED, REFUSED], ids=["a long Retry-After", "a refused key"])
def test_what_the_turn_cannot_afford_goes_to_the_next_at_once(failure: AttemptError) -> None:
    line = Line([failure], then=[another()])

    async def story() -> float:
        began_s = asyncio.get_running_loop().time()
        await line.play()
        return asyncio.get_running_loop().time() - began_s

    assert run_virtual(story()) == 0
    assert line.text == "Hi"
    assert notices(line) == [FallbackNotice]
    assert (line.finished.provider, line.finished.model) == ("second", "m-2024")
    assert line.observer.begun == [("scripted", 0), ("second", 1)]
    assert [error for _, error in line.observer.ends] == [failure.error, None]


def test_the_first_is_asked_again_before_the_second_is_asked() -> None:
    line = run_virtual(Line([failed()], [failed()], [failed()], then=[another()]).play())
    assert notices(line) == [RetryNotice, RetryNotice, FallbackNotice]
    assert line.text == "Hi"
    assert (line.figures.asked, line.figures.retries, line.figures.fallbacks) == (4, 2, 1)


def test_a_request_that_is_refused_is_refused_by_all() -> None:
    line = Line([AttemptError(LlmRequestRefusedError("no"), retryable=False)], then=[another()])
    with pytest.raises(LlmRequestRefusedError):
        run_virtual(line.play())
    assert line.providers[1].asked == []


def test_where_all_fail_the_caller_is_told_of_each() -> None:
    line = Line([failed()], then=[another([REFUSED])], retries=0)
    with pytest.raises(LlmKeyRefusedError, match="scripted: it failed; second: bad key"):
        run_virtual(line.play())


def test_a_silent_provider_is_given_up_for_the_next() -> None:
    line = run_virtual(
        Line([Connected(), 60.0], then=[another()], retries=0, first_token_timeout_s=2.0).play()
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


def test_a_named_model_is_asked_of_those_that_have_it_first() -> None:
    providers = [listed("a", "large"), listed("b", "small", "tiny"), listed("c", "own", "*")]
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
    line = Line([unknown], then=[another()])
    named = tuple(
        replace(each, named=position == 0) for position, each in enumerate(line.generation._candidates)
    )
    line.generation._candidates = named
    with pytest.raises(UnknownModelError):
        run_virtual(line.play())
    assert line.providers[1].asked == []


def test_one_that_was_not_reached_at_start_is_passed_but_asked_where_it_is_the_only_one() -> None:
    second = another()
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
    line = Line(*attempts, then=[another(*attempts)])
    with pytest.raises(LlmUnavailableError, match=r"^no provider answered: scripted, second: it failed$"):
        run_virtual(line.play())


def test_where_all_are_left_alone_each_is_named_and_the_shortest_wait_is_told() -> None:
    spec = BreakerSpec(failures=1, open_s=5)
    line = Line([failed()], retries=0, breaker=spec, then=[another([failed()])])
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
