"""A start that gets on is not ended for taking long."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from services.tts.core.members import Member
from services.tts.engines.loading import listen, loading
from services.tts.wire import Progress, parse_progress, progress_message
from voicemesh.runtime.clock import ManualClock


async def test_the_time_for_a_start_counts_anew_from_each_progress():
    member = Member("voice-0", cast(Any, SimpleNamespace()), ManualClock())
    limit = member.start_within(3600)
    async with limit:
        limit.reschedule(asyncio.get_running_loop().time() + 60)
        member.progress(Progress(3, 20, "decode 54 x 4"))
        ends = limit.when()
        assert ends is not None
        assert ends > asyncio.get_running_loop().time() + 1800
    assert member.stats().steps_done == 3
    assert member.stats().steps_total == 20


def test_what_an_engine_loads_is_heard_by_the_last_who_listens():
    first: list[str] = []
    second: list[str] = []
    listen(first.append)
    listen(second.append)
    loading("the weights")
    assert (first, second) == ([], ["the weights"])
    listen(lambda _what: None)


def test_progress_is_read_as_it_was_told():
    progress = Progress(0, 0, "the package torch")
    assert parse_progress(progress_message(progress)[12:]) == progress
