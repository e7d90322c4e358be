"""Several providers: how a reply goes on that broke off after its first text."""

import asyncio
from typing import Any

import pytest

from services.llm.core.model import (
    AttemptError,
    Billed,
    Connected,
    FallbackNotice,
    ResumedNotice,
    Role,
    Usage,
)
from services.llm.core.retries import RetryPolicy
from tests.support.virtual_time import run_virtual
from tests.unit.llm.virtual import (
    END,
    Line,
    Step,
    another,
    failed,
    notices,
    pieces,
)
from voicemesh.runtime.errors import (
    LlmKeyRefusedError,
    LlmRequestRefusedError,
    LlmStreamBrokenError,
)

REFUSED = AttemptError(LlmKeyRefusedError("bad key"), retryable=False)
GOES_ON = RetryPolicy(continues=True)


def test_a_broken_stream_goes_on_behind_what_was_said() -> None:
    line = run_virtual(
        Line(
            [*pieces("Once upon", " a ti"), Usage(5, 3), failed()],
            [*pieces("a time there", " was."), Usage(9, 4, 2), END],
            policy=GOES_ON,
        ).play()
    )
    assert line.text == "Once upon a time there was."
    assert notices(line) == [ResumedNotice]
    assert line.finished.usage == Usage(9, 4, 2)
    assert line.finished.also_billed == (Billed(line.finished.provider, "m", Usage(5, 3)),)
    again = line.provider.asked[1]
    assert [message.role for message in again.messages[-2:]] == [Role.ASSISTANT, Role.USER]
    assert again.messages[-2].text == "Once upon a"
    assert again.max_tokens < line.provider.asked[0].max_tokens


def test_a_broken_stream_goes_on_at_the_next_provider() -> None:
    second = another([*pieces(" a time."), END])
    line = run_virtual(Line([*pieces("Once upon"), REFUSED], then=[second], policy=GOES_ON).play())
    assert line.text == "Once upon a time."
    assert notices(line) == [FallbackNotice, ResumedNotice]
    assert line.finished.provider == "second"


def test_a_stream_that_stalls_is_broken() -> None:
    second = another([*pieces(" a time."), END])
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
    assert notices(line) == [ResumedNotice]
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
