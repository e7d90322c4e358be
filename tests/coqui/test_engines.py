"""The conformance suite on the engines of Coqui TTS, with models of random weights."""

import asyncio
import warnings
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.random_models import make_vits
from services.tts.core.model import VoiceSpec
from tests.contract.engine_list import Listed, listing
from tests.contract.engine_suite import *  # noqa: F403 - the tests of the suite become this module's


def vits(name: str, **values: Any) -> Listed:
    options = {"device": "cpu", "threads": 1, **values.pop("options", {})}

    def make(folder: str) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make_vits(Path(folder), **values)

    @asynccontextmanager
    async def declare():
        with TemporaryDirectory() as folder:
            await asyncio.to_thread(make, folder)
            yield VoiceSpec("vits", "coqui", 1, "en-us", {**options, "model": folder})

    return Listed(name, declare, sentences=24, random_weights=True)


listed = listing([vits("vits", phonemes="en-us", speakers=3, stochastic=True)])
