"""The whole service, in whatever order things happen: see `turmoil`.

A seed that fails is in the name of its test. For many of them: `VOICEMESH_TEST_SEEDS=0:1000`.
"""

import asyncio
import os
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.virtual_time import VirtualLoop
from tests.unit.tts.turmoil import Turmoil

# Taken when tests are collected: what runs them takes it out of the environment.
_FIRST, _END = map(int, os.environ.get("VOICEMESH_TEST_SEEDS", "0:20").split(":"))


def _run(turmoil: Turmoil, *, calm: bool) -> None:
    """Run it in virtual time, and the service to its end; fail at what a task or a timer raised."""
    raised: list[dict[str, Any]] = []
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _loop, context: raised.append(context))

    async def course() -> None:
        await turmoil.speech.start()
        try:
            await turmoil.rage()
            turmoil.half_close()
            if calm:
                await turmoil.calm()
                turmoil.check_rest()
        finally:
            await turmoil.speech.close()
        turmoil.listen()
        # Nothing comes any more: the loop raises where one of them still waits.
        await asyncio.gather(*(caller.reading for caller in turmoil.callers))

    try:
        with capture_logs() as logs:
            loop.run_until_complete(course())
        assert not asyncio.all_tasks(loop)
    finally:
        loop.close()
    assert not raised
    assert not [entry for entry in logs if "exc_info" in entry]


@pytest.mark.parametrize("seed", range(_FIRST, _END))
@pytest.mark.parametrize("calm", [True, False], ids=["calm", "closed"])
def test_every_stream_ends_audio_has_no_gap_and_nothing_is_left(seed: int, *, calm: bool) -> None:
    turmoil = Turmoil(seed)
    _run(turmoil, calm=calm)
    for caller in turmoil.callers:
        caller.check()
    assert not turmoil.running()
