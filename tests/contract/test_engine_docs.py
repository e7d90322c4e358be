"""The engine of docs/voices.md, as it stands there, is one: it passes the whole suite."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from services.tts.core.model import VoiceSpec
from tests.contract.engine_list import Listed, listing
from tests.contract.engine_suite import *  # noqa: F403 - the tests of the suite become this module's

_PAGE = Path(__file__).parents[2] / "docs" / "voices.md"
_EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
MOST_LINES = 35


def example() -> str:
    """Return the one engine that the page spells out."""
    (code,) = _EXAMPLE.findall(_PAGE.read_text())
    return str(code)


def _install(folder: Path) -> None:
    package = folder / "my_voices"
    package.mkdir()
    (package / "beep.py").write_text(example())


@asynccontextmanager
async def _declare() -> AsyncIterator[VoiceSpec]:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        _install(Path(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join((folder, os.environ.get("PYTHONPATH", ""))))
        yield VoiceSpec("beep", "my_voices.beep:Beep", 1, "en", {})


listed = listing([Listed("docs", _declare)])


async def test_the_example_is_short() -> None:
    assert len(example().splitlines()) <= MOST_LINES
