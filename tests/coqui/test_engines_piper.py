"""The conformance suite on the engine of Piper, with voices that nobody trained. Needs the extra `piper`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from services.tts.core.model import VoiceSpec
from tests.contract.engine_list import Listed, listing
from tests.contract.engine_suite import *  # noqa: F403 - the tests of the suite become this module's
from tests.support import piper_model

STILL = {"noise_scale": 0, "noise_w": 0}


def piper(name: str, options: dict[str, Any], **values: Any) -> Listed:
    @asynccontextmanager
    async def declare() -> AsyncIterator[VoiceSpec]:
        with TemporaryDirectory() as folder:
            path = piper_model.write(Path(folder), **values)
            yield VoiceSpec("piper", "piper", 1, "", {"model": str(path), "threads": 1, **options})

    return Listed(name, declare)


listed = listing(
    [
        piper("piper", {}),
        piper("piper-without-noise", STILL),
        piper("piper-speakers", {**STILL, "slots": 2, "speaker": "Speaker1"}, speakers=3),
    ]
)
