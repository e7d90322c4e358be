"""Every service, sent what nobody would send: it answers each call by a typed status, and goes on."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.fuzz.grammars import GRAMMARS
from tests.fuzz.lab import Lab, running_lab

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEED = "every change"
MESSAGES = {"gateway": 250}
"""A few hundred each: `make fuzz` sends as many as one likes."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    """Run a mesh; at its end every process ends well and has not complained."""
    async with running_lab() as running:
        yield running


@pytest.mark.parametrize("service", GRAMMARS)
async def test_a_service_outlives_what_it_is_sent(lab: Lab, service: str) -> None:
    found = await lab.fuzz(service, SEED, MESSAGES.get(service, 500), at_once=8, batch=1_000)
    assert not found.all_faults
    assert found.tally.ends["OK"]
    assert any(end.startswith("INVALID_ARGUMENT") for end in found.tally.ends)
