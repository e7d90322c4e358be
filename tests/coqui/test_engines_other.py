"""The suite of every engine, on XTTS and on a model of another kind, with random weights."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.tts.core.model import VoiceSpec
from tests.contract.engine_list import Listed, listing
from tests.contract.engine_suite import *  # noqa: F403
from tests.coqui.random_whole import make_fast_pitch
from tests.coqui.random_xtts import make_xtts, write_clip


@asynccontextmanager
async def declare() -> AsyncIterator[VoiceSpec]:
    with tempfile.TemporaryDirectory() as folder:
        model = make_xtts(Path(folder))
        options = {
            "model": str(model),
            "speaker_wav": str(write_clip(model / "clip.wav")),
            "latents_cache": str(model / "latents"),
            "device": "cpu",
            "threads": 1,
        }
        yield VoiceSpec("xtts", "coqui", 1, "en", options)


@asynccontextmanager
async def declare_whole() -> AsyncIterator[VoiceSpec]:
    with tempfile.TemporaryDirectory() as folder:
        model = make_fast_pitch(Path(folder))
        options = {"model": str(model), "vocoder": str(model / "vocoder"), "device": "cpu", "threads": 1}
        yield VoiceSpec("pitch", "coqui", 1, "en", options)


listed = listing(
    [
        Listed("xtts", declare, sentences=16, random_weights=True),
        Listed("fast-pitch", declare_whole, sentences=16, random_weights=True),
    ]
)
