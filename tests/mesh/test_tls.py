"""A mesh that speaks mutual TLS everywhere, and TLS at its edge."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.certificates import Authority
from tests.support.mesh import SERVICES, Mesh, Own, running_mesh_with

GUARD_S = 60.0


class Guarded(Mesh):
    """A mesh with certificates."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def folder() -> AsyncIterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="vm-tls-"))
    yield made
    shutil.rmtree(made)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(folder: Path) -> AsyncIterator[Mesh]:
    authority, edge = Authority(folder), Authority(folder, "edge-ca")
    pairs = {name: authority.issue(name) for name in (*SERVICES, "operator")}
    outside = edge.issue("edge")
    own = {
        name: Own(
            environment={
                "VOICEMESH_TLS_CERT": str(pairs[name].cert),
                "VOICEMESH_TLS_KEY": str(pairs[name].key),
            }
        )
        for name in SERVICES
    }
    environment = {
        "VOICEMESH_TLS_CA": str(authority.path),
        "VOICEMESH_TLS_RELOAD_S": "0.1",
        "VOICEMESH_GATEWAY_TLS_CERT": str(outside.cert),
        "VOICEMESH_GATEWAY_TLS_KEY": str(outside.key),
    }
    async with running_mesh_with(environment, own=own) as running:
        yield running
