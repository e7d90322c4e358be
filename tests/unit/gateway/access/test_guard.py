"""Who is let in by a key: tenants, scopes, files that change."""

import base64
import pathlib
import subprocess
import sys
import time

import pytest

from gateway.access import guard as guards
from gateway.access.caller import Caller, Limits, Priority
from gateway.access.guard import Access
from gateway.access.table import Needs
from gateway.admission.door import Door
from gateway.admission.limit import AdaptiveLimit
from gateway.settings import GatewaySettings
from tests.unit.gateway.access.harness import (
    SPEAK,
    T0,
    Wall,
    admitted,
    entry,
    put,
    refused,
    write,
)
from voicemesh import keyfile
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.errors import (
    InvalidFieldError,
    PermissionDeniedError,
    RateLimitedError,
    SettingsError,
    UnauthenticatedError,
)


async def test_a_key_is_its_tenants_with_what_it_may_do(access: Access, key: str) -> None:
    caller = await admitted(access, f"Bearer {key}")
    assert caller == Caller("acme", "shop", frozenset({"speak"}), Priority.LOW, Limits(turns=2))
    assert key not in repr(caller)
    assert (await admitted(access, f"bearer  {key} ")).key_id == "shop"


async def test_without_access_control_nobody_is_asked(clock: ManualClock) -> None:
    access = Access(GatewaySettings(), clock)
    assert not access.on
    assert await access.admit(SPEAK, ["Bearer x"], ["a b"], "t") is None


async def test_what_everybody_may_needs_no_key(access: Access) -> None:
    assert await access.admit(Needs(), [], [], "t") is None


async def test_every_bad_key_gets_the_same_answer(access: Access, key: str, path: pathlib.Path) -> None:
    texts = {
        str(await refused(access, shown))
        for shown in (
            "Bearer",
            "Bearer ",
            key,
            f"Basic {base64.b64encode(f'x:{key}'.encode()).decode()}",
            f"Digest {key}",
            f"Bearer {key}x",
            f"Bearer {key[:-1]}",
            f"Bearer {keyfile.new_key('shop')}",
            f"Bearer {keyfile.new_key('none')}",
            f"Bearer {key} {key}",
            f"Bearer vmk_shop_{'x' * 100_000}",
            "Bearer \udcff",
            "Bearer a.b.c",
        )
    }
    assert texts == {"the key or token is not accepted"}
    assert str(await refused(access, f"Bearer {key}", f"Bearer {key}")) in texts
    missing = await refused(access)
    assert isinstance(missing, UnauthenticatedError)
    assert "authorization: Bearer" in str(missing)
    write(path, entry(key, disabled=True))
    assert access._keys is not None
    await access._keys.refresh()
    assert str(await refused(access, f"Bearer {key}")) in texts


async def test_a_browser_shows_its_key_as_a_password_where_it_may(access: Access, key: str) -> None:
    basic = base64.b64encode(f"any name:{key}".encode()).decode()
    caller = await access.admit(SPEAK, [f"Basic {basic}"], [], "t", password=True)
    assert caller is not None
    assert caller.key_id == "shop"
    for bad in ("Basic !", "Basic " + base64.b64encode(b"\xff:\xff").decode(), f"Basic {key}"):
        with pytest.raises(UnauthenticatedError):
            await access.admit(SPEAK, [bad], [], "t", password=True)


async def test_a_scope_that_is_missing_is_named(access: Access, key: str) -> None:
    error = await refused(access, f"Bearer {key}", needs=Needs(("usage", "operator")))
    assert isinstance(error, PermissionDeniedError)
    assert "`usage` or `operator`" in str(error)


async def test_a_tenant_that_is_not_the_keys_is_refused_unless_it_may_say_any(
    access: Access, key: str, path: pathlib.Path
) -> None:
    assert (await admitted(access, f"Bearer {key}", tenants=("acme",))).tenant == "acme"
    error = await refused(access, f"Bearer {key}", tenants=("rival",))
    assert isinstance(error, PermissionDeniedError)
    assert "tenant:any" in str(error)
    assert isinstance(await refused(access, f"Bearer {key}", tenants=("a b",)), InvalidFieldError)
    write(path, entry(key, scopes=["speak", "tenant:any"]))
    assert access._keys is not None
    await access._keys.refresh()
    assert (await admitted(access, f"Bearer {key}", tenants=("rival",))).tenant == "rival"
    assert (await admitted(access, f"Bearer {key}")).tenant == "acme"


