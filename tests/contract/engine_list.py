"""The engines that the suite in `engine_suite` runs, and how one more is listed."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from services.tts.core.model import VoiceSpec
from services.tts.settings import VoiceDeclaration

VARIABLE: Final = "VOICEMESH_TEST_ENGINES"


@dataclass(frozen=True)
class Listed:
    """One engine, as the suite runs it."""

    name: str
    """In the names of the tests."""
    declare: Callable[[], AbstractAsyncContextManager[VoiceSpec]]
    """Declares a voice of it; what the voice needs (a server, a model's file) is there meanwhile."""
    repeats: bool = False
    """True where the same request gives the same samples here, although the engine cannot promise it."""
    sentences: int = 66
    """Sentences of the suite's long text, each 30 characters; fewer for an engine that is slow."""
    random_weights: bool = False
    """True where no training has made the length of the audio follow the text and the speed."""


def listed(name: str, spec: VoiceSpec, **values: Any) -> Listed:
    """List an engine that needs nothing but its declaration."""

    @asynccontextmanager
    async def declare() -> AsyncIterator[VoiceSpec]:
        yield spec

    return Listed(name, declare, **values)


def listing(engines: Iterable[Listed]) -> Any:
    """Return the fixture `listed` of a module that runs the suite on `engines`."""

    @pytest.fixture(scope="module", params=list(engines), ids=lambda engine: engine.name)
    def listed_fixture(request: pytest.FixtureRequest) -> Any:
        return request.param

    return listed_fixture


def from_environment(value: str) -> list[Listed]:
    """Return what the variable lists: a class as `package.module:Class`, or voices as they are declared."""
    if not value.strip():
        return []
    if not value.lstrip().startswith("["):
        value = json.dumps([{"name": value.rpartition(":")[2].lower(), "engine": value}])
    specs = [VoiceDeclaration.model_validate(declared).spec() for declared in json.loads(value)]
    return [listed(spec.name, spec) for spec in specs]


@asynccontextmanager
async def _openai() -> AsyncIterator[VoiceSpec]:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.openai_server", stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    try:
        base_url = (await server.stdout.readline()).decode().split()[-1]
        options: dict[str, object] = {"base_url": base_url, "voices": ["alloy", "nova"]}
        yield VoiceSpec("api", "openai", 1, "en", options)
    finally:
        server.terminate()
        await server.communicate()


ESPEAK: Final = VoiceSpec("espeak", "espeak", 1, "en-us", {})

ENGINES: Final = (
    listed("espeak", ESPEAK),
    listed("espeak-timbre", VoiceSpec("espeak", "espeak", 1, "de", {"timbre": "f2", "pitch": 70})),
    listed(
        "simulated-tone",
        VoiceSpec("sim", "simulated", 1, "en", {"first_frame_ms": 2, "rtf": 0.002}),
    ),
    listed(
        "simulated-espeak",
        VoiceSpec("sim", "simulated", 1, "en-us", {"audio": "espeak", "rtf": 0.002}),
    ),
    listed(
        "simulated-steps",
        VoiceSpec("sim", "simulated-steps", 1, "en", {"silence_ms": 90, "step_ms": 0.5, "memory": 4}),
    ),
    listed("own-class", VoiceSpec("own", "tests.contract.own_engines:ToneEngine", 1, "en", {})),
    # The server repeats itself; the engine cannot know that.
    Listed("openai", _openai, repeats=True),
    # Read now: the tests themselves run in a clean environment.
    *from_environment(os.environ.get(VARIABLE, "")),
)
"""What needs no more than `make setup` installs. Engines with extras are listed in `tests/coqui`."""
