import json
import pathlib
from typing import Any

import pytest

from gateway.access.caller import Caller, Limits, Priority
from gateway.admission.rules import Rules, read

RULES: dict[str, Any] = {
    "default": {"requests_per_min": 600, "turns": 20},
    "tenants": {
        "acme": {
            "weight": 3,
            "turns": 100,
            "keys": {"batch": {"priority": "low", "turns": 5, "requests_per_min": 0}},
        }
    },
}


def test_what_is_not_said_of_a_key_is_its_tenants_then_the_defaults() -> None:
    own = read(json.dumps(RULES), "")

    assert own.limits(Caller("other")) == Limits(600, 0, 20)
    assert own.limits(Caller("acme")) == Limits(600, 0, 100)
    assert own.limits(Caller("acme", "batch")) == Limits(0, 0, 5)
    assert own.limits(Caller("acme", "batch", limits=Limits(turns=7))) == Limits(0, 0, 7)
    assert (own.weight("acme"), own.weight("other")) == (3, 1)


def test_the_lower_ceiling_holds() -> None:
    own = read(json.dumps(RULES), "")

    assert own.ceiling(Caller("acme", "batch")) is Priority.LOW
    assert own.ceiling(Caller("acme")) is Priority.HIGH
    assert own.ceiling(Caller("acme", priority=Priority.NORMAL)) is Priority.NORMAL


def test_without_rules_there_are_no_limits() -> None:
    assert read("", "") == Rules()
    assert Rules().limits(Caller("acme")) == Limits()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "VOICEMESH_GATEWAY_LIMITS: is no JSON"),
        ('{"tenants": {"a b": {}}}', "'a b'"),
        ('{"default": {"turns": -1}}', "default.turns: "),
        ('{"default": {"turn": 1}}', "default.turn: "),
        ('{"default": {"keys": {"k": {}}}}', "keys belong to a tenant"),
        ('{"tenants": {"a": {"priority": "urgent"}}}', "tenants.a.priority: "),
        ('{"tenants": {"a": {"weight": 0}}}', "tenants.a.weight: "),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="VOICEMESH_GATEWAY_LIMITS") as raised:
        read(text, "")
    assert says in str(raised.value)


def test_a_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "limits.json"
    path.write_text(json.dumps(RULES))
    assert read("", str(path)).weight("acme") == 3

    with pytest.raises(ValueError, match="cannot read"):
        read("", str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match="set one of them"):
        read("{}", str(path))
