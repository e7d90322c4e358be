"""Two tenants on one mesh: neither hears or reads what the other left, but for what is marked shared."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.mesh import Mesh, running_mesh
from voicemesh.client import TurnReport, VoiceMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROMPT = "What is a lighthouse for?"
HIT = {"hit", "memory"}
"""A reply that was found, and all of its audio."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sharing() -> AsyncIterator[Mesh]:
    """Run a mesh whose tenants share everything that can be shared."""
    async with running_mesh(VOICEMESH_GATEWAY_SHARED_CACHE="all") as running:
        yield running


async def asked(mesh: Mesh, tenant: str, prompt: str = PROMPT, session: str = "") -> TurnReport:
    async with VoiceMesh(mesh.address("gateway"), tenant=tenant) as client:
        report = (await client.ask(prompt, session_id=session).collect()).report
    assert report is not None
    assert report.error is None
    return report


def found(report: TurnReport) -> set[str]:
    """Return where the reply and its audio came from."""
    return {report.reply_cache, *(chunk.cache for chunk in report.chunks)}


async def test_a_tenant_finds_its_own_entries_and_no_others(mesh: Mesh) -> None:
    assert found(await asked(mesh, "acme")) == {"miss"}
    assert found(await asked(mesh, "acme")) == HIT
    for other in ("rival", ""):
        assert found(await asked(mesh, other)) == {"miss"}
        assert found(await asked(mesh, other)) == HIT


async def test_a_session_of_one_id_is_each_tenants_own(mesh: Mesh) -> None:
    # The rehearsal model is told what was said before: a history makes another reply key.
    await asked(mesh, "one", "My name is Ada.", "s")
    await asked(mesh, "two", PROMPT, "s")
    # Had the second tenant gone on with the first one's session, this would be a third message.
    assert (await asked(mesh, "two", PROMPT, "new")).reply_cache == "hit"


async def test_what_is_marked_shared_is_found_by_all(sharing: Mesh) -> None:
    assert found(await asked(sharing, "acme")) == {"miss"}
    assert found(await asked(sharing, "rival")) == HIT
    assert found(await asked(sharing, "")) == HIT


async def test_a_history_is_not_shared_even_there(sharing: Mesh) -> None:
    await asked(sharing, "one", "My name is Ada.", "s")
    assert (await asked(sharing, "two", "My name is Ada.", "s")).reply_cache == "hit"
