"""A gateway's file of keys, and the time that it is read at."""

import pathlib

import pytest

from gateway.access.guard import Access
from gateway.settings import GatewaySettings
from tests.unit.gateway.access.harness import Wall, entry, write
from voicemesh import keyfile
from voicemesh.runtime.clock import ManualClock


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def key() -> str:
    return keyfile.new_key("shop")


@pytest.fixture
def path(tmp_path: pathlib.Path, key: str) -> pathlib.Path:
    path = tmp_path / "keys.json"
    write(path, entry(key, priority="low", limits={"turns": 2}))
    return path


@pytest.fixture
def access(path: pathlib.Path, clock: ManualClock, wall: Wall) -> Access:
    return Access(GatewaySettings(gateway_keys_file=str(path)), clock, wall_s=wall)
