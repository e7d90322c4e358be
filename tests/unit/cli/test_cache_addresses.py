"""Which cache services an address stands for, and what is asked of them."""

import socket
from typing import Any

import pytest
from typer.testing import CliRunner

from voicemesh.cli import invalidate
from voicemesh.cli.app import app
from voicemesh.cli.exits import UNREACHABLE, USAGE, Failure

V4, V6 = socket.AF_INET, socket.AF_INET6
NAMES: dict[str, list[tuple[Any, str]]] = {
    "cache": [(V4, "10.0.0.2"), (V4, "10.0.0.1"), (V4, "10.0.0.2")],
    "dual": [(V6, "fd00::1"), (V4, "10.0.0.3")],
    "six": [(V6, "fd00::1"), (V6, "fd00::2")],
}


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    def known(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        if host not in NAMES:
            raise OSError("unknown")
        return [(family, 1, 6, "", (ip, port)) for family, ip in NAMES[host]]

    monkeypatch.setattr(socket, "getaddrinfo", known)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("cache:50054", ["10.0.0.2:50054", "10.0.0.1:50054"]),
        ("dns:///cache:1", ["10.0.0.2:1", "10.0.0.1:1"]),
        ("dual:1, unix:/tmp/c.sock", ["10.0.0.3:1", "unix:/tmp/c.sock"]),
        ("six:1", ["[fd00::1]:1", "[fd00::2]:1"]),
        ("cache:1,cache:1", ["10.0.0.2:1", "10.0.0.1:1"]),
        ("ipv4:10.0.0.9:1", ["ipv4:10.0.0.9:1"]),
    ],
)
def test_a_name_stands_for_all_that_it_resolves_to(given: str, found: list[str]) -> None:
    assert invalidate.addresses(given) == found


@pytest.mark.parametrize(
    ("given", "status"), [("cache", USAGE), (":1", USAGE), ("cache:x", USAGE), ("nobody:1", UNREACHABLE)]
)
def test_what_is_no_address_is_told(given: str, status: int) -> None:
    with pytest.raises(Failure) as raised:
        invalidate.addresses(given)
    assert raised.value.status == status


def test_a_tenant_is_the_target_or_its_limit() -> None:
    alone = invalidate.request_of("tenant", "", "acme")
    assert (alone.WhichOneof("target"), alone.tenant) == ("tenant", "acme")
    assert not alone.HasField("only_tenant")
    within = invalidate.request_of("tag", "lesson", "acme")
    assert (within.tag, within.only_tenant) == ("lesson", "acme")
    nameless = invalidate.request_of("all", "", "")
    assert nameless.all
    assert nameless.HasField("only_tenant")
    assert not invalidate.request_of("voice", "v", None).HasField("only_tenant")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "what to remove is not said"),
        (["--voice", "v", "--tag", "t"], "--voice, --tag exclude each other"),
        (["--all", "--model-revision", "r"], "exclude each other"),
        (["--tenant", "a/b"], "--tenant: 'a/b' must begin"),
        (["--key", "{}x"], "--key: is no CacheKey"),
        (["--key", '{"video": {}}'], "--key: is no CacheKey"),
    ],
)
def test_wrong_use_is_told_before_anybody_is_asked(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["cache", "invalidate", *arguments, "--cache-addr", "nobody:1"])
    assert result.exit_code == USAGE
    assert message in result.output
