"""A mesh that speaks mutual TLS everywhere, and TLS at its edge."""

import asyncio
import contextlib
import shutil
import ssl
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.certificates import Authority
from tests.support.mesh import SERVICES, Mesh, Own, running_mesh_with
from voicemesh.client import VoiceMesh, VoiceMeshError
from voicemesh.tts.v1 import tts_pb2, tts_pb2_grpc

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
