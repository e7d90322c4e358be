"""The file of keys: what is one, and how it is changed."""

import json
import pathlib
from typing import Any

import pytest

from gateway.access.caller import Limits, Priority
from voicemesh import keyfile

GOOD: dict[str, Any] = {
    "id": "shop",
    "sha256": "a" * 64,
    "tenant": "acme",
    "scopes": ["speak", "converse"],
    "priority": "low",
    "limits": {"turns": 3},
    "expires": "2027-01-31T00:00:00Z",
    "note": "kiosk",
}


def content(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


def test_a_key_is_read_with_all_that_it_says() -> None:
    (key,) = keyfile.parse(content(GOOD)).values()
    assert (key.id, key.tenant, key.scopes, key.priority) == ("shop", "acme", ("speak", "converse"), "low")
    assert key.limits == {"turns": 3}
    assert key.expires_unix_s == 1801353600
    assert key.state(1801353599) == "active"
    assert key.state(1801353600) == "expired"
    assert keyfile.parse(content({**GOOD, "disabled": True}))["shop"].state(0) == "revoked"


WRONG = [
    ("id", "Shop", "must be 1 to 64 of"),
    ("id", "a_b", "must be 1 to 64 of"),
    ("id", 7, "must be text"),
    ("sha256", "abc", "64 digits"),
    ("sha256", "A" * 64, "64 digits"),
    ("tenant", "a b", "must begin with"),
    ("scopes", [], "one or more of"),
    ("scopes", "speak", "one or more of"),
    ("scopes", ["fly"], "'fly' is none of"),
    ("scopes", [["speak"]], "is none of"),
    ("priority", "urgent", "must be one of low, normal, high"),
    ("limits", [], "must be an object"),
    ("limits", {"turns": -1}, "limits.turns: must be a whole number"),
    ("limits", {"turns": True}, "limits.turns: must be a whole number"),
    ("limits", {"words": 1}, "limits.words: is no limit"),
    ("expires", "soon", "must be a time"),
    ("expires", 0, "must be text"),
    ("expires", None, "must be text"),
    ("disabled", "no", "must be true or false"),
    ("note", 5, "must be text"),
    ("key", "vmk_shop_secret", "is no field of a key"),
]


@pytest.mark.parametrize(("field", "value", "said"), WRONG)
def test_what_is_wrong_is_named_with_its_place(field: str, value: Any, said: str) -> None:
    with pytest.raises(keyfile.KeyFileError, match=rf"keys\[0\]\.{field}") as raised:
        keyfile.parse(content({**GOOD, field: value}))
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b"[]", 'a list "keys"'),
        (b'{"keys": [], "more": 1}', "'more'"),
        (b'{"keys": [1]}', "keys[0].id: is missing"),
        (b"\xff", "no JSON"),
        (b" " * (keyfile.MAX_BYTES + 1), "at most"),
        (json.dumps({"keys": [{}] * (keyfile.MAX_KEYS + 1)}).encode(), "at most 10000"),
        (content(GOOD, {**GOOD, "sha256": "b" * 64}), "keys[1].id: is that of keys[0]"),
        (content(GOOD, {**GOOD, "id": "other"}), "keys[1].sha256: is that of keys[0]"),
    ],
)
def test_a_file_that_is_none_is_refused(text: bytes, said: str) -> None:
    with pytest.raises(keyfile.KeyFileError) as raised:
        keyfile.parse(text)
    assert said in str(raised.value)


def test_a_new_key_names_its_id_and_no_two_are_alike() -> None:
    first, second = keyfile.new_key("a.b-c"), keyfile.new_key("a.b-c")
    assert first != second
    assert keyfile.id_of(first) == "a.b-c"
    assert len(first.partition("_")[2].partition("_")[2]) == 43  # 256 bits
    assert [keyfile.id_of(text) for text in ("", "vmk", "vmk_shop", "x_shop_1", f"vmk_a_{'1' * 200}")] == [
        ""
    ] * 5


def test_a_change_is_whole_or_none(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "keys.json"
    keyfile.change(path, lambda keys: keys.append(GOOD))
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    before = path.read_bytes()
    with pytest.raises(keyfile.KeyFileError, match="is that of keys"):
        keyfile.change(path, lambda keys: keys.append(GOOD))
    assert path.read_bytes() == before
    keyfile.change(path, lambda keys: keys.append({**GOOD, "id": "other", "sha256": "b" * 64}))
    assert list(keyfile.read(path)) == ["shop", "other"]
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(file.name for file in tmp_path.iterdir()) == ["keys.json", "keys.json.lock"]


def test_a_file_that_is_not_there_is_told_as_that(tmp_path: pathlib.Path) -> None:
    with pytest.raises(keyfile.KeyFileError, match="cannot be read: No such file"):
        keyfile.read(tmp_path / "none")
    with pytest.raises(keyfile.KeyFileError, match="cannot be written: No such file"):
        keyfile.change(tmp_path / "none" / "keys.json", lambda _: None)


def test_the_gateway_knows_every_priority_and_limit() -> None:
    assert tuple(priority.name.lower() for priority in Priority) == keyfile.PRIORITIES
    assert tuple(Limits.__dataclass_fields__) == keyfile.LIMITS