async def test_a_key_that_expires_is_good_no_more_on_streams_that_are_open(
    access: Access, key: str, path: pathlib.Path, wall: Wall
) -> None:
    write(path, entry(key, expires="2027-01-15T08:00:10Z"))
    assert keyfile.read(path)["shop"].expires_unix_s == T0 + 10
    assert access._keys is not None
    await access._keys.refresh()
    caller = await admitted(access, f"Bearer {key}")
    wall.now_s += 9.9
    caller.check()
    wall.now_s += 0.1
    with pytest.raises(UnauthenticatedError, match="any more"):
        caller.check()
    assert isinstance(await refused(access, f"Bearer {key}"), UnauthenticatedError)


async def test_a_bad_file_leaves_the_keys_as_they_were(
    access: Access, key: str, path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, other = access._keys, keyfile.new_key("other")
    assert keys is not None
    caller = await admitted(access, f"Bearer {key}")
    put(path, b"{")
    for _ in range(2):
        await keys.refresh()
    put(path, None)
    await keys.refresh()
    caller.check()
    assert (await admitted(access, f"Bearer {key}")).key_id == "shop"
    write(path, entry(other))
    await keys.refresh()
    assert (await admitted(access, f"Bearer {other}")).key_id == "other"
    with pytest.raises(UnauthenticatedError):
        caller.check()
    assert capsys.readouterr().out.count("keys file is refused") == 2


@pytest.mark.parametrize("text", [None, "{", '{"keys": [{}]}'])
def test_a_gateway_does_not_start_without_the_keys_it_is_to_ask_for(
    tmp_path: pathlib.Path, text: str | None, clock: ManualClock
) -> None:
    path = tmp_path / "keys.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match="VOICEMESH_GATEWAY_KEYS_FILE"):
        Access(GatewaySettings(gateway_keys_file=str(path)), clock)


async def test_a_flood_of_bad_keys_is_told_in_one_line(
    access: Access, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(1000):
        await refused(access, f"Bearer {keyfile.new_key('shop')}")
    clock.advance_ms(guards.TELL_S * 1000)
    await refused(access)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "unauthenticated=1000" in lines[1]
    assert "vmk_" not in "".join(lines)


def test_time_of_day_is_the_machines(path: pathlib.Path, clock: ManualClock) -> None:
    access = Access(GatewaySettings(gateway_keys_file=str(path)), clock)
    assert access._keys is not None
    assert access._keys._wall_s is time.time


async def test_what_a_key_may_in_all_does_not_grow_with_the_tenants_that_it_names(
    path: pathlib.Path, key: str, clock: ManualClock, wall: Wall
) -> None:
    own = {"requests_per_min": 2, "turns": 1}
    write(path, entry(key, scopes=["speak", "tenant:any"], limits=own))
    access = Access(GatewaySettings(gateway_keys_file=str(path)), clock, wall_s=wall)
    door = Door(clock, AdaptiveLimit(least=100, start=100, most=100, target_ms=1000), most=100)
    shown = f"Bearer {key}"
    callers = [await admitted(access, shown, tenants=(name,)) for name in ("a", "b", "c")]
    place = door.admit(callers[0])
    with pytest.raises(RateLimitedError) as raised:
        door.admit(callers[1])
    assert raised.value.limit == "turns"
    place.release()
    door.admit(callers[1]).release()
    with pytest.raises(RateLimitedError) as raised:
        door.admit(callers[2])
    assert raised.value.limit == "requests"


def test_a_gateway_that_takes_no_tokens_loads_nothing_that_reads_them() -> None:
    said = (
        "import sys, gateway.__main__; print(*sorted({'jwt', 'cryptography', 'httpx2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
