"""A mesh for each module of tests, and a client of it."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.mesh import Mesh, running_mesh
from voicemesh.client import VoiceMesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    """Run a mesh for a whole module."""
    async with running_mesh() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(mesh: Mesh) -> AsyncIterator[VoiceMesh]:
    """Open a client of the module's mesh."""
    async with VoiceMesh(mesh.address("gateway")) as opened:
        yield opened
