"""What the tests of keys and of tokens share."""

import json
import os
import pathlib
from typing import Any

import pytest

from gateway.access.caller import Caller
from gateway.access.guard import Access
from gateway.access.table import Needs
from voicemesh import keyfile
from voicemesh.runtime.errors import (
    MeshError,
)

SPEAK = Needs(("speak",))
T0 = 1_800_000_000.0
"""Seconds since 1970 of every test's beginning."""
ISSUER, AUDIENCE = "https://id.example", "voicemesh"


class Wall:
    """Time of day."""

    def __init__(self) -> None:
        self.now_s = T0

    def __call__(self) -> float:
        return self.now_s


def entry(key: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": keyfile.id_of(key),
        "sha256": keyfile.digest(key),
        "tenant": "acme",
        "scopes": ["speak"],
        **fields,
    }


def write(path: pathlib.Path, *entries: dict[str, Any]) -> None:
    put(path, json.dumps({"keys": entries}).encode())


def put(path: pathlib.Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
        return
    path.write_bytes(content)
    # A file system's clock may be coarser than a test is quick.
    put.count += 1  # type: ignore[attr-defined]
    os.utime(path, ns=(put.count, put.count))  # type: ignore[attr-defined]


put.count = 0  # type: ignore[attr-defined]


async def admitted(
    access: Access, *shown: str, needs: Needs = SPEAK, tenants: tuple[str, ...] = ()
) -> Caller:
    caller = await access.admit(needs, shown, tenants, "voicemesh-tenant")
    assert caller is not None
    return caller


async def refused(access: Access, *shown: str, **more: Any) -> MeshError:
    with pytest.raises(MeshError) as raised:
        await admitted(access, *shown, **more)
    return raised.value
