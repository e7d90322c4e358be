"""The conformance suite on every engine that needs nothing more than `make setup` installs."""

import asyncio
import sys

import pytest

from services.tts import wire
from tests.contract.engine_list import ENGINES, from_environment, listing
from tests.contract.engine_suite import *  # noqa: F403 - the tests of the suite become this module's

listed = listing(ENGINES)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("", []),
        ("my_voices.neural:Neural", ["neural"]),
        (
            '[{"name": "a", "engine": "simulated", "options": {"rtf": 1}}, {"name": "b", "engine": "m:C"}]',
            ["a", "b"],
        ),
    ],
)
async def test_engines_are_listed_by_a_variable(value, names):
    found = from_environment(value)
    assert [engine.name for engine in found] == names
    for engine in found:
        async with engine.declare() as spec:
            assert spec.name == engine.name


async def test_workers_import_nothing_heavy():
    code = (
        "import sys, services.tts.worker, services.tts.engines.espeak, services.tts.engines.simulated;"
        "print({'grpc', 'google.protobuf', 'pydantic', 'numpy', 'asyncio', 'httpx2'} & set(sys.modules))"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    assert output.decode().strip() == "set()"


async def test_half_a_character_reaches_no_engine():
    with pytest.raises(UnicodeEncodeError):
        wire.json_message(wire.SPEAK, 1, {"text": "half \ud800 of one"})
